"""Turn modules of the user's own into architectures, so that every verb works on them unchanged.

`file.py:Class` and `package.module:Class` are typed by the user: code runs only because the user named it.
"""

import dataclasses
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from nnkit.contract.architecture import Architecture
from nnkit.contract.config import RESERVED, options_of
from nnkit.contract.declarations import shape_problem
from nnkit.contract.input_declarations import HINT, parse_inputs, sized_axes
from nnkit.errors import NnkitError, UsageProblem, did_you_mean, first_line
from nnkit.models.user_lines import at_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The config of a module that is already built: it has no options."""


def architecture_of_code(reference: str, inputs: Sequence[str]) -> Architecture:
    """Return the architecture for `file.py:Class` or `package.module:Class`.

    Its options are the parameters of the class that have a default and a type that an option can have.
    inputs: what `forward` takes, in order, each like `x: float32[batch, 3, 224, 224]`; see parse_inputs.
    """
    factory = load_code(reference)
    specs, dims = parse_inputs(inputs)
    if not specs and (required := _required_inputs(factory)):
        raise UsageProblem(f"{reference} needs its inputs declared: {', '.join(required)}", HINT)
    config = _make_config(factory)
    # An axis with the name of an option has the option's value, unless it is given a size of its own.
    options, sized = {option.name for option in options_of(config)}, sized_axes(inputs)
    name = re.sub(r"[^a-z0-9]+", "-", reference.rpartition(":")[2].lower()).strip("-")
    architecture = Architecture(
        name=name or "module",
        summary=first_line(inspect.getdoc(factory) or reference),
        build=lambda config: factory(**vars(config)),
        config=config,
        inputs=specs,
        outputs=(),
        dims={name: dim for name, dim in dims.items() if name not in options - sized},
        family="your own",
        typed=(reference, *(word for text in inputs for word in ("--input", text))),
    )
    # A parameter of the class with the name of one of nnkit's own options keeps its default.
    if hiding := sorted(RESERVED & set(architecture.dims)):
        option = hiding[0].replace("_", "-")
        raise UsageProblem(f"the axis {hiding[0]!r} would hide nnkit's own --{option}", "rename the axis")
    if problem := shape_problem(architecture):
        raise UsageProblem(f"{reference}: {problem}", "give it a different name")
    return architecture


def _required_inputs(factory: Callable[..., Any]) -> list[str]:
    """Return the required inputs of a class's forward; none for a function, whose module isn't known yet."""
    forward = getattr(factory, "forward", None) if isinstance(factory, type) else None
    try:
        parameters = list(inspect.signature(forward).parameters.values())[1:] if forward else []
    except ValueError:  # a forward in TorchScript has none
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind not in optional
    ]


def load_code(reference: str) -> Callable[..., Any]:
    """Return the class or function that `file.py:Class` or `package.module:Class` names.

    Raises UsageProblem where there is none, NnkitError where its file fails when imported.
    """
    location, _, name = reference.rpartition(":")
    try:
        module = _import_file(Path(location)) if location.endswith(".py") else import_module(location)
    except FileNotFoundError as error:
        raise UsageProblem(f"file {location} does not exist{at_line(error)}", "check the path") from error
    except ModuleNotFoundError as error:
        hint = "check the name and PYTHONPATH, or install the package"
        raise UsageProblem(f"can't import {location}: {error}{at_line(error)}", hint) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, for example
        problem = f"{type(error).__name__}: {first_line(error)}"
        raise NnkitError(
            f"{location} fails when imported{at_line(error)}: {problem}", "see the full error with -v"
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UsageProblem(
            f"{location} has no class or function {name!r}",
            did_you_mean(name, vars(module)) or "write file.py:Class",
        )
    return factory  # type: ignore[no-any-return]


_imported_from: dict[str, set[str]] = {}
"""For each folder of an imported file, the modules that were imported from the same folder."""


def _import_file(path: Path) -> Any:
    """Import a file as `python FILE` runs it: it can import its neighbors, also later on."""
    if not path.is_file():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    with _importing_from(str(path.resolve().parent)):
        sys.modules.setdefault(path.stem, module)  # dataclasses and pickles look their module up
        spec.loader.exec_module(module)
    return module


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """Put a folder first on the import path; forget modules imported from the folders of other files."""
    for other in _imported_from.keys() - {folder}:
        for name in _imported_from.pop(other):
            sys.modules.pop(name, None)
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # last, for imports inside forward
        new = {name for name in sys.modules.keys() - before if _is_in(sys.modules[name], folder)}
        _imported_from.setdefault(folder, set()).update(new)


def _is_in(module: Any, folder: str) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(folder + os.sep)


def _make_config(factory: Callable[..., Any]) -> type:
    fields = []
    for parameter in _signature(factory).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise UsageProblem(
                f"parameter {parameter.name!r} of {factory.__qualname__} has no default",
                "give it one, or name a function that calls it",
            )
        annotation = parameter.annotation
        option_type = type(parameter.default) if annotation is parameter.empty else annotation
        if _is_option(option_type, parameter.default):
            fields.append((parameter.name, option_type, dataclasses.field(default=parameter.default)))
    return dataclasses.make_dataclass(f"{factory.__name__}Options", fields, frozen=True, kw_only=True)


def _signature(factory: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, with string annotations evaluated where possible."""
    try:
        return inspect.signature(factory, eval_str=True)
    except ValueError as error:  # a builtin, for example
        raise UsageProblem(
            f"{factory!r} can't be built: {error}", "write a function that builds it"
        ) from error
    except Exception:  # an annotation names something that is imported only for type checkers
        return inspect.signature(factory)


def _is_option(option_type: Any, default: Any) -> bool:
    """Whether a parameter can be typed as an option; others keep their default."""
    if type(default).__hash__ is None:  # a list, for example, which a dataclass refuses as a default
        return False
    try:
        msgspec.convert(msgspec.to_builtins(default), option_type)
    except (msgspec.ValidationError, TypeError):
        return False
    return True


def parameter_names(forward: Callable[..., Any], count: int) -> list[str]:
    """Return the names of the first `count` positional parameters of `forward`."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except ValueError:  # a forward in TorchScript has none
        parameters = {}.values()
    names = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return [*names[:count], *(f"input_{index}" for index in range(len(names), count))]
