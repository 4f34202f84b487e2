"""Declares networks that generate images. Torch-free."""

from nnkit import Architecture, hookimpl

NNKIT_PLUGIN_API = "1.1"

# ---- vae, vq-vae


# ---- dcgan


# ---- ddpm-unet


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # vae, vq-vae
        # dcgan
        # ddpm-unet
    ]
