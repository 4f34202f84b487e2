"""The device that the user names -> one that is there, or a clear error. Never another one.

Torch-free until one is looked for.
"""

from typing import TYPE_CHECKING

from nnkit.errors import UsageProblem, did_you_mean

if TYPE_CHECKING:
    import torch

ACCELERATORS = ("cuda", "xpu", "mps")


def available_devices() -> list[str]:
    """Return the devices of this machine, best first: `["cuda:0", "cuda:1", "cpu"]`."""
    import torch

    found = []
    for kind in ACCELERATORS:
        backend = getattr(torch, kind, None)
        if backend is not None and backend.is_available():
            found += [f"{kind}:{index}" for index in range(backend.device_count())]
    return [*found, "cpu"]


def find_device(text: str, can_simulate: bool = False) -> "torch.device":
    """Return the device for `cpu`, `cuda`, `cuda:1`, `mps`, `xpu` or `auto` (the best there is).

    Raises UsageProblem, which names the devices that are there; and `--simulate`, where the caller
    can simulate one that isn't.
    """
    import torch

    there = available_devices()
    if text == "auto":
        return torch.device(there[0])
    kind, _, index = text.partition(":")
    if text == "cpu" or f"{kind}:{index or 0}" in there:
        return torch.device(text)
    known = kind in ("cpu", *ACCELERATORS) and (not index or index.isdecimal())
    problem = (
        "is not on this machine" if known else "is no device; one is cpu, cuda, cuda:1, mps, xpu or auto"
    )
    near = "" if known else did_you_mean(text, ("auto", "cpu", *ACCELERATORS, *there))
    way = f"; or try the placement alone: --simulate {kind}"
    offered = way if can_simulate and known and kind in ACCELERATORS else ""
    hint = f"this machine has: {', '.join(there)}{offered}"
    raise UsageProblem(f"device {text!r} {problem}", f"{near} {hint}".lstrip())
