"""The image networks after ResNet, with their inputs, dims and presets. Torch-free."""

from nnkit import Architecture

# ---- convolutional: densenet, mobilenet-v3, efficientnet, convnext, unet


# ---- without convolutions: vit, mixer, resmlp, clip


def modern_architectures() -> list[Architecture]:
    """Return the image networks after ResNet, oldest family first."""
    return [
        # convolutional
        # without convolutions
    ]
