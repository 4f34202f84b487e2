"""Declares a network whose options have names that nnkit took in API 1.1. Doesn't import torch."""

from dataclasses import dataclass
from typing import Annotated

from nnkit import Architecture, Dim, Meta, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"


@dataclass(frozen=True, kw_only=True)
class PrunedConfig:
    """Options of the network."""

    without: Annotated[int, Meta(ge=0, le=7, description="features left out")] = 2
    declare: Annotated[bool, Meta(description="give the layer a bias")] = False


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the network."""
    return [
        Architecture(
            name="pruned",
            summary="A linear layer of the first features",
            build="nnkit_names.pruned:Pruned",
            config=PrunedConfig,
            inputs=[TensorSpec("x", ("batch", "with", 8))],
            outputs=[TensorSpec("y", ("batch", "with", 4))],
            dims={
                "batch": Dim(default=1, description="samples at once"),
                "with": Dim(default=3, description="rows with features"),
            },
        )
    ]
