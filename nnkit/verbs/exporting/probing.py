"""Find the integers that a module takes by running it, where nothing declares them: other indices fail."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.signature import Signature
from nnkit.contract.sizes import Dims
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError
from nnkit.models.copies import copy_of, whole_copy_of
from nnkit.models.sampling import Inputs, dtype_of, sample_inputs
from nnkit.models.sizes import PRIMES, Sizes, complete, traced_sizes
from nnkit.verbs.exporting.calls import run_module

HIGHEST = 2**16  # the largest value that is tried
UNLIMITED = 8  # integers are drawn below this where forward takes any


def find_limits(spec: ModelSpec, module: nn.Module, dims: Dims) -> tuple[ModelSpec, tuple[str, ...]]:
    """Return `spec` with limits for the integers that declare none, and a sentence about each.

    Only inputs of a user's own module are examined; a plugin's declarations are complete. dims: the free
    dims.
    """
    if spec.plugin:
        return spec, ()
    assumed = []
    for index, tensor in enumerate(spec.inputs):
        if tensor.sample == "mask" and _Probe(spec, module, index).keeps(dims):
            spec = _with_input(spec, replace(tensor, sample="keep"))
        if tensor.sample == "zeros" and is_integer(dtype_of(spec, tensor)):
            found = _Probe(spec, module, index).find(dims)
            assumed.append(_describe_limit(tensor, found))
            spec = _with_input(spec, replace(tensor, sample=found.sample, index_of=found.index_of))
    return spec, tuple(assumed)


def _with_input(spec: ModelSpec, tensor: TensorSpec) -> ModelSpec:
    """Return `spec` with a different declaration of the input of that name."""
    inputs = [tensor if other.name == tensor.name else other for other in spec.declared_inputs]
    return replace(spec, architecture=replace(spec.architecture, inputs=inputs))


def is_integer(dtype: torch.dtype) -> bool:
    """Whether a dtype is an integer type; bool is not."""
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


@dataclass(frozen=True)
class _Found:
    """How an input is drawn; `limited` where forward fails for larger integers."""

    sample: str
    index_of: int | str
    limited: bool = True


def _describe_limit(tensor: TensorSpec, found: _Found) -> str:
    if found.sample == "lengths":
        return f"{tensor.name} takes integers from 1 to {found.index_of}, found by running forward"
    axes = ", ".join(map(str, tensor.shape))
    as_declared = f'--input "{tensor.name}: {tensor.dtype}[{axes}] < {found.index_of}"'
    if not found.limited:
        return f"{tensor.name} takes every integer that was tried; values are drawn as for {as_declared}"
    return f"{tensor.name} takes integers below {found.index_of}, found by running forward: {as_declared}"


def vary(module: nn.Module, signature: Signature, first: Inputs, second: Inputs) -> Inputs:
    """Return the second inputs, with other values where they are the same as in the first.

    A module may take no others; then they stay.
    """
    varied = list(second)
    for index, (tensor, other) in enumerate(zip(first, second, strict=True)):
        if tensor.numel() and torch.equal(tensor, other):
            varied[index] = _change(module, signature, second, index)
    return tuple(varied)


def _change(module: nn.Module, signature: Signature, inputs: Inputs, index: int) -> Tensor:
    """Return nearby values for one input that forward takes; the same values where it takes no others."""
    tensor = inputs[index]
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    candidates = [tensor.flatten()[order].reshape(tensor.shape)]
    last = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    last[..., -1:] = True
    if bool(((tensor == 0) | (tensor == 1)).all()):
        candidates.append(torch.where(last, 1 - tensor.to(torch.int8), tensor).to(tensor.dtype))
    elif is_integer(tensor.dtype):
        candidates += [tensor + last, tensor - last.to(tensor.dtype)]
    else:
        candidates.append(tensor * 0.9 + 0.1)
    for candidate in candidates:
        if torch.equal(candidate, tensor):
            continue
        try:
            run_module(module, signature, (*inputs[:index], candidate, *inputs[index + 1 :]))
        except NnkitError:
            continue
        return candidate
    return tensor


class _Probe:
    """Fills one input with a value and looks at what forward does with it. index: of the input."""

    def __init__(self, spec: ModelSpec, module: nn.Module, index: int) -> None:
        self._spec, self._index = spec, index
        on_cpu = all(parameter.device.type == "cpu" for parameter in module.parameters())
        # An index that is out of range breaks the whole context of an accelerator.
        self._module = copy_of(module) if on_cpu else whole_copy_of(module).cpu()

    def find(self, dims: Dims) -> _Found:
        """Return how to draw the integers: below a number or a dim, or as lengths.

        The limit is searched for at two assignments. All their sizes differ, so a limit that depends on a
        size shows on which: with a limit of 5 at (batch 2, nodes 5) and of 12 at (batch 4, nodes 12), the
        integers index nodes.
        """
        first = traced_sizes(dims, {name: self._spec.sizes[name] for name in dims})
        second = complete(dims, {name: size + PRIMES[i] for i, (name, size) in enumerate(first.items())})
        limits = self._limit(first), self._limit(second)
        for name in dims:
            if limits == (first[name], second[name]):
                return _Found("index", name)
            if limits == (first[name] + 1, second[name] + 1):
                return _Found("lengths", name)
        known = [limit for limit in limits if limit is not None]
        return _Found("index", min(known)) if known else _Found("index", UNLIMITED, limited=False)

    def keeps(self, dims: Dims) -> bool:
        """Whether True in a mask keeps and False hides: if all is hidden, outputs are 0 or not finite."""
        inputs = sample_inputs(
            self._spec, sizes=traced_sizes(dims, {name: self._spec.sizes[name] for name in dims})
        )
        return self._is_empty(inputs, 0) and not self._is_empty(inputs, 1)

    def _is_empty(self, inputs: Inputs, value: int) -> bool:
        outputs = self._outputs(inputs, value) or []
        return any(
            not output.isfinite().all() or not output.any()
            for output in outputs
            if output.is_floating_point()
        )

    def _limit(self, sizes: Sizes) -> int | None:
        """Return the smallest integer that forward fails on, found by bisection; None where none is found."""
        inputs = sample_inputs(self._spec, sizes=sizes)
        if not inputs[self._index].numel():
            return None
        low, high = (0, 1) if self._takes(inputs, 0) else (1, 2)
        highest = min(HIGHEST, torch.iinfo(inputs[self._index].dtype).max)
        while high <= highest and self._takes(inputs, high):
            low, high = high, high * 2
        if high > highest:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._takes(inputs, middle) else (low, middle)
        return high

    def _takes(self, inputs: Inputs, value: int) -> bool:
        return self._outputs(inputs, value) is not None

    def _outputs(self, inputs: Inputs, value: int) -> list[Tensor] | None:
        filled: Tensor = torch.full_like(inputs[self._index], value)
        try:
            others = (*inputs[: self._index], filled, *inputs[self._index + 1 :])
            return run_module(self._module, self._spec.signature, others)
        except NnkitError:
            return None
