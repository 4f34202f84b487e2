"""The arguments of an operator by the names in its schema, so that no rule counts positions."""

from typing import Any

import torch

Operator = Any
"""An overload, `aten.add.Tensor`, or its packet, `aten.add`, which here means its default overload."""


def named_arguments(operator: Operator, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return the positional arguments of a call by name, with the default of each that was left out.

    Example: `named_arguments(aten.roll, (x, [1]))` is `{"self": x, "shifts": [1], "dims": []}`.
    """
    if isinstance(operator, torch._ops.OpOverloadPacket):
        operator = operator.default
    names = {argument.name: argument.default_value for argument in operator._schema.arguments}
    return names | dict(zip(names, args, strict=False))
