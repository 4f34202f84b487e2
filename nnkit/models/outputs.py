"""The tensors that forward returned, with their names and declarations."""

from collections.abc import Collection, Sequence
from typing import Any

from nnkit.contract.architecture import TensorSpec
from nnkit.models.tensors import named_tensors_in, output_names


def declarations_of(
    value: Any, declared: Sequence[TensorSpec], taken: Collection[str] = ()
) -> list[TensorSpec | str]:
    """Return the declaration of each tensor that forward returned, or a name for one that has none.

    If forward returned a mapping, a dataclass or a named tuple with all declared names, each declaration
    belongs to the tensor of its name; an optional one may be missing. Otherwise the declared tensors come
    first, in order.
    taken: the names of the inputs, which an output can't have.
    """
    keys = [key for key, _ in named_tensors_in(value)]
    by_name = {tensor.name: tensor for tensor in declared}
    declarations: list[TensorSpec | None] = [*declared, *[None] * (len(keys) - len(declared))]
    required = {tensor.name for tensor in declared if not tensor.optional}
    if required <= set(keys) and not by_name.keys().isdisjoint(keys):
        declarations = [by_name.get(key) for key in keys]
    names = _unique(output_names(value), taken)
    return [declaration or name for declaration, name in zip(declarations, names, strict=False)]


def _unique(names: Sequence[str], taken: Collection[str]) -> list[str]:
    """Return names that differ from each other and from those taken."""
    unique: list[str] = []
    for name in names:
        candidate = name
        while candidate in taken or candidate in unique:
            candidate += "_output"
        unique.append(candidate)
    return unique
