"""A plugin around an existing module: its file is copied unchanged, and the rest is written around it."""

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
from nnkit.contract.architecture import Architecture, ResolvedDim, TensorSpec
from nnkit.contract.config import RESERVED
from nnkit.contract.requests import Host
from nnkit.errors import UsageProblem
from nnkit.models.user_files import required_parameters
from nnkit.models.user_modules import UserCode

CODE = {
    "README.md": "code/README.md",
    "src/$package/build.py": "code/build.py",
    "src/$package/plugin.py": "code/plugin.py",
    "tests/test_$module.py": "code/test.py",
}

MAX_DESCRIPTION = 60  # characters, so that a description fits on its line
PARAMETER = re.compile(r"^\s*(?P<name>\w+)\s*(\([^)]*\))?:\s+(?P<words>\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """A parameter of the user's class as an option: its name, annotation and default as an option."""

    parameter: str
    name: str
    annotation: str
    default: Any


@dataclass(frozen=True)
class CodeProject:
    """The files of a plugin around a module, by path, and notes for its author."""

    files: dict[str, str]
    notes: list[str] = field(default_factory=list)


def project_of_code(names: Names, reference: str, inputs: Sequence[str], host: Host) -> CodeProject:
    """Return the plugin for `file.py:Class` or `package.module:Class`, with its inputs declared.

    Raises UsageProblem for a class that can't be called with only options, NnkitError where it fails.
    """
    code = UserCode.load(reference, inputs)
    reference, factory = code.reference, code.factory
    if required := required_parameters(factory):
        raise UsageProblem(
            f"parameter {required[0]!r} of {factory.__qualname__} has no default",
            "give it one, or name a function that calls it",
        )
    architecture = _adapt(code.complete({}, host))
    if inspect.isclass(factory):
        names = replace(names, network=factory.__name__)
    source = _source_file(reference, factory)
    text = source.read_text("utf-8")
    options, notes = _find_options(architecture, factory)
    findings = find_outputs(architecture, host)
    option_names = {option.parameter: option.name for option in options}
    values = {
        "origin": source.name,
        "factory": reference.rpartition(":")[2],
        "imports": _imports(options, architecture.dims),
        "fields": _fields(options),
        "summary": value_source(_summary(factory)),
        "inputs": _tensors(architecture.inputs_for(None), option_names),
        "outputs": _tensors(findings.outputs, option_names),
        "dims": _dims(findings.dims),
        "arguments": _arguments(options),
        "parameters": f"{findings.parameters:_}",
    }
    model = f"src/{names.package}/model.py"
    values["exclude"] = f'\nextend-exclude = ["{model}"]'
    values["extra"] = fill({"extra": "code/extra.toml"}, names, values)["extra"]
    project = {**fill({**COMMON, **CODE}, names, values), model: text}
    notes += [f"assumed: {line}" for line in architecture.assumed]
    notes += [
        f"size {name} must be {_limits(dim)}, as trial runs show"
        for name, dim in findings.dims.items()
        if dim != architecture.dims[name].resolve({})
    ]
    notes += [
        f"{source.name} imports {name} from its folder, which isn't copied: copy it into "
        f"src/{names.package}, and import it from {names.package}"
        for name in neighbors(text, source.parent)
    ]
    return CodeProject(project, notes)


def _adapt(architecture: Architecture) -> Architecture:
    """Return the architecture without dims that are options, and with floats of the model's own dtype."""
    options = {option.name for option in fields(architecture.config)}
    return replace(
        architecture,
        inputs=tuple(
            replace(tensor, dtype="float") if tensor.dtype == "float32" else tensor
            for tensor in architecture.inputs_for(None)
        ),
        dims={name: dim for name, dim in architecture.dims.items() if name not in options},
    )


def _source_file(reference: str, factory: Any) -> Path:
    module, _, _ = reference.rpartition(":")
    if module.endswith(".py"):
        return Path(module)
    try:
        return Path(inspect.getfile(inspect.unwrap(factory)))
    except TypeError as error:  # written in C
        raise UsageProblem(
            f"{reference} has no source file to copy", "name its file: file.py:Class"
        ) from error


def _find_options(architecture: Architecture, factory: Any) -> tuple[list[Option], list[str]]:
    """Return the options, and a note for each parameter that is not an option or has a different name."""
    options, notes = [], []
    descriptions = _read_descriptions(factory)
    for attribute in fields(architecture.config):
        text = descriptions.get(attribute.name) or f"the parameter {attribute.name} of {factory.__name__}"
        meta = Meta(description=shorten(text, MAX_DESCRIPTION, placeholder=" …"))
        annotation = type_source(Annotated[attribute.type, meta])
        if annotation and attribute.default is not MISSING:
            name = f"model_{attribute.name}" if attribute.name in RESERVED else attribute.name
            options.append(Option(attribute.name, name, annotation, attribute.default))
    written = {option.parameter for option in options}
    for parameter in inspect.signature(factory).parameters.values():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name not in written and not variadic:
            notes.append(
                f"{parameter.name} can't be an option and keeps its default: {_format(parameter.default)}"
            )
    for option in options:
        if option.name != option.parameter:
            flag = f"--{option.parameter.replace('_', '-')}"
            notes.append(f"{option.parameter} becomes {option.name}: {flag} is an option of nnkit")
    return options, notes


def _read_descriptions(factory: Any) -> dict[str, str]:
    """Return the descriptions of parameters in docstrings of a class or function: lines like `width: …`."""
    constructor = getattr(factory, "__init__", None)
    text = f"{factory.__doc__ or ''}\n{constructor.__doc__ or ''}"
    return {match["name"]: match["words"] for match in PARAMETER.finditer(text)}


def _summary(factory: Any) -> str:
    # Not inspect.getdoc: for a class without a docstring it returns that of nn.Module.
    lines = (factory.__doc__ or "").strip().splitlines()
    words = lines[0].rstrip(".") if lines else f"The network {factory.__name__}"
    return shorten(words, MAX_DESCRIPTION, placeholder=" …")


def _format(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def _imports(options: Sequence[Option], dims: Any) -> str:
    annotations = " ".join(option.annotation for option in options)
    typing = [name for name in ("Annotated", "Literal") if f"{name}[" in annotations]
    own = [
        "Architecture",
        *(["Dim"] if dims else []),
        *(["Meta"] if "Meta(" in annotations else []),
        "TensorSpec",
    ]
    return "\n".join(
        [
            "from dataclasses import dataclass",
            *([f"from typing import {', '.join(typing)}"] if typing else []),
            "",
            f"from nnkit import {', '.join(own)}, hookimpl",
        ]
    )


def _fields(options: Sequence[Option]) -> str:
    lines = [
        f"    {option.name}: {option.annotation} = {value_source(option.default)}\n" for option in options
    ]
    return "\n" + "".join(lines) if lines else ""


def _tensors(tensors: Sequence[TensorSpec], option_names: Mapping[str, str]) -> str:
    def rename(axis: Any) -> Any:
        return option_names.get(axis, axis) if isinstance(axis, str) else axis

    lines = []
    for tensor in tensors:
        shape = tuple(rename(axis) for axis in tensor.shape)
        values = {"dtype": tensor.dtype, "sample": tensor.sample, "index_of": rename(tensor.index_of)}
        defaults = {"dtype": "float", "sample": "normal", "index_of": None}
        changed = {key: value for key, value in values.items() if value != defaults[key]}
        lines.append(call_source("TensorSpec", tensor.name, shape, **changed))
    return block_source("[", lines, "]", 12)


def _dims(dims: Mapping[str, ResolvedDim]) -> str:
    lines = []
    for name, dim in dims.items():
        unlimited = ResolvedDim(default=dim.default)
        description = "samples in a batch" if name == "batch" else f"size of axis {name}"
        limits = {key: getattr(dim, key) for key in ("min", "max", "multiple_of")}
        changed = {key: value for key, value in limits.items() if value != getattr(unlimited, key)}
        source = call_source("Dim", default=dim.default, **changed, description=description)
        lines.append(f"{value_source(name)}: {source}")
    return block_source("{", lines, "}", 12)


def _limits(dim: ResolvedDim) -> str:
    limits = []
    if dim.least > 1:
        limits.append(f"at least {dim.least}")
    if dim.max is not None:
        limits.append(f"at most {dim.max}")
    if dim.multiple_of != 1:
        limits.append(f"a multiple of {dim.multiple_of}")
    return " and ".join(limits)


def _arguments(options: Sequence[Option]) -> str:
    lines = "".join(f"        {option.parameter}=config.{option.name},\n" for option in options)
    return f"\n{lines}    " if lines else ""


def neighbors(source: str, folder: Path) -> list[str]:
    """Return the modules in `folder` that a source imports, in order: a copy of the file alone lacks them."""
    imported = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            imported += [f"{'.' * node.level}{node.module or alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.append(node.module.partition(".")[0])
    local = [name for name in imported if name.startswith(".") or _is_in_folder(name, folder)]
    return list(dict.fromkeys(local))


def _is_in_folder(name: str, folder: Path) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
