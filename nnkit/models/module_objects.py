"""A module object with example inputs -> an Architecture, so that every verb works on it unchanged."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import Architecture, TensorSpec
from nnkit.contract.signature import Signature
from nnkit.models.assumed import Coupling, FreeAxis, find_free_axes
from nnkit.models.copies import whole_copy_of
from nnkit.models.dim_names import name_dims
from nnkit.models.examples import Example
from nnkit.models.process import neutral_torch
from nnkit.models.running import BY_POSITION, signature_of
from nnkit.models.structure import flatten
from nnkit.models.user_modules import NoOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    Inputs: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any]


def architecture_of_module(module: nn.Module, inputs: "Inputs") -> Architecture:
    """Return the architecture for a module that is already built.

    inputs: examples: a tensor, a sequence of positional arguments, or a mapping of keyword arguments. What
    they don't say is found by running a copy of the module.
    """
    flat = flatten(name_arguments(module, inputs))
    plain = {name: tensor for name, tensor in flat.tensors.items() if _is_plain(tensor)}
    constants = {
        **flat.constants,
        **{name: flat.tensors[name] for name in flat.tensors.keys() - plain.keys()},
    }
    signature = Signature(tuple(plain), constants, flat.containers)
    examples = {name: Example(_to_cpu(tensor.detach())) for name, tensor in plain.items()}
    with neutral_torch("", module):
        found = find_free_axes(module, signature, examples, _batch_axis(module))
    dims = dict(name_dims(found, examples))
    samples = {
        name: _follow(example, found.coupled.get(name), dims) for name, example in found.examples.items()
    }
    specs = tuple(
        TensorSpec(
            name,
            _shape(name, example.tensor, dims),
            str(example.tensor.dtype).removeprefix("torch."),
            sample=samples[name],
        )
        for name, example in examples.items()
    )
    return Architecture(
        name=re.sub(r"[^a-z0-9]+", "-", type(module).__name__.lower()).strip("-") or "module",
        summary=f"a {type(module).__name__} of your own",
        build=lambda config: whole_copy_of(module),
        config=NoOptions,
        inputs=specs,
        outputs=(),
        dims={name: free.dim for name, free in dims.items()},
        family="your own",
        constants=constants,
        containers=flat.containers,
        assumed=(*map(describe, specs), *_bounds(dims), *_values(samples)),
    )


def _follow(example: Example, coupling: Coupling | None, dims: Mapping[str, FreeAxis]) -> Example:
    """Return the example so that its integers follow the size of a dim, if they must."""
    for name, free in dims.items():
        if coupling is not None and coupling.axis in free.axes:
            return example.following(name, coupling.counts)
    return example


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor can be cut and repeated; others (sparse, nested) are passed on as they are."""
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.cpu()


def name_arguments(module: nn.Module, inputs: "Inputs") -> dict[str, Any]:
    """Return the arguments of forward by name; those of `*args` are the parts of one argument."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    args = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    signature = signature_of(module)
    arguments: dict[str, Any] = {}
    for parameter in signature.parameters.values() if signature else ():
        if args and parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            arguments[parameter.name], args = tuple(args), []
        elif args and parameter.kind in BY_POSITION:
            arguments[parameter.name] = args.pop(0)
    # More than forward takes: it fails on them with torch's own message.
    return arguments | {f"input_{index}": value for index, value in enumerate(args, len(arguments))}


def _batch_axis(module: nn.Module) -> int:
    """Return the axis of the batch: 0, but 1 for layers of torch's own that say so."""
    is_of_torch = type(module).__module__.startswith("torch.nn.")
    layers = module.modules() if is_of_torch else ()
    return int(any(getattr(layer, "batch_first", True) is False for layer in layers))


def _shape(name: str, tensor: Tensor, dims: Mapping[str, FreeAxis]) -> tuple[int | str, ...]:
    names = {axis: dim for dim, free in dims.items() for axis in free.axes}
    return tuple(names.get((name, index), size) for index, size in enumerate(tensor.shape))


def describe(tensor: TensorSpec) -> str:
    """Return a declaration as it is typed: `x: float32[batch, 8, 16]`."""
    return f"{tensor.name}: {tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def _bounds(dims: Mapping[str, FreeAxis]) -> Iterator[str]:
    """Yield a sentence for each dim that doesn't take every size."""
    for name, free in dims.items():
        if free.min == free.max:
            yield f"{name} is {free.size}: it fails with other sizes"
            continue
        if free.multiple_of > 1:
            yield f"{name} is a multiple of {free.multiple_of}"
        if free.max is not None:
            yield f"{name} is at most {free.max}"


def _values(samples: Mapping[str, Example]) -> Iterator[str]:
    """Yield a sentence for each input whose values are special."""
    for name, sample in samples.items():
        if sample.span is not None:
            yield f"{name} takes integers from {sample.span[0]} to {sample.span[1]}"
        if sample.indexes or sample.counts:
            yield f"{name} {'indexes' if sample.indexes else 'counts'} {sample.indexes or sample.counts}"
        if not sample.varies:
            yield f"{name} is as in the example: it fails on other values"
