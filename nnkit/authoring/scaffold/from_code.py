"""A plugin around an existing module: its file is copied unchanged, and the rest is written around it."""

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

from msgspec import Meta

from nnkit.authoring.scaffold.annotations import block_source, type_source, value_source, wrapped_call
from nnkit.authoring.scaffold.names import Names
from nnkit.authoring.scaffold.outputs import find_outputs
from nnkit.authoring.scaffold.project import COMMON, fill
from nnkit.contract.architecture import Architecture, Dim, TensorSpec
from nnkit.contract.config import RESERVED, make_config, options_of
from nnkit.contract.requests import Host
from nnkit.contract.signature import is_within
from nnkit.contract.spec import make_spec
from nnkit.errors import UsageProblem
from nnkit.models.building import build_module
from nnkit.models.running import signature_of
from nnkit.models.user_modules import UserCode, option_name

CODE = {
    "README.md": "code/README.md",
    "src/$package/build.py": "code/build.py",
    "src/$package/plugin.py": "code/plugin.py",
    "tests/test_$module.py": "code/test.py",
}

MAX_DESCRIPTION = 60  # characters, so that a description fits on its line
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
LIMITS = ("min", "max", "multiple_of")
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


def project_of_code(
    names: Names, reference: str, inputs: Sequence[str], chosen: Mapping[str, str], host: Host
) -> CodeProject:
    """Return the plugin for `file.py:Class` or `package.module:Class`, with its inputs declared.

    chosen: values of parameters, which become the defaults of options.
    Raises UsageProblem for a class that can't be called with only options, NnkitError where it fails.
    """
    code = UserCode.load(reference, inputs)
    reference, factory = code.reference, code.factory
    if not inspect.isclass(factory) and hasattr(factory, "forward"):
        raise UsageProblem(f"{reference} is a module that is already built", "name its class, or a function")
    defaults = _choose_defaults(code, chosen)
    architecture = code.complete(vars(defaults), host)
    architecture = _adapt(replace(architecture, config=_type_with(defaults)), host)
    nested = _find_nested(factory)
    if inspect.isclass(factory):
        names = replace(names, network=factory.__name__)
    source = _source_file(reference, factory)
    text = source.read_text("utf-8")
    options, notes = _find_options(architecture, factory, nested)
    findings = find_outputs(architecture, host)
    option_names = {option.parameter: option.name for option in options}
    values = {
        "origin": source.name,
        "factory": reference.rpartition(":")[2],
        "imports": _imports(options, architecture.dims),
        "fields": _fields(options),
        "summary": value_source(_summary(factory)),
        "inputs": _tensors(_needed(architecture.inputs_for(None), findings.required), option_names),
        "outputs": _tensors(findings.outputs, option_names),
        "dims": _dims(findings.dims, option_names),
        "more": _constants(architecture) + _constraints(findings.constraints, option_names),
        "arguments": _arguments(options, nested),
        "nested": "".join(
            f"from {names.package}.model import {kind.__name__} as {_alias(kind)}\n"
            for kind in sorted(set(nested.values()), key=lambda kind: kind.__name__)
        ),
        "parameters": f"{findings.parameters:_}",
    }
    model = f"src/{names.package}/model.py"
    values["exclude"] = f'\nextend-exclude = ["{model}"]'
    values["extra"] = fill({"extra": "code/extra.toml"}, names, values)["extra"]
    project = {**fill({**COMMON, **CODE}, names, values), model: text}
    notes += [f"assumed: {line}" for line in architecture.assumed]
    notes += [
        f"size {name} must be {_limit_words(dim, option_names)}, as trial runs show"
        for name, dim in findings.dims.items()
        if not _same_limits(dim, architecture.dims[name])
    ]
    notes += [
        f"sizes must satisfy {_rename(constraint, option_names)}, as trial runs show"
        for constraint in findings.constraints
    ]
    notes += [f"input {name} isn't optional: forward fails without it" for name in findings.required]
    notes += [
        f"{source.name} imports {name} from its folder, which isn't copied: copy it into "
        f"src/{names.package}, and import it from {names.package}"
        for name in neighbors(text, source.parent)
    ]
    return CodeProject(project, notes)


def _choose_defaults(code: UserCode, chosen: Mapping[str, str]) -> Any:
    """Return a config with the default of each option; raises UsageProblem where a parameter has none."""
    config = code.architecture().config
    values = {option_name(name): value for name, value in chosen.items()}
    for option in options_of(config):
        if option.required and option.name not in values:
            parameter = option.name.removeprefix("model_")
            raise UsageProblem(
                f"parameter {parameter!r} of {code.factory.__qualname__} has no default",
                f"choose one for its option: --set {parameter}=8",
            )
    known = {attribute.name for attribute in fields(config)}
    renamed = {
        name if name in known else name.removeprefix("model_"): value for name, value in values.items()
    }
    return make_config(config, renamed)


def _type_with(defaults: Any) -> type:
    """Return the type of a config, with the values of this one as its defaults."""
    attributes = [
        (
            attribute.name,
            type(getattr(defaults, attribute.name)) if attribute.type is Any else attribute.type,
            field(default=getattr(defaults, attribute.name)),
        )
        for attribute in fields(defaults)
    ]
    return make_dataclass(type(defaults).__name__, attributes, frozen=True, kw_only=True)


def _find_nested(factory: Any) -> dict[str, type]:
    """Return the parameters that take a dataclass, whose fields are options: `config: NetConfig`."""
    parameters = inspect.signature(factory, eval_str=True).parameters.values()
    return {
        parameter.name: parameter.annotation
        for parameter in parameters
        if parameter.default is parameter.empty
        and inspect.isclass(parameter.annotation)
        and is_dataclass(parameter.annotation)
    }


def _alias(kind: type) -> str:
    """Return the name of a dataclass of the model in the build file, where the plugin may have its name."""
    return f"Model{kind.__name__}"


def _adapt(architecture: Architecture, host: Host) -> Architecture:
    """Return the architecture without dims that are options, with floats of the model's own dtype, and with
    an optional input for each parameter of forward that is None by default.
    """
    options = {option.name for option in fields(architecture.config)}
    architecture = replace(
        architecture, dims={name: dim for name, dim in architecture.dims.items() if name not in options}
    )
    optional = _optional_parameters(architecture, host)
    inputs = tuple(
        replace(
            tensor,
            dtype="float" if tensor.dtype == "float32" else tensor.dtype,
            optional=tensor.optional or tensor.name.partition(".")[0] in optional,
        )
        for tensor in architecture.inputs_for(None)
    )
    return replace(architecture, inputs=inputs)


def _optional_parameters(architecture: Architecture, host: Host) -> set[str]:
    """Return the parameters of forward that are None by default."""
    spec = make_spec(architecture)
    try:
        module = build_module(spec, host, "meta")
    except Exception:
        module = build_module(spec, host)
    signature = signature_of(module)
    parameters = signature.parameters.values() if signature else ()
    return {parameter.name for parameter in parameters if parameter.default is None}


def _needed(tensors: Sequence[TensorSpec], required: Sequence[str]) -> list[TensorSpec]:
    """Return the inputs, those within `required` not optional."""
    return [
        replace(tensor, optional=False) if any(is_within(tensor.name, name) for name in required) else tensor
        for tensor in tensors
    ]


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


def _find_options(
    architecture: Architecture, factory: Any, nested: Mapping[str, type]
) -> tuple[list[Option], list[str]]:
    """Return the options, and a note for each parameter that is not an option or has a different name."""
    options, notes = [], []
    parameters = inspect.signature(factory).parameters
    descriptions = _read_descriptions(factory)
    for kind in nested.values():
        descriptions |= _read_descriptions(kind)
    for attribute in fields(architecture.config):
        required = attribute.name.removeprefix("model_")
        is_own = attribute.name in parameters or required not in parameters
        text = descriptions.get(attribute.name) or f"the parameter {attribute.name} of {factory.__name__}"
        meta = Meta(description=shorten(text.rstrip("."), MAX_DESCRIPTION, placeholder=" …"))
        annotation = type_source(Annotated[attribute.type, meta])
        if annotation and attribute.default is not MISSING:
            name = f"model_{attribute.name}" if attribute.name in RESERVED else attribute.name
            parameter_name = attribute.name if is_own else required
            options.append(Option(parameter_name, name, annotation, attribute.default))
    written = {option.parameter for option in options}
    for parameter in parameters.values():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name not in written | nested.keys() and not variadic:
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
    lines = []
    for tensor in tensors:
        shape = tuple(_rename(axis, option_names) for axis in tensor.shape)
        values = {attribute.name: getattr(tensor, attribute.name) for attribute in fields(TensorSpec)}
        changed = {
            attribute.name: _rename(values[attribute.name], option_names)
            for attribute in fields(TensorSpec)
            if attribute.default is not MISSING and values[attribute.name] != attribute.default
        }
        lines.append(wrapped_call("", "TensorSpec", tensor.name, shape, indent=16, **changed))
    return block_source("[", lines, "]", 12)


def _rename(value: Any, option_names: Mapping[str, str]) -> Any:
    """Return an axis or a bound with the names that its options have in the plugin."""
    if not isinstance(value, str):
        return value
    return IDENTIFIER.sub(lambda match: option_names.get(match[0], match[0]), value)


def _dims(dims: Mapping[str, Dim], option_names: Mapping[str, str]) -> str:
    lines = []
    for name, dim in dims.items():
        description = "samples in a batch" if name == "batch" else f"size of axis {name}"
        limits = {
            attribute.name: _rename(getattr(dim, attribute.name), option_names)
            for attribute in fields(Dim)
            if attribute.name in LIMITS and getattr(dim, attribute.name) != attribute.default
        }
        prefix, default = f"{value_source(name)}: ", _rename(dim.default, option_names)
        lines.append(
            wrapped_call(prefix, "Dim", indent=16, default=default, **limits, description=description)
        )
    return block_source("{", lines, "}", 12)


def _limit_words(dim: Dim, option_names: Mapping[str, str]) -> str:
    """Return the sizes that a dim may take: `at least 4 and a multiple of 2**levels`."""
    least = dim.min if dim.depends_on else dim.least
    limits = [] if least in (0, 1) else [f"at least {least}"]
    if dim.max is not None:
        limits.append(f"at most {dim.max}")
    if dim.multiple_of != 1:
        limits.append(f"a multiple of {dim.multiple_of}")
    return str(_rename(" and ".join(limits), option_names))


def _same_limits(dim: Dim, other: Dim) -> bool:
    return all(getattr(dim, name) == getattr(other, name) for name in LIMITS)


def _constants(architecture: Architecture) -> str:
    """Return the line that declares the constants, or an empty string."""
    constants = architecture.constants_for(None)
    items = ", ".join(f"{value_source(name)}: {value_source(value)}" for name, value in constants.items())
    return f"            constants={{{items}}},\n" if items else ""


def _constraints(constraints: Sequence[str], option_names: Mapping[str, str]) -> str:
    """Return the line that declares what holds sizes together, or an empty string."""
    renamed = tuple(_rename(constraint, option_names) for constraint in constraints)
    return f"            constraints={value_source(renamed)},\n" if renamed else ""


def _arguments(options: Sequence[Option], nested: Mapping[str, type]) -> str:
    """Return the arguments that build the module: options by name, those of a dataclass within it."""
    owners = {attribute.name: name for name, kind in nested.items() for attribute in fields(kind)}
    lines = [f"{option.parameter}=config.{option.name}," for option in options]
    own = [line for option, line in zip(options, lines, strict=True) if option.parameter not in owners]
    for name, kind in nested.items():
        parts = [
            f"    {line}"
            for option, line in zip(options, lines, strict=True)
            if owners.get(option.parameter) == name
        ]
        own += [f"{name}={_alias(kind)}(", *parts, "),"] if parts else [f"{name}={_alias(kind)}(),"]
    return "\n" + "".join(f"        {line}\n" for line in own) + "    " if own else ""


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
