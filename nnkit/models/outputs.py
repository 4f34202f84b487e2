"""The tensors that forward returned, by name, beside their declarations."""

from collections.abc import Collection, Sequence
from typing import Any

from nnkit.contract.architecture import TensorSpec
from nnkit.models.tensors import named_tensors_in, output_names


def declarations_of(
    value: Any, declared: Sequence[TensorSpec], taken: Collection[str] = ()
) -> list[TensorSpec | str]:
    """Return, for each tensor of what forward returned, its declaration, or a name where it has none.

    A declaration belongs to the tensor under the key of its name: in a mapping, a dataclass or a named tuple
    that has all the declared names. Elsewhere the declared tensors come first, in order.
    taken: names of inputs, which an output can't have.
    """
    keys = [key for key, _ in named_tensors_in(value)]
    by_name = {tensor.name: tensor for tensor in declared}
    if by_name.keys() <= set(keys):
        places: list[TensorSpec | None] = [by_name.get(key) for key in keys]
    else:
        places = [*declared, *[None] * (len(keys) - len(declared))]
    names = _unique(output_names(value), taken)
    return [place or name for place, name in zip(places, names, strict=False)]


def _unique(names: Sequence[str], taken: Collection[str]) -> list[str]:
    """Return names that differ from each other and from those taken."""
    found: list[str] = []
    for name in names:
        unique = name
        while unique in taken or unique in found:
            unique += "_output"
        found.append(unique)
    return found
