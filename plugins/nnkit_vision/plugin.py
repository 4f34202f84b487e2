"""Declares the image networks to nnkit. Torch-free."""

from nnkit import Architecture, hookimpl
from nnkit_vision.classic import classic_architectures
from nnkit_vision.modern import modern_architectures

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the image networks, oldest family first."""
    return [*classic_architectures(), *modern_architectures()]
