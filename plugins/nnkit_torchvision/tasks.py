"""What the architectures of each task take and return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnkit import Dim, TensorSpec

BATCH = Dim(default=1, description="samples in a batch")
LOGITS = TensorSpec("logits", ("batch", "num_classes"), description="class scores before the softmax")


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
        description = f"{name} of the image in pixels"
        return Dim(default=self.default, min=least, multiple_of=self.step, description=description)


@dataclass(frozen=True)
class Task:
    """The inputs, outputs and dims of an architecture, as its declaration has them."""

    name: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec] | Callable[[Any], Sequence[TensorSpec]]
    dims: Mapping[str, Dim]
    always_drops: bool = False
    constants: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)


def _sides(sizes: Sizes, fixed: int | str | None = None) -> tuple[tuple[int | str, ...], dict[str, Dim]]:
    """Return the last two axes of the images, and their dims.

    fixed: the size of both, or the config field that fixes it; None where images may have many sizes.
    """
    if fixed is not None:
        return (fixed, fixed), {}
    return ("height", "width"), {"height": sizes.side("height"), "width": sizes.side("width")}


def classification(sizes: Sizes, side: int | str | None) -> Task:
    """Return the task of naming what an image shows."""
    axes, dims = _sides(sizes, side)
    return Task(
        name="image classification",
        inputs=[TensorSpec("image", ("batch", 3, *axes), description="RGB, channels first, normalized")],
        outputs=[LOGITS],
        dims={"batch": BATCH, **dims},
    )


def video_classification(sizes: Sizes, side: int | str | None, frames: int | None) -> Task:
    """Return the task of naming what a video shows."""
    axes, dims = _sides(sizes, side)
    if frames is None:
        dims |= {"frames": Dim(default=16, min=sizes.fewest, description="frames of the video")}
    shape = ("batch", 3, frames or "frames", *axes)
    return Task(
        name="video classification",
        inputs=[TensorSpec("video", shape, description="RGB, channels before frames, normalized")],
        outputs=[LOGITS],
        dims={"batch": BATCH, **dims},
    )


def segmentation(sizes: Sizes, always_drops: bool) -> Task:
    """Return the task of naming what each pixel shows."""
    axes, dims = _sides(sizes)
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
        always_drops=always_drops,
    )


def optical_flow(sizes: Sizes) -> Task:
    """Return the task of saying how each pixel moved from one image to the next."""
    axes, dims = _sides(sizes)

    def outputs(config: Any) -> list[TensorSpec]:
        return [
            TensorSpec(f"flow_{update}", ("batch", 2, *axes), description=f"in pixels, after update {update}")
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


TRAINED_WITH_OBJECTS = "training needs the objects of each image, which nnkit doesn't draw"
TRAINING_CHECKS = (
    "finite gradients updates batch-sizes inputs-unchanged stochastic placement overfit train-determinism "
    "gradient-checkpointing"
).split()
CHOSEN_BY_SCORE = (
    "how many boxes are left follows from their scores, and torch.export can't follow that "
    "(batched_nms in torchvision/ops/boxes.py)"
)


def detection(sizes: Sizes) -> Task:
    """Return the task of finding objects. It finds more or less, so its outputs have no declared sizes."""
    axes, dims = _sides(sizes)
    return Task(
        name="object detection",
        inputs=[
            TensorSpec(
                "images",
                ("batch", 3, *axes),
                sample="uniform",
                description="RGB from 0 to 1; it resizes and normalizes them",
            )
        ],
        outputs=[],
        dims={"batch": BATCH, **dims},
        notes=[
            "torchvision takes a list of images, here they are one batch. It returns a dict for each image.",
            "The multiply-adds behind the first boxes follow from how many there are. Random weights find "
            "others than trained ones.",
            "Without weights, torchvision trains the whole backbone. --published builds the network that its "
            "weights are of, whose backbone has frozen normalization.",
        ],
        unsupported={
            **dict.fromkeys(TRAINING_CHECKS, TRAINED_WITH_OBJECTS),
            **dict.fromkeys(("onnx", "pt2"), CHOSEN_BY_SCORE),
            "batch-independence": "each image has a number of objects of its own",
            "derivative": "which boxes are returned jumps with their scores",
        },
    )
