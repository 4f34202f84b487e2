"""Diagnosis -> text."""

from nnkit import __version__
from nnkit.contract.text import format_bytes
from nnkit.verbs.diagnosis import Device, Diagnosis


def as_text(diagnosis: Diagnosis) -> str:
    """Return one block to paste into an issue, a fact in each line."""
    facts = {
        "nnkit": __version__,
        "python": diagnosis.python,
        "platform": diagnosis.platform,
        "processors": str(diagnosis.processors),
        "threads": "{} in an operator, {} between them".format(*diagnosis.threads or ("?", "?")),
        **diagnosis.variables,
        **{name: _package(diagnosis, name) for name in diagnosis.packages},
        **{device.device: _device(device) for device in diagnosis.devices},
        "plugins": ", ".join(diagnosis.plugins) or "none",
        "zoos": ", ".join(diagnosis.zoos) or "none",
        "failures": ", ".join(diagnosis.failures) or "none",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {fact}" for name, fact in facts.items())


def _package(diagnosis: Diagnosis, name: str) -> str:
    fault = diagnosis.broken.get(name)
    version = diagnosis.packages[name] or "not installed"
    return f"{version}, BROKEN: {fault}" if fault else version


def _device(device: Device) -> str:
    if device.memory is None:
        return device.name
    free = "" if device.free is None else f", {format_bytes(device.free)} free"
    return f"{device.name}, {format_bytes(device.memory)}{free}"
