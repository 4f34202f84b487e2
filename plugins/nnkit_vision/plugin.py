"""Declares the image networks to nnkit. Torch-free."""

from nnkit import Architecture, hookimpl
from nnkit_vision.declared.classic import classic_architectures
from nnkit_vision.declared.convolutional import convolutional_architectures
from nnkit_vision.declared.patches import patch_architectures

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the image networks: those up to ResNet, the later ones, and those that take patches."""
    return [*classic_architectures(), *convolutional_architectures(), *patch_architectures()]
