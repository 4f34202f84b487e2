"""Seeds as most people have their models: a module that is built, with one example of its inputs."""

import time
from dataclasses import dataclass
from typing import Any

import reported
import seeded
import torch
from torch import nn

import nnkit
from nnkit.models.references import Reference
from nnkit.models.sampling import sample_inputs
from nnkit.models.user_modules import architecture_of_code

BATCH = 4
SEEDS = (*seeded.ALL, *reported.ALL)


@dataclass(frozen=True)
class Outcome:
    """What the default checks say of a bare module."""

    failed: dict[str, str]
    warned: dict[str, str]
    seconds: float

    def catches(self, kind: type) -> bool:
        """Whether the fault is reported: as a failure, unless it may be meant."""
        return bool(self.failed or (self.warned and getattr(kind, "WARNS", False)))


def example_of(kind: type) -> tuple[nn.Module, list[Any]]:
    """Build a seed, and one example of its inputs."""
    torch.manual_seed(0)
    if example := getattr(kind, "example", None):
        return kind().eval(), example()
    spec = Reference(architecture_of_code(f"{kind.__module__}:{kind.__name__}", kind.INPUTS), "").resolve()
    sizes = {**spec.sizes, "batch": BATCH}
    return kind().eval(), list(sample_inputs(spec, sizes=sizes, seed=0, device="cpu"))


def check(module: nn.Module, inputs: list[Any], **options: Any) -> Outcome:
    """Check a module that declares nothing, unless `options` do."""
    start = time.process_time()
    report = nnkit.smoke_run(module, inputs, **options)
    failed, warned = (
        {check.name: check.message for check in report.checks if check.status == status}
        for status in ("failed", "warned")
    )
    return Outcome(failed, warned, time.process_time() - start)


def needs(kind: type) -> str:
    """Return what nobody can know of a seed without being told; empty where the module tells it."""
    return getattr(kind, "NEEDS", "causal" if hasattr(kind, "CAUSAL") else "")
