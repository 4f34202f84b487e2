"""Which inputs the model of a type needs: tried on tensors that have no memory, the fewest first."""

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from nnkit import NnkitError
from nnkit_transformers.building import build, tensors_of
from nnkit_transformers.dims import DIMS
from nnkit_transformers.inputs import KNOWN, Sizes
from nnkit_transformers.options import options_of
from nnkit_transformers.tasks import BASE, model_class_of, tasks_of
from nnkit_transformers.weightless import masks_unseen, without_values

MORE = (
    "input_ids", "decoder_input_ids", "pixel_values", "pixel_values_videos", "input_features", "input_values",
    "bbox",
)  # fmt: skip
"""What is added to the inputs that a model needs by its signature, until it runs."""

NO_VALUES = ("meta tensor", "on meta", "meta device", "no data", "expected device")


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
    found = {task: find_inputs(name, task) for task in tasks_of(name)}
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
def find_inputs(model_type: str, task: str = BASE) -> Found:
    """Return the first inputs on which the model runs, of those that its forward takes."""
    try:
        model = _build(model_type, task)
    except NnkitError as error:
        return Found(problem=error.message)
    except Exception as error:
        return Found(problem=_reason(error))
    problem, likely = "", None
    for inputs in _candidates(model, task):
        try:
            if _runs(model, inputs):
                return Found(inputs)
        except Exception as error:
            if likely is None and _lacks_values(error):
                likely = inputs
            problem = problem or _reason(error)
    return Found(likely or (), problem or "it takes no input that is known here")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _build(model_type: str, task: str) -> PreTrainedModel:
    """Return the model, shallow where it can be, on meta."""
    options = options_of(model_type)
    shallow = [{"layers": 2}] if "layers" in options.__dataclass_fields__ else []
    model_class_of(model_type, task)
    for values in (*shallow, {}):
        try:
            with _on_meta():
                return build(model_type, options(task=task, **values))
        except Exception:
            if not values:
                raise
    raise AssertionError


@contextmanager
def _on_meta() -> Iterator[None]:
    """Build and run on tensors without values."""
    with torch.device("meta"), no_init_weights(), torch.no_grad(), masks_unseen():
        yield


def _lacks_values(error: Exception) -> bool:
    """Whether a model failed because it looked at values."""
    return any(words in str(error) for words in NO_VALUES) or "NoneType" in type(error).__name__


def _runs(model: PreTrainedModel, inputs: tuple[Input, ...]) -> bool:
    sizes = Sizes(model.config)
    tensors = {}
    for name, variant in inputs:
        spec = KNOWN[name][variant](sizes)
        if spec is None:
            return False
        shape = [DIMS[axis].default if isinstance(axis, str) else axis for axis in spec.shape]
        dtype = torch.float32 if spec.dtype == "float" else getattr(torch, spec.dtype)
        tensors[name] = torch.zeros(shape, dtype=dtype, device="meta")
    taken = inspect.signature(model.forward).parameters
    constants = {
        name: value for name, value in {"use_cache": False, "return_dict": True}.items() if name in taken
    }
    with _on_meta(), without_values(model, tensors):
        return bool(len(tensors_of(model(**tensors, **constants))))


def _candidates(model: PreTrainedModel, task: str) -> Iterator[tuple[Input, ...]]:
    """Yield inputs to try: those without a default and the main one, then with one more, then two."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD or parameter.kind is parameter.KEYWORD_ONLY
    }
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if any(name not in KNOWN for name in needed):
        return
    main = model.main_input_name
    main = main if isinstance(main, str) and main in parameters and main in KNOWN else ""
    starts = [[*needed, *([main] if main and main not in needed else [])]]
    if needed and starts[0] != needed:
        starts.append(needed)
    more = [name for name in MORE if name in parameters]
    seen: set[tuple[str, ...]] = set()
    for count in range(3):
        for start in starts:
            rest = [name for name in more if name not in start]
            for extra in itertools.combinations(rest, count):
                names = tuple(name for name in parameters if name in (*start, *extra))
                if names and names not in seen:
                    seen.add(names)
                    yield from _variants(names, task)


def _variants(names: tuple[str, ...], task: str) -> Iterator[tuple[Input, ...]]:
    choices = [[Input(name, variant) for variant in range(len(KNOWN[name]))] for name in names]
    yield from itertools.product(*choices)


def describe(error: Any) -> str:
    """Return an error in one line."""
    return _reason(error)
