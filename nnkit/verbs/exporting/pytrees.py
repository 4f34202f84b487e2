"""Classes of containers that torch.export must know: dataclasses and named tuples."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from nnkit.models.tensors import parts_of


@contextlib.contextmanager
def known_containers(*values: object) -> Iterator[None]:
    """Let torch take apart, write and read the classes of containers in these values, within the block.

    Each is known by its qualified name, `net.KeyValue`, as whoever loads a `.pt2` file registers it. Classes
    that are registered already, as those of transformers are, stay as they are.
    """
    classes = list(dict.fromkeys(_classes_in(values)))
    unknown = [cls for cls in classes if cls not in pytree.SUPPORTED_SERIALIZED_TYPES]
    for cls in unknown:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if dataclasses.is_dataclass(cls):
            pytree.register_dataclass(cls, serialized_type_name=name)
        else:
            pytree._register_namedtuple(cls, serialized_type_name=name)
    try:
        with torch.serialization.safe_globals([*classes]):
            yield
    finally:
        for cls in unknown:
            pytree._deregister_pytree_node(cls)


def _classes_in(value: Any) -> Iterator[type]:
    """Yield the classes of the dataclasses and named tuples in a value."""
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        yield type(value)
    for _, part in parts_of(value):
        yield from _classes_in(part)
