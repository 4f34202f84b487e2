"""TensorSpec + sizes -> tensors: random inputs, drawn from a seed, the same on every device."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.loading import load
from nnkit.contract.spec import AS_BUILT, ModelSpec
from nnkit.errors import UsageProblem, did_you_mean

Inputs = tuple[Tensor, ...]
SAMPLES = ("normal", "uniform", "zeros", "index", "mask", "keep", "lengths", "adjacency")


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
    allowed, so that a count of operations doesn't depend on chance.
    """
    spec = spec.with_sizes(sizes or {})
    generator = torch.Generator().manual_seed(spec.seed if seed is None else seed)
    inputs = [_with_full_length(spec, tensor) if full else tensor for tensor in spec.inputs]
    return tuple(_sample(spec, tensor, generator, device) for tensor in inputs)


def _with_full_length(spec: ModelSpec, tensor: TensorSpec) -> TensorSpec:
    """Return the declaration of lengths so that only the longest one can be drawn; others unchanged."""
    return replace(tensor, least=_limit_of(spec, tensor)) if tensor.sample == "lengths" else tensor


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


def _sample(spec: ModelSpec, tensor: TensorSpec, generator: torch.Generator, device: str) -> Tensor:
    shape, dtype = spec.shape(tensor), dtype_of(spec, tensor)
    if device == "meta":
        return torch.empty(shape, dtype=dtype, device="meta")
    if callable(tensor.sample) or ":" in tensor.sample:
        draw = tensor.sample if callable(tensor.sample) else load(tensor.sample)
        values = {**spec.dims.known, **spec.sizes}
        drawn: Tensor = draw(shape, values, dtype, generator)
        return drawn.to(device)
    return _draw(spec, tensor, shape, dtype, generator).to(device=device, dtype=dtype)


def _draw(
    spec: ModelSpec,
    tensor: TensorSpec,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    generator: torch.Generator,
) -> Tensor:
    match tensor.sample:
        case "normal":
            drawn_dtype = torch.complex64 if dtype.is_complex else torch.float32
            return torch.randn(shape, dtype=drawn_dtype, generator=generator)
        case "uniform":
            return torch.rand(shape, generator=generator)
        case "zeros":
            return torch.zeros(shape)
        case "index":
            return torch.randint(0, max(_limit_of(spec, tensor), 1), shape, generator=generator)
        case "mask":
            return _draw_mask(shape, generator)
        case "keep":
            return ~_draw_mask(shape, generator)
        case "lengths":
            return _draw_lengths(tensor.least, _limit_of(spec, tensor), shape, generator)
        case "adjacency":
            upper = torch.triu(torch.rand(shape, generator=generator) < 0.5, diagonal=1)
            return (upper | upper.transpose(-1, -2)).float()
    raise UsageProblem(
        f"input {tensor.name!r} has the unknown way of sampling {tensor.sample!r}",
        did_you_mean(str(tensor.sample), SAMPLES) or f"use {', '.join(SAMPLES)}, or module:function",
    )


def _draw_mask(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return a mask with both values in every row; a single element is False."""
    drawn = torch.rand(shape, generator=generator) < 0.5
    if not shape or shape[-1] < 2:
        return drawn & False
    # One element of each row is True and the next one False, whatever was drawn there.
    length = shape[-1]
    index = torch.randint(0, length, (*shape[:-1], 1), generator=generator)
    return drawn.scatter(-1, index, True).scatter(-1, (index + 1) % length, False)


def _draw_lengths(least: int, longest: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if least > longest:
        raise UsageProblem(f"no integer is from {least} to {longest}", "give other bounds or sizes")
    lengths = torch.randint(least, longest + 1, shape, generator=generator)
    lengths[..., :1] = longest  # a padded batch is as long as its longest sequence
    return lengths


def _limit_of(spec: ModelSpec, tensor: TensorSpec) -> int:
    """Return the size of the dim that the integers of `tensor` index or count."""
    if tensor.index_of is None:
        raise UsageProblem(f"input {tensor.name!r} doesn't say what it indexes", "set index_of to a dim")
    return spec.shape(TensorSpec(tensor.name, (tensor.index_of,)))[0]
