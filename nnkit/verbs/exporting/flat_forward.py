"""A module as a file sees it: forward takes tensors one by one, and returns a flat tuple.

forward(tokens, cache=[(k, v)], train=False)   ->   forward(tokens, cache_0_key, cache_0_value)
"""

import inspect
from collections.abc import Sequence

from torch import Tensor, nn

from nnkit.contract.signature import Signature
from nnkit.models.running import bind
from nnkit.models.tensors import tensors_in

REGISTRIES = ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", "training")
ORIGINAL = "_original"


def with_flat_forward(module: nn.Module, signature: Signature) -> nn.Module:
    """Return a module with the tensors of `module` under their names, whose forward is flat.

    It takes the tensors of a signature by position, in order; its parameters are called as `identifiers_of`
    says. Constants keep their values. It returns a flat tuple of separate tensors: torch's exporters support
    no dataclasses of others, and lose an output that is also an input, a weight or a second output.
    """

    def forward(self: nn.Module, *tensors: Tensor) -> tuple[Tensor, ...]:
        original: nn.Module = vars(self)[ORIGINAL]
        args, keywords = bind(original, signature, tensors)
        return tuple(tensor.clone() for tensor in tensors_in(original(*args, **keywords)))

    names = ("self", *identifiers_of(signature.names))
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat: nn.Module = type("Flat", (nn.Module,), {"forward": forward})()
    vars(flat).update({name: vars(module)[name] for name in REGISTRIES})
    vars(flat)[ORIGINAL] = module  # as a submodule, it would give each tensor a second name
    return flat


def identifiers_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return an identifier for each dotted name, all different: `cache.0.key` -> `cache_0_key`."""
    identifiers: list[str] = []
    for name in names:
        identifier = name.replace(".", "_")
        while identifier in identifiers or not identifier.isidentifier() or identifier == "self":
            identifier = f"{identifier}_" if identifier.isidentifier() else f"input_{len(identifiers)}"
        identifiers.append(identifier)
    return tuple(identifiers)
