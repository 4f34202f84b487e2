"""TensorSpec + sizes -> tensors: random inputs, drawn from a seed, the same on every device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nnkit.contract.architecture import OF_NUMBERS, SAMPLES, TensorSpec
from nnkit.contract.loading import load
from nnkit.contract.spec import AS_BUILT, ModelSpec
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models.ends import Ends

Inputs = tuple[Tensor, ...]


def sample_inputs(
    spec: ModelSpec,
    *,
    sizes: Mapping[str, int] | None = None,
    seed: int | None = None,
    device: str = "cpu",
    full: bool = False,
) -> Inputs:
    """Return random inputs for `spec`, in declared order.

    sizes: other sizes for some dims. seed: used instead of the spec's. Values are drawn on the CPU, so that
    a seed gives the same ones on every device; on `meta` there are none. full: draw the longest lengths
    allowed and no padding, so that a count of operations doesn't depend on chance.
    """
    spec = spec.with_sizes(sizes or {})
    generator = torch.Generator().manual_seed(spec.seed if seed is None else seed)
    draw = _Draw(spec, generator, Ends(spec, generator, full))
    return tuple(_sample(draw, tensor, device) for tensor in spec.inputs)


def dtype_of(spec: ModelSpec, tensor: TensorSpec) -> torch.dtype:
    """Return the torch dtype of a declared tensor.

    `float` means the dtype requested for the model, or float32 where it is as built.
    """
    floating = "float32" if spec.dtype == AS_BUILT else spec.dtype
    name = floating if tensor.dtype == "float" else tensor.dtype
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageProblem(
            f"input {tensor.name!r} has the unknown dtype {name!r}", "examples: float32, int64"
        )
    return dtype


@dataclass(frozen=True)
class _Draw:
    """One draw of all inputs; it goes through them in declared order."""

    spec: ModelSpec
    generator: torch.Generator
    ends: Ends


def _sample(draw: _Draw, tensor: TensorSpec, device: str) -> Tensor:
    spec = draw.spec
    shape, dtype = spec.shape(tensor), dtype_of(spec, tensor)
    if device == "meta":
        return torch.empty(shape, dtype=dtype, device="meta")
    if callable(tensor.sample) or ":" in tensor.sample:
        function = tensor.sample if callable(tensor.sample) else load(tensor.sample)
        drawn: Tensor = function(shape, {**spec.dims.known, **spec.sizes}, dtype, draw.generator)
    elif tensor.sample in OF_NUMBERS:
        drawn = _draw_numbers(tensor.sample, shape, dtype, draw.generator).to(dtype)
    else:
        drawn = _draw_others(draw, tensor, shape, dtype).to(dtype)
    if tensor.padding is not None and shape:
        drawn = drawn.masked_fill(~draw.ends.within(tensor), tensor.padding)
    return drawn.to(device)


def _draw_numbers(
    sample: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    normal_dtype = torch.complex64 if dtype.is_complex else torch.float32
    match sample:
        case "uniform":
            return torch.rand(shape, generator=generator)
        case "positive":  # half of them below 1, and hardly one below 0.01: none that explodes as a divisor
            return torch.randn(shape, generator=generator).exp()
        case "unit":
            return F.normalize(torch.randn(shape, dtype=normal_dtype, generator=generator), dim=-1)
        case "angles":
            return (2 * torch.rand(shape, generator=generator) - 1) * math.pi
        case "zeros":
            return torch.zeros(shape)
    return torch.randn(shape, dtype=normal_dtype, generator=generator)


def _draw_others(draw: _Draw, tensor: TensorSpec, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    match tensor.sample:
        case "index":
            return _draw_integers(draw, tensor, shape)
        case "sorted" if dtype.is_floating_point and tensor.index_of is None:
            return torch.rand(shape, generator=draw.generator).sort(-1).values
        case "sorted":
            return _draw_integers(draw, tensor, shape).sort(-1).values
        case "mask":
            return _draw_mask(shape, draw.generator)
        case "keep":
            return ~_draw_mask(shape, draw.generator)
        case "lengths":
            return draw.ends.lengths(tensor)
        case "prefix":
            return draw.ends.within(tensor)
        case "suffix":
            return ~draw.ends.within(tensor)
        case "adjacency":
            upper = torch.triu(torch.rand(shape, generator=draw.generator) < 0.5, diagonal=1)
            return (upper | upper.transpose(-1, -2)).float()
    raise UsageProblem(
        f"input {tensor.name!r} has the unknown way of sampling {tensor.sample!r}",
        did_you_mean(str(tensor.sample), SAMPLES) or f"use {', '.join(SAMPLES)}, or module:function",
    )


def _draw_integers(draw: _Draw, tensor: TensorSpec, shape: tuple[int, ...]) -> Tensor:
    """Return integers from 0 to below a limit, but never the padding."""
    limit, padding = max(_limit_of(draw.spec, tensor), 1), tensor.padding
    if padding is None or not 0 <= padding < limit or limit == 1:
        return torch.randint(0, limit, shape, generator=draw.generator)
    drawn = torch.randint(0, limit - 1, shape, generator=draw.generator)
    return drawn + (drawn >= padding)


def _draw_mask(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return a mask with both values in every row; a single element is False."""
    drawn = torch.rand(shape, generator=generator) < 0.5
    if not shape or shape[-1] < 2:
        return drawn & False
    # One element of each row is True and the next one False, whatever was drawn there.
    length = shape[-1]
    index = torch.randint(0, length, (*shape[:-1], 1), generator=generator)
    return drawn.scatter(-1, index, True).scatter(-1, (index + 1) % length, False)


def _limit_of(spec: ModelSpec, tensor: TensorSpec) -> int:
    """Return the size of the dim that the integers of `tensor` index or count."""
    if tensor.index_of is None:
        raise UsageProblem(f"input {tensor.name!r} doesn't say what it indexes", "set index_of to a dim")
    return spec.shape(TensorSpec(tensor.name, (tensor.index_of,)))[0]
