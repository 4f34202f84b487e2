"""Declares networks of sets. Torch-free."""

from nnkit import Architecture, hookimpl

NNKIT_PLUGIN_API = "1.1"

# ---- deepsets, set-transformer


# ---- graph-transformer


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # deepsets, set-transformer
        # graph-transformer
    ]
