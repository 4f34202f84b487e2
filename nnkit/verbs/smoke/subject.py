"""What a check works on: one model on one device, its inputs, and how to judge its outputs."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import Dim, TensorSpec
from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec
from nnkit.models.building import build_module
from nnkit.models.outputs import declarations_of
from nnkit.models.running import call, evaluate
from nnkit.models.sampling import Inputs, sample_inputs
from nnkit.models.tensors import spread_of, tensors_in
from nnkit.verbs.exporting.sizes import other_sizes

BATCH = 4
SMALL = 64  # what a default size is cut to: a check needs no more
NOISE = 0.02

Outputs = list[tuple[TensorSpec, Tensor]]
"""The tensors that forward returned, each beside its declaration."""

# How far two computations of the same value may lie apart, as a share of its spread.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Failed(Exception):
    """The check found a fault; the message names it and where it is."""


class Warned(Exception):
    """The check found what may be a fault."""


class Skipped(Exception):
    """The check doesn't apply; the message says why."""


@dataclass(frozen=True)
class Subject:
    """A model to check on a `device`, `compiled` or as it is: `spec`, built with the plugins of `host`.

    `given` are example inputs in the place of random ones.

    Example:

        subject = Subject(resolve("simple-cnn"), manager, torch.device("cpu"))
        ((declared, tensor),) = subject.outputs(subject.fresh(), subject.inputs())
        assert tuple(tensor.shape) == subject.spec.shape(declared, subject.sizes)
    """

    spec: ModelSpec
    host: Host
    device: torch.device
    given: Inputs | None = None
    compiled: bool = False

    def another(self) -> "Subject":
        """Return the same model with other weights and inputs, to see whether a fault was chance."""
        spec = replace(self.spec, seed=self.spec.seed + 1000)
        return replace(self, spec=spec)

    def stirred(self) -> nn.Module:
        """Return a copy with a little noise on every parameter, so that nothing hides behind a zero."""
        module = self.fresh()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(noise, alpha=NOISE)
        return module

    def fresh(self) -> nn.Module:
        """Return a copy of the model as first built, on the device, in eval mode, for one check."""
        module = copy.deepcopy(self._first)
        if self.compiled:
            torch._dynamo.reset()  # else the copies of one class run into the limit of recompilations
            module.compile()
        return module

    @cached_property
    def _first(self) -> nn.Module:
        return build_module(self.spec, self.host, self.device)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The sizes of the checks: the spec's, small where they are defaults, with rows to tell apart."""
        dims = self.spec.architecture.dims_for(self.spec.config)
        sizes = {name: _small(dims[name], size) for name, size in self.spec.sizes.items()}
        if "batch" in sizes and not dims["batch"].problem_with(max(BATCH, sizes["batch"])):
            sizes["batch"] = max(BATCH, sizes["batch"])
        return sizes

    @cached_property
    def other_sizes(self) -> dict[str, int] | None:
        """Other sizes that the dims allow, primes where they may be; None where there are none."""
        dims = self.spec.architecture.dims_for(self.spec.config)
        others = other_sizes(dims, self.sizes) if self.given is None else []
        return others[-1] if others else None

    def inputs(self, seed: int = 0, sizes: Mapping[str, int] | None = None) -> Inputs:
        """Return inputs on the device; another `seed` gives others, unless they were given."""
        if self.given is not None:
            return tuple(each.to(self.device) for each in self.given)
        return sample_inputs(
            self.spec, sizes=sizes or self.sizes, seed=self.spec.seed + seed,
            device=str(self.device),
        )  # fmt: skip

    def outputs(self, module: nn.Module, inputs: Sequence[Tensor]) -> Outputs:
        """Run `module` and return its tensors beside their declarations.

        Where the architecture declares none, or where more follow in training (auxiliary heads), they
        get a name and the shape that they have, with a dim where its size suggests it, the batch in front.
        """
        return self._declared(module, self.call(module, inputs))

    def evaluate(self, module: nn.Module, inputs: Sequence[Tensor]) -> Outputs:
        """Do the same without gradients, on copies of the inputs; what it returns has no gradient either."""
        outputs = self._declared(module, evaluate(module, self.spec.input_names, inputs))
        return [(declared, tensor.detach()) for declared, tensor in outputs]

    def call(self, module: nn.Module, inputs: Sequence[Tensor]) -> Any:
        """Run `module` on inputs in declared order, and return what it returns."""
        return call(module, self.spec.input_names, inputs)

    def _declared(self, module: nn.Module, value: Any) -> Outputs:
        """Return the tensors of what `module` returned beside their declarations."""
        declared, tensors = self.spec.outputs, list(tensors_in(value))
        more = not declared or module.training
        if len(tensors) < len(declared) or (len(tensors) > len(declared) and not more):
            names = ", ".join(tensor.name for tensor in declared)
            raise Failed(f"forward returns {len(tensors)} tensors, declared are {len(declared)}: {names}")
        places = declarations_of(value, declared, self.spec.input_names)
        return [
            (self._undeclared(place, tensor) if isinstance(place, str) else place, tensor)
            for place, tensor in zip(places, tensors, strict=True)
        ]

    def _undeclared(self, name: str, tensor: Tensor) -> TensorSpec:
        dims = {size: name for name, size in self.sizes.items()}
        alone = {size for size in dims if list(self.sizes.values()).count(size) == 1}
        axes = tuple(
            dims[size] if size in alone and (dims[size] != "batch" or not axis) else size
            for axis, size in enumerate(tensor.shape)
        )
        return TensorSpec(name, axes)


def _small(dim: Dim, size: int) -> int:
    """Return a size cut to what the checks need, unless the user chose it."""
    if size != dim.default or size <= SMALL:
        return size
    return max(dim.least, SMALL - SMALL % dim.multiple_of)


def batch_axis(tensor: TensorSpec) -> int | None:
    """Return the axis that the batch runs along."""
    return tensor.shape.index("batch") if "batch" in tensor.shape else None


def row(tensor: Tensor, axis: int | None, index: int) -> Tensor:
    """Return one element of the batch, as a batch of one; a tensor without a batch as it is."""
    return tensor if axis is None else tensor.narrow(axis, index, 1)


def difference(left: Tensor, right: Tensor) -> float:
    """Return the largest difference, as a share of the spread of `left`; infinite for other shapes."""
    if left.shape != right.shape:
        return float("inf")
    if left.numel() == 0 or torch.equal(left, right):
        return 0.0
    if not left.is_floating_point():
        return float("inf")
    apart = (left.detach().double() - right.detach().double()).abs().max()
    return float(apart) / (spread_of(left) or 1.0)


def tolerance_of(tensor: Tensor) -> float:
    """Return how far two computations of a tensor may lie apart, as a share of its spread."""
    return TOLERANCE.get(tensor.dtype, 0.0)


def largest_difference(first: Outputs, second: Outputs) -> tuple[float, str, bool]:
    """Return the largest difference of two runs, the output that has it, and whether rounding explains it."""
    found = [
        (difference(one, other), declared.name, tolerance_of(one))
        for (declared, one), (_, other) in zip(first, second, strict=True)
    ]
    apart, name, allowed = max(found, key=lambda each: each[0] - each[2])
    return apart, name, apart <= allowed


def projection(outputs: Outputs, needs_gradient: bool = True) -> Tensor:
    """Return a loss that every element of every differentiable output has a share in."""
    loss = None
    for place, (_, tensor) in enumerate(outputs):
        if tensor.is_floating_point() and (tensor.requires_grad or not needs_gradient):
            generator = torch.Generator().manual_seed(place)
            weights = torch.randn(tensor.shape, generator=generator).to(tensor)
            share = (tensor * weights).mean()
            loss = share if loss is None else loss + share
    if loss is None:
        raise Failed("no output depends on a parameter: there is nothing to train")
    return loss
