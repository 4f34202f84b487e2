"""What a check works on: one model on one device, its inputs, and how to judge its outputs."""

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from nnkit.architecture import TensorSpec
from nnkit.building import build_module
from nnkit.hookspecs import Host
from nnkit.sampling import Inputs, sample_inputs
from nnkit.spec import ModelSpec
from nnkit.tensors import spread_of, tensors_in

BATCH = 4

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
    """A model to check. `given` are example inputs in the place of random ones."""

    spec: ModelSpec
    host: Host
    device: torch.device
    given: Inputs | None = None

    def fresh(self) -> nn.Module:
        """Return a copy of the model as first built, on the device, in eval mode, for one check."""
        return copy.deepcopy(self._first)

    @cached_property
    def _first(self) -> nn.Module:
        return build_module(self.spec, self.host, self.device)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The sizes of the checks: the spec's, with a batch large enough to tell rows apart."""
        dims = self.spec.architecture.dims_for(self.spec.config)
        sizes = dict(self.spec.sizes)
        if "batch" in sizes and not dims["batch"].problem_with(max(BATCH, sizes["batch"])):
            sizes["batch"] = max(BATCH, sizes["batch"])
        return sizes

    def inputs(self, seed: int = 0) -> Inputs:
        """Return inputs on the device; another `seed` gives others, unless they were given."""
        if self.given is not None:
            return tuple(each.to(self.device) for each in self.given)
        return sample_inputs(self.spec, sizes=self.sizes, seed=self.spec.seed + seed, device=str(self.device))

    def outputs(self, module: nn.Module, inputs: Inputs) -> Outputs:
        """Run `module` and return its tensors beside their declarations.

        Where the architecture declares none, or where more follow in training (auxiliary heads), they
        get a name and the shape that they have, with the batch where their first axis suggests it.
        """
        tensors = list(tensors_in(module(*inputs)))
        declared = self.spec.outputs
        if not declared or module.training:
            more = enumerate(tensors[len(declared) :], len(declared))
            declared = (*declared, *(self._undeclared(place, tensor) for place, tensor in more))
        if len(tensors) != len(declared):
            names = ", ".join(tensor.name for tensor in declared)
            raise Failed(f"forward returns {len(tensors)} tensors, declared are {len(declared)}: {names}")
        return list(zip(declared, tensors, strict=True))

    def _undeclared(self, place: int, tensor: Tensor) -> TensorSpec:
        leads = "batch" in self.sizes and tensor.shape[:1] == (self.sizes["batch"],)
        axes: tuple[int | str, ...] = tuple(tensor.shape)
        return TensorSpec(f"output_{place}", ("batch", *axes[1:]) if leads else axes)


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


def projection(outputs: Outputs) -> Tensor:
    """Return a loss that every element of every differentiable output has a share in."""
    loss = None
    for place, (_, tensor) in enumerate(outputs):
        if tensor.requires_grad and tensor.is_floating_point():
            generator = torch.Generator().manual_seed(place)
            weights = torch.randn(tensor.shape, generator=generator).to(tensor)
            share = (tensor * weights).mean()
            loss = share if loss is None else loss + share
    if loss is None:
        raise Failed("no output depends on a parameter: there is nothing to train")
    return loss
