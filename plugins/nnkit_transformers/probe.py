"""Which inputs the model of a type needs: tried on tensors that have no memory, the fewest first."""

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from nnkit import Architecture, ModelSpec, NnkitError, summarize
from nnkit_transformers.building import Builder, build, tensors_of
from nnkit_transformers.dims import dims_of
from nnkit_transformers.inputs import KNOWN, Fixed
from nnkit_transformers.options import options_of
from nnkit_transformers.settings import configuration
from nnkit_transformers.sizes import Axis, Sizes
from nnkit_transformers.tasks import tasks_of
from nnkit_transformers.weightless import masks_unseen, without_values

MORE = (
    "input_ids", "decoder_input_ids", "pixel_values", "pixel_values_videos", "input_features", "input_values",
    "bbox", "attention_mask", "encoder_hidden_states", "is_longer",
    "input_features_mask",
)  # fmt: skip
"""What is added to the inputs that a model needs by its signature, until it runs."""

ALWAYS = ("input_shape_ids", "input_pronunciation_ids")
"""What a model runs without, but not with all of its parameters."""

TOGETHER = (
    ("pixel_values", "pixel_attention_mask", "spatial_shapes"),
    ("pixel_values", "image_attention_mask"),
    ("pixel_values", "target_sizes"),
    ("pixel_values", "input_ids", "image_embeds_position_mask"),
    ("pixel_values", "bbox", "decoder_input_ids"),
    ("input_values", "pixel_values_videos"),
    ("input_values", "decoder_input_values"),
    ("visual_feats", "visual_pos"),
    ("states", "actions", "returns_to_go", "timesteps"),
)  # fmt: skip
"""What only makes sense together, and is tried at last."""

NO_VALUES = (
    "meta tensor",
    "on meta",
    "meta device",
    "no data",
    "expected device",
    "torch.nonzero",
    "no fake impl",
)

MOST = 4
"""How many inputs are counted where meta can't tell."""

LARGE = 2**29
"""Parameters of a model that is too large for that: the first inputs are taken."""


class Input(NamedTuple):
    """An input by the name of its parameter, and which of the known shapes it has."""

    name: str
    variant: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.variant}" if self.variant else self.name


@dataclass(frozen=True)
class Found:
    """The inputs that a model runs on. Without any, `problem` says why."""

    inputs: tuple[Input, ...] = ()
    problem: str = ""


def probe(name: str) -> dict[str, str]:
    """Return what the catalog keeps: the inputs of the model of a type for each of its tasks."""
    options = options_of(name)
    found = {task: find_inputs(name, options(task=task)) for task in tasks_of(name)}
    return {"detail": write_inputs({task: each.inputs for task, each in found.items() if each.inputs})}


def write_inputs(inputs: dict[str, tuple[Input, ...]]) -> str:
    """Return the inputs of each task as text: `base=input_ids masked-lm=input_ids+bbox`."""
    return " ".join(f"{task}={'+'.join(map(str, each))}" for task, each in inputs.items())


def read_inputs(text: str) -> dict[str, tuple[Input, ...]]:
    """Return what `write_inputs` wrote."""
    found = {}
    for part in text.split():
        task, _, inputs = part.partition("=")
        pairs = (each.partition(":") for each in inputs.split("+"))
        found[task] = tuple(Input(name, int(variant or 0)) for name, _, variant in pairs)
    return found


@cache
def find_inputs(model_type: str, options: Any) -> Found:
    """Return the first inputs on which the model runs, of those that its forward takes.

    They are tried on meta first. Where the model looks at values there, nnkit's own count decides, which runs
    it on memory without weights.
    """
    found = Found()
    for depth in _depths(options):
        try:
            with _on_meta():
                model = build(model_type, depth)
            found = _find(model, model_type, depth)
        except NnkitError as error:
            found = Found(problem=error.message)
        except Exception as error:
            found = Found(problem=_reason(error))
        if found.inputs:
            break
    return found


def _depths(options: Any) -> list[Any]:
    """Return the options to build with: shallow where that can be, then as they are."""
    shallow = getattr(options, "layers", 0) is None
    return [*([replace(options, layers=2)] if shallow else []), options]


def _find(model: PreTrainedModel, model_type: str, options: Any) -> Found:
    sizes = {name: dim.default for name, dim in dims_of(model_type).items()}
    problem, likely, alike = "", [], []
    for inputs in _candidates(model):
        try:
            if _runs(model, inputs, sizes):
                return Found(inputs)
        except Exception as error:
            names = [each.name for each in inputs]
            if _lacks_values(error):
                likely.append(inputs)
            elif any(names == [each.name for each in other] for other in likely):
                alike.append(inputs)
            problem = problem or _reason(error)
    if likely and model.num_parameters() > LARGE:
        return Found(likely[0])
    for number, inputs in enumerate([*likely, *alike][:MOST]):
        try:
            summarize(_spec(model_type, options, inputs))
            return Found(inputs)
        except Exception as error:
            problem = problem if number else _reason(error)
    if not _parameters(model):
        problem = "its class has no forward"
    needed = ", ".join(_needed(model))
    return Found((), problem or (f"it needs {needed}" if needed else "it runs on nothing that is known here"))


def _spec(model_type: str, options: Any, inputs: tuple[Input, ...]) -> ModelSpec:
    sizes = Sizes(configuration(model_type, options))
    tensors = tuple(KNOWN[name][variant](sizes) for name, variant in inputs)
    architecture = Architecture(
        name=model_type,
        summary="a candidate",
        build=Builder(model_type, lambda _: {tensor.name: False for tensor in tensors}),
        config=type(options),
        inputs=tensors,
        outputs=(),
        dims=dims_of(model_type),
        namespace="transformers",
    )
    dims = architecture.dims_for(options)
    return ModelSpec(architecture, "transformers", options, {name: dim.default for name, dim in dims.items()})


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextmanager
def _on_meta() -> Iterator[None]:
    """Build and run on tensors without values."""
    with torch.device("meta"), no_init_weights(), torch.no_grad(), masks_unseen():
        yield


def _lacks_values(error: Exception) -> bool:
    """Whether a model failed because it looked at values."""
    return any(words in str(error) for words in NO_VALUES) or "NoneType" in type(error).__name__


def _runs(model: PreTrainedModel, inputs: tuple[Input, ...], sizes: Mapping[str, Any]) -> bool:
    tensors = {}
    for name, variant in inputs:
        spec = KNOWN[name][variant](Sizes(model.config))
        if spec is None:
            return False
        shape = [_size(axis, sizes) for axis in spec.shape]
        dtype = torch.float32 if spec.dtype == "float" else getattr(torch, spec.dtype)
        if isinstance(spec.sample, Fixed):  # sizes, which decide how the model runs
            tensors[name] = spec.sample(tuple(shape), {}, dtype, None)
        else:
            tensors[name] = torch.zeros(shape, dtype=dtype, device="meta")
    taken = inspect.signature(model.forward).parameters
    constants = {
        name: value for name, value in {"use_cache": False, "return_dict": True}.items() if name in taken
    }
    with _on_meta(), without_values(model, tensors):
        return bool(len(tensors_of(model(**tensors, **constants))))


def _size(axis: Axis, sizes: Mapping[str, Any]) -> int:
    """Return the size of an axis: a number, a dim, or so many times a dim."""
    if isinstance(axis, int):
        return axis
    times, _, name = axis.rpartition(" * ")
    return int(times or 1) * int(sizes[name])


def _parameters(model: PreTrainedModel) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(model.forward).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in kinds}


def _needed(model: PreTrainedModel) -> list[str]:
    parameters = _parameters(model)
    return [name for name, parameter in parameters.items() if parameter.default is parameter.empty]


def _candidates(model: PreTrainedModel) -> Iterator[tuple[Input, ...]]:
    """Yield inputs to try: those without a default and the main one, then with one more, then two."""
    parameters, needed = _parameters(model), _needed(model)
    if any(name not in KNOWN for name in needed):
        return
    main = model.main_input_name
    main = main if isinstance(main, str) and main in parameters and main in KNOWN else ""
    needed += [name for name in ALWAYS if name in parameters]
    starts = [[*needed, *([main] if main and main not in needed else [])]]
    if needed and starts[0] != needed:
        starts.append(needed)
    more = [name for name in MORE if name in parameters]
    of_texts = (1,) if "MultipleChoice" in type(model).__name__ else (0, 2, 3)
    if "SequenceClassification" in type(model).__name__:
        of_texts = (0, 4)  # some look for the end of the text
    seen: set[tuple[str, ...]] = set()
    tries = [(start, count) for count in range(3) for start in starts]
    for start, count in (*tries, ([], 1)):  # at last, one that is neither needed nor the main one
        rest = [name for name in more if name not in start]
        for extra in itertools.combinations(rest, count):
            names = tuple(name for name in parameters if name in (*start, *extra))
            if names and names not in seen:
                seen.add(names)
                yield from _variants(names, of_texts)
    for group, start in itertools.product(TOGETHER, starts):
        names = tuple(name for name in parameters if name in (*start, *group))
        if set(group) <= set(parameters) and names not in seen:
            seen.add(names)
            yield from _variants(names, of_texts)


def _variants(names: tuple[str, ...], of_texts: Sequence[int]) -> Iterator[tuple[Input, ...]]:
    choices = [[Input(name, variant) for variant in _variants_of(name, names, of_texts)] for name in names]
    yield from itertools.product(*choices)


def _variants_of(name: str, names: tuple[str, ...], of_texts: Sequence[int]) -> Sequence[int]:
    """Return which shapes of an input to try; patches in a row come with the sizes of their pictures.

    of_texts: those of `input_ids`.
    """
    if name == "input_ids":
        return of_texts
    if name == "pixel_values":
        if "spatial_shapes" in names:
            return (4,)
        if "target_sizes" in names:
            return (6,)
        if "pixel_position_ids" in names:
            return (8,)
        if "prompt_masks" in names:
            return (9,)
        return (2, 3, 7) if any("grid_thw" in other for other in names) else (0, 1, 4, 5)
    if name == "hidden_states" and "grid_thw" not in names:
        return (1, 2)
    return range(len(KNOWN[name]))
