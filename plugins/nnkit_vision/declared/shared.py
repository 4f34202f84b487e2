"""What the declarations of image networks share: dims, inputs, outputs, presets. Torch-free."""

from nnkit import Dim, Preset, TensorSpec

BATCH = Dim(default=1, description="images in a batch")
LOGITS = TensorSpec("logits", ("batch", "num_classes"), description="class scores before the softmax")


def image_dims(default: int, smallest: int = 1) -> dict[str, Dim]:
    """Return the dims of a batch of images at least `smallest` pixels high and wide."""
    return {
        "batch": BATCH,
        "height": Dim(default=default, min=smallest, description="height of the image in pixels"),
        "width": Dim(default=default, min=smallest, description="width of the image in pixels"),
    }


def image(
    channels: int | str = "in_channels", height: int | str = "height", width: int | str = "width"
) -> TensorSpec:
    """Return the input of an image classifier."""
    return TensorSpec("image", ("batch", channels, height, width), description="channels first")


AS_TORCHVISION = "Names, initialization and arithmetic match torchvision, so its state dicts load unchanged."

IMAGENET = Preset(config={"num_classes": 1000}, description="ImageNet: 1000 classes")
