"""TensorSpec + sizes -> tensors: random inputs, drawn from a seed, the same on every device."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.config import config_values
from nnkit.contract.loading import load
from nnkit.contract.spec import AS_BUILT, ModelSpec
from nnkit.errors import UsageProblem, did_you_mean

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

    sizes: other sizes for some dims. seed: another than the spec's. Values are drawn on the CPU, so
    that a seed gives the same ones everywhere; on `meta` there are none. full: lengths are the longest
    that they may be, so that a count of operations doesn't depend on chance.
    """
    spec = spec.with_sizes(sizes or {})
    generator = torch.Generator().manual_seed(spec.seed if seed is None else seed)
    inputs = (
        replace(each, least=_limit(spec, each)) if full and each.sample == "lengths" else each
        for each in spec.inputs
    )
    return tuple(_sample(spec, tensor, generator, device) for tensor in inputs)


def dtype_of(spec: ModelSpec, tensor: TensorSpec) -> torch.dtype:
    """Return the torch dtype of a declared tensor.

    `float` is the dtype that was asked for of the model, float32 where it is as built.
    """
    floating = "float32" if spec.dtype == AS_BUILT else spec.dtype
    name = floating if tensor.dtype == "float" else tensor.dtype
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageProblem(
            f"input {tensor.name!r} has the unknown dtype {name!r}", "for example: float32, int64"
        )
    return dtype


def _sample(spec: ModelSpec, tensor: TensorSpec, generator: torch.Generator, device: str) -> Tensor:
    shape, dtype = spec.shape(tensor), dtype_of(spec, tensor)
    if device == "meta":
        return torch.empty(shape, dtype=dtype, device="meta")
    if ":" in tensor.sample:
        values = {**config_values(spec.config), **spec.sizes}
        drawn: Tensor = load(tensor.sample)(shape, values, dtype, generator)
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
            kind = torch.complex64 if dtype.is_complex else torch.float32
            return torch.randn(shape, dtype=kind, generator=generator)
        case "uniform":
            return torch.rand(shape, generator=generator)
        case "zeros":
            return torch.zeros(shape)
        case "index":
            return torch.randint(0, max(_limit(spec, tensor), 1), shape, generator=generator)
        case "mask":
            return _mask(shape, generator)
        case "keep":
            return ~_mask(shape, generator)
        case "lengths":
            return _lengths(tensor.least, _limit(spec, tensor), shape, generator)
        case "adjacency":
            upper = torch.triu(torch.rand(shape, generator=generator) < 0.5, diagonal=1)
            return (upper | upper.transpose(-1, -2)).float()
    kinds = ("normal", "uniform", "zeros", "index", "mask", "keep", "lengths", "adjacency")
    raise UsageProblem(
        f"input {tensor.name!r} is to be sampled as {tensor.sample!r}, which is not known",
        did_you_mean(tensor.sample, kinds) or f"one of {', '.join(kinds)}, or module:function",
    )


def _mask(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return a mask with both values in every row; a row of one element is False."""
    drawn = torch.rand(shape, generator=generator) < 0.5
    if not shape or shape[-1] < 2:
        return drawn & False
    # One place of each row is True and its neighbour False, whatever was drawn there.
    place = torch.randint(0, shape[-1], (*shape[:-1], 1), generator=generator)
    return drawn.scatter(-1, place, True).scatter(-1, (place + 1) % shape[-1], False)


def _lengths(least: int, longest: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if least > longest:
        raise UsageProblem(f"integers from {least} to {longest} can't be drawn", "give other bounds or sizes")
    lengths = torch.randint(least, longest + 1, shape, generator=generator)
    lengths[..., :1] = longest  # a padded batch is as long as its longest sequence
    return lengths


def _limit(spec: ModelSpec, tensor: TensorSpec) -> int:
    """Return the size of what the integers of `tensor` index or count."""
    if tensor.index_of is None:
        raise UsageProblem(f"input {tensor.name!r} doesn't say what it indexes", "set index_of to a dim")
    return spec.shape(TensorSpec(tensor.name, (tensor.index_of,)))[0]
