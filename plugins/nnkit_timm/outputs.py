"""The outputs of a timm model: classes by its declaration; features by a run without weights or data."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import timm
import torch

from nnkit import TensorSpec, UsageProblem
from nnkit_timm.options import arguments_of, check_names, default_of
from nnkit_timm.sizes import Sizes

LARGEST_STRIDE = 128
"""The largest stride of a feature map that is looked for, in pixels."""

LOGITS = TensorSpec("logits", ("batch", "num_classes"), description="a score for each class")

WRITTEN = re.compile(r"(?P<name>\w+)\[(?P<axes>[^]]*)\]")


def keeps_shapes(argument: str) -> bool:
    """Whether an option leaves the shape of every output as it is."""
    return argument == "in_chans" or argument.endswith("_rate")


@dataclass(frozen=True)
class Outputs:
    """The outputs of one model.

    Attributes:
        model: Its name.
        image: Its input.
        known: What a catalog says about its outputs under the default options; may be empty.
    """

    model: str
    image: Any
    known: str = ""

    def declare(self, config: Any) -> Sequence[TensorSpec]:
        """Return the outputs under these options. Empty: they aren't known."""
        arguments = arguments_of(config)
        classifies = getattr(config, "num_classes", 0) > 0 and default_of(config, "num_classes") > 0
        others = [key for key in arguments if not keeps_shapes(key)]
        if classifies and not set(others) - {"num_classes", "img_size"} and self._known_to_classify:
            return (LOGITS,)
        if not others and self.known:
            return read(self.known)
        return measure(self.model, self.image, config)

    @property
    def _known_to_classify(self) -> bool:
        return self.known in ("", write([LOGITS]))


def write(outputs: Sequence[TensorSpec]) -> str:
    """Return outputs as a catalog holds them: `features[batch, 768]`."""
    return "; ".join(f"{each.name}[{', '.join(map(str, each.shape))}]" for each in outputs)


def read(text: str) -> tuple[TensorSpec, ...]:
    """Return the outputs that `write` has written."""
    return tuple(
        _tensor(match["name"], [int(axis) if axis.isdigit() else axis for axis in match["axes"].split(", ")])
        for match in WRITTEN.finditer(text)
    )


def _tensor(name: str, shape: Sequence[int | str]) -> TensorSpec:
    return LOGITS if name == LOGITS.name else TensorSpec(name, tuple(shape))


@lru_cache(maxsize=64)
def measure(model: str, image: Any, config: Any) -> tuple[TensorSpec, ...]:
    """Return the outputs, by two runs on tensors without memory. Empty where that fails."""
    arguments = arguments_of(config)
    check_names(model, arguments)
    channels = getattr(config, "in_chans", image.channels)
    default = [side if isinstance(side, int) else 0 for side in image.axes(config)]
    sizes = image.size if 0 in default else tuple(default)
    try:
        with torch.device("meta"):
            network = timm.create_model(model, **arguments).eval()
        return of_network(network, channels, sizes, image.sizes, getattr(config, "num_classes", 0))
    except UsageProblem:
        raise
    except Exception:  # building it again tells why
        return ()


def of_network(
    network: torch.nn.Module, channels: int, size: tuple[int, int], sizes: Sizes, classes: int
) -> tuple[TensorSpec, ...]:
    """Return the outputs of a network on the meta device, with the shapes that two runs agree on."""
    # So much larger that an axis that shrinks by LARGEST_STRIDE changes, and by no multiple of most strides.
    steps = 0 if sizes.fixed else LARGEST_STRIDE // sizes.step + 1
    wider = steps if sizes.square else 3 * steps + 2
    runs = [
        {"batch": 2, "height": size[0], "width": size[1]},
        {"batch": 3, "height": size[0] + steps * sizes.step, "width": size[1] + wider * sizes.step},
    ]
    results = [_named(network(_image(channels, run))) for run in runs]
    if [name for name, _ in results[0]] != [name for name, _ in results[1]]:
        return ()
    outputs = []
    for (name, first), (_, second) in zip(*results, strict=True):
        shape = tuple(_axes(runs, [first.shape, second.shape], sizes.fixed))
        if "" in shape:
            return ()
        outputs.append(TensorSpec(name, shape))
    if len(outputs) == 1 and classes > 0 and outputs[0].shape == ("batch", classes):
        return (LOGITS,)
    return tuple(outputs)


def _image(channels: int, run: Mapping[str, int]) -> torch.Tensor:
    return torch.empty(run["batch"], channels, run["height"], run["width"], device="meta")


def _named(result: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors that a model returned: one, or those of a list or dict."""
    if isinstance(result, torch.Tensor):
        return [("features", result)]
    if isinstance(result, Mapping):
        return [(str(key), value) for key, value in result.items() if isinstance(value, torch.Tensor)]
    if isinstance(result, (list, tuple)):
        tensors = [value for value in result if isinstance(value, torch.Tensor)]
        return [(f"features_{index}", value) for index, value in enumerate(tensors)]
    return []


def _axes(runs: Sequence[Mapping[str, int]], shapes: Sequence[Sequence[int]], fixed: bool) -> Iterator[Any]:
    """Yield each axis as a number or as arithmetic of dims; "" where nothing fits both runs."""
    if len(shapes[0]) != len(shapes[1]):
        yield ""
        return
    for index, pair in enumerate(zip(*shapes, strict=True)):
        if index == 0 and pair == (2, 3):
            yield "batch"
        elif pair[0] == pair[1]:
            yield pair[0]
        else:
            yield "" if fixed else next(_fitting(runs, pair), "")


def _fitting(runs: Sequence[Mapping[str, int]], sizes: tuple[int, ...]) -> Iterator[str]:
    """Yield the arithmetic of height and width that gives these sizes in these runs."""
    heights, widths = ([run[name] for run in runs] for name in ("height", "width"))
    for divisor in range(1, LARGEST_STRIDE + 1):
        for name, lengths in (("height", heights), ("width", widths)):
            if tuple(length // divisor for length in lengths) == sizes:
                yield name if divisor == 1 else f"{name} // {divisor}"
            if tuple(-(-length // divisor) for length in lengths) == sizes:
                yield f"({name} + {divisor - 1}) // {divisor}"
        areas = [
            (height // divisor) * (width // divisor) for height, width in zip(heights, widths, strict=True)
        ]
        rest = sizes[0] - areas[0]
        if 0 <= rest == sizes[1] - areas[1] and areas[0] != areas[1]:
            tokens = f"(height // {divisor}) * (width // {divisor})"
            yield f"{tokens} + {rest}" if rest else tokens
