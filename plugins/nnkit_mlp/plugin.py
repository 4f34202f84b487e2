"""Declares multi-layer perceptrons. Torch-free."""

from nnkit import Architecture, hookimpl

NNKIT_PLUGIN_API = "1.1"

# ---- mlp


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # mlp
    ]
