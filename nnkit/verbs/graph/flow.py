"""Which call made and which took each tensor in a run."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnkit.verbs.summary.report import Shape
from nnkit.verbs.summary.tracing import Call, Trace


@dataclass(frozen=True)
class Take:
    """A tensor that a call took, with the number of the call that made it."""

    number: int
    shape: Shape
    dtype: torch.dtype


@dataclass
class Flow:
    """Which call made and took which tensor.

    makers: the call that made each tensor, by number; the first one is none. takes: what each call took
    itself. reads: the parameters and buffers that it read itself. lines: where in the user's code functions
    are called. inputs: a call for each tensor that forward was given. outputs: what made each that it
    returned. order: all calls as they began, also those that are no step. through_python: the calls that gave
    their values to Python, from where they may have come back unseen.
    registered: the names of parameters and buffers by storage.
    """

    makers: list[Call]
    takes: dict[Call, list[Take]] = field(default_factory=dict)
    reads: dict[Call, list[str]] = field(default_factory=dict)
    lines: dict[Call, tuple[str, int] | None] = field(default_factory=dict)
    inputs: list[tuple[Tensor, Call]] = field(default_factory=list)
    outputs: list[list[Take]] = field(default_factory=list)
    order: list[Call] = field(default_factory=list)
    through_python: list[str] = field(default_factory=list)
    registered: dict[int, str] = field(default_factory=dict)


@dataclass
class FlowTrace(Trace):
    """What a run showed, with which tensors flowed."""

    flow: Flow = field(default_factory=lambda: Flow([]))
