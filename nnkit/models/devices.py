"""The device that the user names -> that device, or a clear error; never a different device.

Torch-free until a device is looked up.
"""

from typing import TYPE_CHECKING

from nnkit.errors import UsageProblem, did_you_mean

if TYPE_CHECKING:
    import torch

ACCELERATORS = ("cuda", "xpu", "mps")


def available_devices() -> list[str]:
    """Return the devices of this machine, best first: `["cuda:0", "cuda:1", "cpu"]`."""
    import torch

    devices = []
    for accelerator in ACCELERATORS:
        backend = getattr(torch, accelerator, None)
        if backend is not None and backend.is_available():
            devices += [f"{accelerator}:{index}" for index in range(backend.device_count())]
    return [*devices, "cpu"]


def find_device(text: str, can_simulate: bool = False) -> "torch.device":
    """Return the device for `cpu`, `cuda`, `cuda:1`, `mps`, `xpu` or `auto` (the best available).

    Raises UsageProblem, which lists the available devices; and suggests `--simulate`, if the caller can
    simulate an unavailable one.
    """
    import torch

    available = available_devices()
    if text == "auto":
        return torch.device(available[0])
    kind, _, index = text.partition(":")
    if text == "cpu" or f"{kind}:{index or 0}" in available:
        return torch.device(text)
    hint = f"this machine has: {', '.join(available)}"
    if kind not in ("cpu", *ACCELERATORS) or (index and not index.isdecimal()):
        near = did_you_mean(text, ("auto", "cpu", *ACCELERATORS, *available))
        raise UsageProblem(
            f"{text!r} is not a device: use cpu, cuda, cuda:1, mps, xpu or auto", f"{near} {hint}".lstrip()
        )
    if can_simulate and kind in ACCELERATORS:
        hint += f"; to check only the placement: --simulate {kind}"
    raise UsageProblem(f"device {text!r} is not available on this machine", hint)
