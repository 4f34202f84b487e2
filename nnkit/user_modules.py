"""Modules of the user's own, made into architectures, so that every verb works on them unchanged.

`file.py:Class` and `package.module:Class` come from what the user typed; a module object comes from
Python. Only the first kind runs code, and only because the user named it.
"""

import copy
import dataclasses
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nnkit.architecture import Architecture, Dim, TensorSpec
from nnkit.errors import NnkitError, UsageProblem, did_you_mean

if TYPE_CHECKING:
    from torch import nn

INPUT = re.compile(
    r"\s*(?P<name>[A-Za-z_]\w*)\s*:\s*(?P<dtype>\w+)\s*\[(?P<axes>[^\]]*)\]\s*(<\s*(?P<limit>\w+)\s*)?"
)
AXIS = re.compile(r"(?P<name>[A-Za-z_]\w*)(=(?P<size>\d+))?(?P<bounds>(\s+(min|max|multiple_of)=\d+)*)")
BOUND = re.compile(r"(min|max|multiple_of)=(\d+)")
INPUT_HINT = 'write it so: --input "x: float32[batch, 3, 224, 224]"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The config of a module that is already built."""


def architecture_of_code(reference: str, inputs: Sequence[str]) -> Architecture:
    """Return the architecture for `file.py:Class` or `package.module:Class`.

    Its options are the parameters of the class that have a default and a type of a config field.
    inputs: what `forward` takes, in order, each like `x: float32[batch, 3, 224, 224]`; see parse_inputs.
    """
    factory = load_code(reference)
    specs, dims = parse_inputs(inputs)
    if not specs:
        raise UsageProblem(f"{reference} needs its inputs declared", INPUT_HINT)
    config = _config_from_signature(factory)
    name = re.sub(r"[^a-z0-9]+", "-", reference.rpartition(":")[2].lower()).strip("-")
    return Architecture(
        name=name,
        summary=(inspect.getdoc(factory) or reference).splitlines()[0],
        build=lambda config: factory(**vars(config)),
        config=config,
        inputs=specs,
        outputs=(),
        dims=dims,
        family="your own",
        typed=(reference, *(word for text in inputs for word in ("--input", text))),
    )


def architecture_of_module(module: "nn.Module", inputs: Sequence[Any]) -> Architecture:
    """Return the architecture for a module that is already built, with example inputs, all axes fixed.

    Those of `inputs` that are no tensors are left out of what it declares.
    """
    names = parameter_names(module.forward, len(inputs))
    specs = tuple(
        TensorSpec(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in zip(names, inputs, strict=True)
        if hasattr(value, "untyped_storage")
    )
    return Architecture(
        name=re.sub(r"[^a-z0-9]+", "-", type(module).__name__.lower()).strip("-") or "module",
        summary=f"a {type(module).__name__} of your own",
        build=lambda config: copy.deepcopy(module),
        config=NoOptions,
        inputs=specs,
        outputs=(),
        family="your own",
    )


def parse_inputs(texts: Sequence[str]) -> tuple[tuple[TensorSpec, ...], dict[str, Dim]]:
    """Read declarations like `x: float32[batch, 3, time=32]` into tensor specs and dims.

    A dim may state its default size and which sizes it takes: `height=64 min=32 multiple_of=32`.
    Integers may state what they are below, a number or a dim: `tokens: int64[batch, time] < 32000`.
    """
    specs: list[TensorSpec] = []
    dims: dict[str, Dim] = {}
    for text in texts:
        match = INPUT.fullmatch(text)
        if match is None:
            raise UsageProblem(f"can't read the input {text!r}", INPUT_HINT)
        shape: list[int | str] = []
        for axis in filter(None, (part.strip() for part in match["axes"].split(","))):
            if axis.isdecimal():
                shape.append(int(axis))
            elif named := AXIS.fullmatch(axis):
                shape.append(named["name"])
                dims.setdefault(named["name"], _dim(named["name"], named["size"], named["bounds"], text))
            else:
                raise UsageProblem(f"can't read the axis {axis!r} in {text!r}", INPUT_HINT)
        limit = match["limit"]
        sample = "index" if limit else _sampling_of(match["dtype"])
        index_of = int(limit) if limit and limit.isdecimal() else limit
        specs.append(TensorSpec(match["name"], tuple(shape), match["dtype"], sample, index_of))
    return tuple(specs), dims


def _dim(name: str, size: str | None, bounds: str, text: str) -> Dim:
    """Return a dim as it is declared; by default a batch of 1, or a multiple of what it must be near 8."""
    given = {key: int(value) for key, value in BOUND.findall(bounds)}
    step, least = given.get("multiple_of", 1), given.get("min", 1)
    usual = 1 if name == "batch" else 8
    default = int(size) if size else max(-(-max(usual, least) // step) * step, least)
    try:
        return Dim(default=default, min=least, max=given.get("max"), multiple_of=step)
    except ValueError as error:
        raise UsageProblem(f"{name} in {text!r}: {error}", INPUT_HINT) from error


def _sampling_of(dtype: str) -> str:
    if dtype.startswith(("float", "bfloat", "complex")):
        return "normal"
    # Nothing is known of what integers index, and 0 is the one index that every table has.
    return "mask" if dtype == "bool" else "zeros"


def load_code(reference: str) -> Callable[..., Any]:
    """Return the class or function that `file.py:Class` or `package.module:Class` names.

    Raises UsageProblem where there is none, NnkitError where its file fails when imported.
    """
    place, _, name = reference.rpartition(":")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else import_module(place)
    except FileNotFoundError as error:
        raise UsageProblem(f"there is no file {place}", "check the path") from error
    except ModuleNotFoundError as error:
        raise UsageProblem(f"can't import {place}: {error}", "check the name and PYTHONPATH") from error
    except Exception as error:
        raise NnkitError(
            f"{place} fails when imported: {type(error).__name__}: {error}", "see where: repeat with -v"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageProblem(
            f"{place} has no class or function {name!r}",
            did_you_mean(name, vars(module)) or "write file.py:Class",
        )
    return found  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickles look their module up
    spec.loader.exec_module(module)
    return module


def _config_from_signature(factory: Callable[..., Any]) -> type:
    fields = []
    for parameter in inspect.signature(factory, eval_str=True).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise UsageProblem(
                f"parameter {parameter.name!r} of {factory.__qualname__} has no default",
                "give it one, or name a function that calls it",
            )
        kind = (
            parameter.annotation if parameter.annotation is not parameter.empty else type(parameter.default)
        )
        if _is_option(kind, parameter.default):
            fields.append((parameter.name, kind, dataclasses.field(default=parameter.default)))
    return dataclasses.make_dataclass(f"{factory.__name__}Options", fields, frozen=True, kw_only=True)


def _is_option(kind: Any, default: Any) -> bool:
    """Whether a parameter can be typed as an option; others keep their default."""
    if type(default).__hash__ is None:  # a list, say, which a dataclass takes for no default
        return False
    try:
        msgspec.convert(msgspec.to_builtins(default), kind)
    except (msgspec.ValidationError, TypeError):
        return False
    return True


def parameter_names(forward: Callable[..., Any], count: int) -> list[str]:
    """Return what the first `count` positional parameters of `forward` are called."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except ValueError:  # a forward in TorchScript has none
        parameters = {}.values()
    names = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return [names[i] if i < len(names) else f"input_{i}" for i in range(count)]
