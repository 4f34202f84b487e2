"""A plugin around a module that its author has already: its file as it is, everything else written for it."""

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

from msgspec import Meta

from nnkit.authoring.scaffold.annotations import block_source, call_source, type_source, value_source
from nnkit.authoring.scaffold.names import Names
from nnkit.authoring.scaffold.outputs import find_outputs
from nnkit.authoring.scaffold.project import COMMON, fill
from nnkit.contract.architecture import Architecture, Dim, TensorSpec
from nnkit.contract.config import RESERVED
from nnkit.contract.requests import Host
from nnkit.errors import UsageProblem
from nnkit.models.user_modules import architecture_of_code, load_code

CODE = {
    "README.md": "code/README.md",
    "src/$package/build.py": "code/build.py",
    "src/$package/plugin.py": "code/plugin.py",
    "tests/test_$module.py": "code/test.py",
}

WIDEST = 60  # characters of a description, to keep it on its line
PARAMETER = re.compile(r"^\s*(?P<name>\w+)\s*(\([^)]*\))?:\s+(?P<words>\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """A parameter of the user's class as an option: what it is called as one, its type, its default."""

    parameter: str
    name: str
    kind: str
    default: Any


@dataclass(frozen=True)
class CodeProject:
    """The files of a plugin around a module, by path, and what its author should know of them."""

    files: dict[str, str]
    notes: list[str] = field(default_factory=list)


def project_of_code(names: Names, reference: str, inputs: Sequence[str], host: Host) -> CodeProject:
    """Return the plugin for `file.py:Class` or `package.module:Class`, with its inputs declared.

    Raises UsageProblem for a class that can't be called with options alone, NnkitError where it fails.
    """
    architecture = _settled(architecture_of_code(reference, inputs))
    factory = load_code(reference)
    if inspect.isclass(factory):
        names = replace(names, network=factory.__name__)
    source = _source_file(reference, factory)
    text = source.read_text("utf-8")
    options, notes = _options(architecture, factory)
    found = find_outputs(architecture, host)
    called = {option.parameter: option.name for option in options}
    values = {
        "origin": source.name,
        "factory": reference.rpartition(":")[2],
        "imports": _imports(options, architecture.dims),
        "fields": _fields(options),
        "summary": value_source(_summary(factory)),
        "inputs": _tensors(architecture.inputs_for(None), called),
        "outputs": _tensors(found.outputs, called),
        "dims": _dims(found.dims),
        "arguments": _arguments(options),
        "parameters": f"{found.parameters:_}",
    }
    model = f"src/{names.package}/model.py"
    values["exclude"] = f'\nextend-exclude = ["{model}"]'
    values["extra"] = fill({"extra": "code/extra.toml"}, names, values)["extra"]
    project = {**fill({**COMMON, **CODE}, names, values), model: text}
    notes += [
        f"the size of {name} is {_limits(dim)}, as trying has shown"
        for name, dim in found.dims.items()
        if dim != architecture.dims[name]
    ]
    notes += [
        f"{source.name} imports {name}, which lies beside it and isn't copied: copy it into "
        f"src/{names.package}, and import it from {names.package}"
        for name in neighbors(text, source.parent)
    ]
    return CodeProject(project, notes)


def _settled(architecture: Architecture) -> Architecture:
    """Return the architecture with axes that are options no dims, and floats of the model's own dtype."""
    options = {each.name for each in fields(architecture.config)}
    return replace(
        architecture,
        inputs=tuple(
            replace(each, dtype="float") if each.dtype == "float32" else each
            for each in architecture.inputs_for(None)
        ),
        dims={name: dim for name, dim in architecture.dims.items() if name not in options},
    )


def _source_file(reference: str, factory: Any) -> Path:
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place)
    try:
        return Path(inspect.getfile(inspect.unwrap(factory)))
    except TypeError as error:  # written in C
        raise UsageProblem(
            f"{reference} has no source file to copy", "name its file: file.py:Class"
        ) from error


def _options(architecture: Architecture, factory: Any) -> tuple[list[Option], list[str]]:
    """Return the options, and a note for each parameter that is none or had to be called otherwise."""
    options, notes = [], []
    described = _described(factory)
    for each in fields(architecture.config):
        words = described.get(each.name) or f"the parameter {each.name} of {factory.__name__}"
        kind = type_source(Annotated[each.type, Meta(description=shorten(words, WIDEST, placeholder=" …"))])
        if kind and each.default is not MISSING:
            name = f"model_{each.name}" if each.name in RESERVED else each.name
            options.append(Option(each.name, name, kind, each.default))
    written = {option.parameter for option in options}
    for parameter in inspect.signature(factory).parameters.values():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name not in written and not variadic:
            notes.append(f"{parameter.name} is no option, and keeps its default: {_shown(parameter.default)}")
    notes += [
        f"{option.parameter} is called {option.name}: --{option.parameter.replace('_', '-')} is nnkit's own"
        for option in options
        if option.name != option.parameter
    ]
    return options, notes


def _described(factory: Any) -> dict[str, str]:
    """Return what the docstrings of a class or function say of its parameters, in lines like `width: …`."""
    text = "\n".join(each.__doc__ or "" for each in (factory, getattr(factory, "__init__", None)))
    return {match["name"]: match["words"] for match in PARAMETER.finditer(text)}


def _summary(factory: Any) -> str:
    # inspect.getdoc would give a class without a docstring that of nn.Module.
    lines = (factory.__doc__ or "").strip().splitlines()
    words = lines[0].rstrip(".") if lines else f"The network {factory.__name__}"
    return shorten(words, WIDEST, placeholder=" …")


def _shown(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def _imports(options: Sequence[Option], dims: Any) -> str:
    kinds = " ".join(option.kind for option in options)
    typing = [name for name in ("Annotated", "Literal") if f"{name}[" in kinds]
    own = ["Architecture", *(["Dim"] if dims else []), *(["Meta"] if "Meta(" in kinds else []), "TensorSpec"]
    return "\n".join(
        [
            "from dataclasses import dataclass",
            *([f"from typing import {', '.join(typing)}"] if typing else []),
            "",
            f"from nnkit import {', '.join(own)}, hookimpl",
        ]
    )


def _fields(options: Sequence[Option]) -> str:
    lines = [f"    {option.name}: {option.kind} = {value_source(option.default)}\n" for option in options]
    return "\n" + "".join(lines) if lines else ""


def _tensors(tensors: Sequence[TensorSpec], called: dict[str, str]) -> str:
    lines = []
    for each in tensors:
        shape = tuple(called.get(axis, axis) if isinstance(axis, str) else axis for axis in each.shape)
        limit = called.get(each.index_of, each.index_of) if isinstance(each.index_of, str) else each.index_of
        named = {"dtype": each.dtype, "sample": each.sample, "index_of": limit}
        usual = {"dtype": "float", "sample": "normal", "index_of": None}
        others = {key: value for key, value in named.items() if value != usual[key]}
        lines.append(call_source("TensorSpec", each.name, shape, **others))
    return block_source("[", lines, "]", 12)


def _dims(dims: Mapping[str, Dim]) -> str:
    lines = []
    for name, dim in dims.items():
        usual = Dim(default=dim.default)
        words = "samples at once" if name == "batch" else f"size of the axis {name}"
        limits = {key: getattr(dim, key) for key in ("min", "max", "multiple_of")}
        others = {key: value for key, value in limits.items() if value != getattr(usual, key)}
        lines.append(
            f"{value_source(name)}: {call_source('Dim', default=dim.default, **others, description=words)}"
        )
    return block_source("{", lines, "}", 12)


def _limits(dim: Dim) -> str:
    words = [] if dim.least <= 1 else [f"at least {dim.least}"]
    words += [] if dim.max is None else [f"at most {dim.max}"]
    words += [] if dim.multiple_of == 1 else [f"a multiple of {dim.multiple_of}"]
    return " and ".join(words)


def _arguments(options: Sequence[Option]) -> str:
    lines = "".join(f"        {option.parameter}=config.{option.name},\n" for option in options)
    return f"\n{lines}    " if lines else ""


def neighbors(source: str, folder: Path) -> list[str]:
    """Return the modules in `folder` that a source imports, in order: what a copy of it alone would miss."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            found += [f"{'.' * node.level}{node.module or alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module.partition(".")[0])
    beside = [name for name in found if name.startswith(".") or _is_beside(name, folder)]
    return list(dict.fromkeys(beside))


def _is_beside(name: str, folder: Path) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
