"""The tensors that a module has, takes and returns, and the spread of their values."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

# Elements more than this many times as large as the quartile are left out of the core of a tensor.
CORE_FACTOR = 10


# Types without parts. Most arguments of most operators have one, or are tensors.
ATOMS = frozenset({type(None), bool, int, float, complex, str, torch.dtype, torch.device, torch.layout})

# Types of tensors that hold their memory themselves where their layout is strided.
PLAIN = frozenset({Tensor, nn.Parameter})


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors of a value in order, however nested in tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    found: list[Tensor] = []
    is_sequence = type(value) is tuple or type(value) is list
    for part in value if is_sequence else [part for _, part in parts_of(value)]:
        if isinstance(part, Tensor):
            found.append(part)
        elif type(part) not in ATOMS:
            found += tensors_in(part)
    return found


def named_tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a value with their dotted names, in order; a tensor itself has the name "".

    {"logits": y, "cache": [(k, v)]}   ->   logits, cache.0.0, cache.0.1
    """
    return ((name, leaf) for name, leaf in named_leaves_in(value, name) if isinstance(leaf, Tensor))


def named_leaves_in(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value that have no parts, tensors or not, with their dotted names, in order.

    {"logits": y, "loss": None}   ->   logits y, loss None
    """
    parts = () if isinstance(value, Tensor) else tuple(parts_of(value))
    if not parts:
        yield name, value
    for key, part in parts:
        yield from named_leaves_in(part, f"{name}.{key}" if name else str(key))


def output_names(value: Any) -> list[str]:
    """Return names for the tensors that forward returned, where none are declared.

    Tensors of mappings, dataclasses and named tuples have names of their own; others are numbered:
    `output`, or `output_0`, `output_1`.
    """
    return [output_name(name) for name, _ in named_tensors_in(value)]


def output_name(path: str) -> str:
    """Return the name of an output by its path in what forward returned: `logits`, `output_0`, `output`."""
    return path if path and not path[0].isdecimal() else f"output_{path}".rstrip("_")


def parts_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the parts of a mapping, a dataclass, a tuple or a list, each with its key; else nothing."""
    if isinstance(value, Mapping):
        return value.items()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return zip(value._fields, value, strict=True)
    return enumerate(value) if isinstance(value, (list, tuple)) else ()


def registered(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, a tied one under each of its names."""
    return {
        **{name: tensor.detach() for name, tensor in module.named_parameters(remove_duplicate=False)},
        **{name: tensor.detach() for name, tensor in module.named_buffers(remove_duplicate=False)},
    }


def in_reals(tensor: Tensor) -> Tensor:
    """Return a complex tensor as real and imaginary parts on a last axis of 2; others unchanged."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def spread_of(tensor: Tensor) -> float:
    """Return the standard deviation of a tensor's values, or the largest magnitude if that is zero."""
    values = tensor.detach().double()
    return float(values.std(correction=0)) or float(values.abs().max())


def core_of(tensor: Tensor) -> Tensor:
    """Return a mask of the elements that make up the body of a floating-point tensor.

    Left out are elements that are not finite, and those more than ten times as large as the lower quartile
    of the others that are not 0: scores that were masked with a large number say nothing about the scale
    of the rest.

        [0.0, 0.5, 1.0, 2.0, -1e9]  ->  lower quartile of the sizes 0.5  ->  all but -1e9
    """
    magnitudes = tensor.detach().abs()
    finite = magnitudes.isfinite()
    nonzero = magnitudes[finite & (magnitudes > 0)]
    if nonzero.numel() == 0:
        return finite
    quartile = nonzero.double().kthvalue((nonzero.numel() + 3) // 4).values
    return finite & (magnitudes <= CORE_FACTOR * quartile.to(magnitudes))


def stored_parts(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that hold the memory of `tensor`: itself, unless it is sparse, wrapped or lazy."""
    if is_lazy(tensor):
        return
    if tensor.layout == torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    elif hasattr(tensor, "__tensor_flatten__"):  # a subclass that wraps other tensors
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from stored_parts(getattr(tensor, name))
    else:
        yield tensor


def storages_of(*tensors: Tensor) -> set[int]:
    """Return ids of the storages of tensors."""
    storages = set()
    for tensor in tensors:
        if type(tensor) in PLAIN and tensor.layout == torch.strided:  # nearly all
            storages.add(tensor.untyped_storage()._cdata)
        else:
            parts = (part for part in stored_parts(tensor) if part.layout == torch.strided)
            storages.update(part.untyped_storage()._cdata for part in parts)
    return storages


def elements_of(tensor: Tensor) -> int:
    """Return the number of elements of a tensor: those stored if it is sparse, 0 if it is lazy."""
    if is_lazy(tensor):
        return 0
    if tensor.layout in (torch.strided, torch.jagged):
        return int(tensor.numel())
    *_, values = stored_parts(tensor)
    return values.numel()


def bytes_of(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes, including the indices if it is sparse; 0 if it is lazy."""
    return sum(part.nbytes for part in stored_parts(tensor))
