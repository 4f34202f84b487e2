"""What the architectures of each task take and return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnkit import Dim, TensorSpec

BATCH = Dim(default=1, description="samples in a batch")


@dataclass(frozen=True)
class Sizes:
    """What sizes the images of an architecture may have, in pixels, and videos in frames.

    Attributes:
        default: Height and width, if the user gives none.
        step: Height and width are multiples of this.
        least: The smallest height and width.
        fewest: The fewest frames of a video.
    """

    default: int
    step: int = 1
    least: int = 1
    fewest: int = 1

    def side(self, name: str) -> Dim:
        """Return the dim of one side."""
        least = -(-self.least // self.step) * self.step
        return Dim(
            default=self.default,
            min=least,
            multiple_of=self.step,
            description=f"{name} of the image in pixels",
        )


@dataclass(frozen=True)
class Task:
    """The inputs, outputs and dims of an architecture, as its declaration has them."""

    name: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec] | Callable[[Any], Sequence[TensorSpec]]
    dims: Mapping[str, Dim]
    constants: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)


def _sides(sizes: Sizes, is_fixed: bool) -> tuple[tuple[str, str], dict[str, Dim]]:
    """Return the last two axes of the images, and their dims, if the config doesn't fix them."""
    if is_fixed:
        return ("image_size", "image_size"), {}
    return ("height", "width"), {"height": sizes.side("height"), "width": sizes.side("width")}


def classification(sizes: Sizes, is_fixed: bool) -> Task:
    """Return the task of naming what an image shows."""
    axes, dims = _sides(sizes, is_fixed)
    return Task(
        name="image classification",
        inputs=[TensorSpec("image", ("batch", 3, *axes), description="RGB, channels first, normalized")],
        outputs=[
            TensorSpec("logits", ("batch", "num_classes"), description="class scores before the softmax")
        ],
        dims={"batch": BATCH, **dims},
    )


def video_classification(sizes: Sizes, is_fixed: bool) -> Task:
    """Return the task of naming what a video shows."""
    axes, dims = _sides(sizes, is_fixed)
    frames = Dim(default=16, min=sizes.fewest, description="frames of the video")
    time = "temporal_size" if is_fixed else "frames"
    return Task(
        name="video classification",
        inputs=[
            TensorSpec(
                "video", ("batch", 3, time, *axes), description="RGB, channels before frames, normalized"
            )
        ],
        outputs=[
            TensorSpec("logits", ("batch", "num_classes"), description="class scores before the softmax")
        ],
        dims={"batch": BATCH, **({} if is_fixed else {"frames": frames}), **dims},
    )


def segmentation(sizes: Sizes) -> Task:
    """Return the task of naming what each pixel shows."""
    axes, dims = _sides(sizes, is_fixed=False)
    out = TensorSpec("out", ("batch", "num_classes", *axes), description="class scores of each pixel")
    auxiliary = TensorSpec(
        "aux", out.shape, description="class scores by the auxiliary head, from earlier features"
    )

    def outputs(config: Any) -> list[TensorSpec]:
        return [out, auxiliary] if getattr(config, "aux_loss", False) else [out]

    return Task(
        name="semantic segmentation",
        inputs=[TensorSpec("image", ("batch", 3, *axes), description="RGB, channels first, normalized")],
        outputs=outputs,
        dims={"batch": BATCH, **dims},
    )


def optical_flow(sizes: Sizes) -> Task:
    """Return the task of saying how each pixel moved from one image to the next."""
    axes, dims = _sides(sizes, is_fixed=False)

    def outputs(config: Any) -> list[TensorSpec]:
        return [
            TensorSpec(
                f"flow_{update}", ("batch", 2, *axes), description=f"pixels moved, after update {update}"
            )
            for update in range(1, config.num_flow_updates + 1)
        ]

    return Task(
        name="optical flow",
        inputs=[
            TensorSpec("image1", ("batch", 3, *axes), sample="uniform", description="RGB from -1 to 1"),
            TensorSpec("image2", ("batch", 3, *axes), sample="uniform", description="the next image"),
        ],
        outputs=outputs,
        dims={"batch": BATCH, **dims},
        constants=lambda config: {"num_flow_updates": config.num_flow_updates},
    )


def detection(sizes: Sizes) -> Task:
    """Return the task of finding objects. How many it finds, and so the size of its outputs, follows the image."""
    axes, dims = _sides(sizes, is_fixed=False)
    return Task(
        name="object detection",
        inputs=[
            TensorSpec(
                "images",
                ("batch", 3, *axes),
                sample="uniform",
                description="RGB from 0 to 1; it normalizes them",
            )
        ],
        outputs=[],
        dims={"batch": BATCH, **dims},
    )
