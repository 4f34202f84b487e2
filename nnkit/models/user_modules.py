"""Turn modules of the user's own into architectures, so that every verb works on them unchanged.

`file.py:Class` and `package.module:Class` are typed by the user: code runs only because the user named it.
"""

import copy
import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec.inspect

from nnkit.contract.architecture import Architecture
from nnkit.contract.config import REQUIRED, RESERVED, options_of
from nnkit.contract.declarations import inputs_problem
from nnkit.contract.input_declarations import parse_inputs
from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.contract.text import without_drive
from nnkit.errors import UsageProblem
from nnkit.models.forward_source import needed_inputs, required_parameters
from nnkit.models.hubconf import is_hub_folder, load_entrypoint
from nnkit.models.user_files import load_code, modules_of_file, own_summary

CONFIGS = frozenset({"args", "cfg", "config", "configuration", "hparams", "opt", "opts"})
"""Names of parameters that take an object, whatever its type."""


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The config of a module that is already built: it has no options."""


@dataclass(frozen=True)
class UserCode:
    """What `file.py:Class` names, and the inputs that the user declared for it.

    Attributes:
        reference: What the user typed for it.
        factory: The class or function, or a module that is already built.
        inputs: What `forward` takes, each like `x: float32[batch, 3, 224, 224]`; see parse_inputs.
    """

    reference: str
    factory: Callable[..., Any]
    inputs: tuple[str, ...] = ()

    @classmethod
    def load(cls, reference: str, inputs: Sequence[str] = ()) -> "UserCode":
        """Import what a reference names: of a file, the only module in it; of a folder, an entrypoint."""
        if ":" not in without_drive(reference):
            reference = name_only_module(reference)
        load = load_entrypoint if is_hub_folder(reference.rpartition(":")[0]) else load_code
        return cls(reference, load(reference), tuple(inputs))

    @property
    def may_lack_inputs(self) -> bool:
        """Whether `forward` may take inputs that are not declared; to know, a module may have to be built."""
        if not hasattr(self.factory, "forward"):  # a function, whose module isn't known yet
            return not self.inputs
        forward = self.factory.forward
        if self.inputs and str(forward.__module__).startswith("torch."):  # whose names mean nothing
            return False
        if needed_inputs(forward, parse_inputs(self.inputs).names):
            return True
        return not self.inputs and _takes_anything(forward, isinstance(self.factory, type))

    def architecture(self) -> Architecture:
        """Return the architecture with the inputs declared.

        Its options are the parameters of the class that have a type that an option can have.
        """
        declared = parse_inputs(self.inputs)
        build, config = make_builder(self.factory)
        # An axis with the name of an option has the option's value, unless it is given a size of its own.
        followed = {option.name for option in options_of(config)} - declared.sized
        name = re.sub(r"[^a-z0-9]+", "-", self.reference.rpartition(":")[2].lower()).strip("-")
        architecture = Architecture(
            name=name or "module",
            summary=own_summary(self.factory) or self.reference,
            build=build,
            config=config,
            inputs=declared.tensors,
            outputs=(),
            dims={name: dim for name, dim in declared.dims.items() if name not in followed},
            constants=declared.constants,
            family="your own",
            typed=(self.reference, *(word for text in self.inputs for word in ("--input", text))),
        )
        # A parameter of the class with the name of one of nnkit's own options keeps its default.
        if hiding := sorted(RESERVED & set(architecture.dims)):
            option = hiding[0].replace("_", "-")
            raise UsageProblem(f"the axis {hiding[0]!r} would hide nnkit's own --{option}", "rename the axis")
        if problem := inputs_problem(architecture):
            raise UsageProblem(f"{self.reference}: {problem}", "give it a different name")
        return architecture

    def complete(self, options: Mapping[str, Any], host: Host) -> Architecture:
        """Return the architecture with the inputs that are not declared as well, which are guessed.

        options: those of the class, as the user chose them, and perhaps others. Raises UsageProblem, which
        asks for what can't be guessed.
        """
        if not self.may_lack_inputs:
            return self.architecture()
        from nnkit.models.building import build_module, build_without_weights
        from nnkit.models.guesses import guess_inputs
        from nnkit.models.process import neutral_torch
        from nnkit.models.weightless import parameter_bytes

        fields = {option.name for option in options_of(self.architecture().config)}
        chosen = {name: value for name, value in options.items() if name in fields}

        def spec_with(texts: Sequence[str]) -> ModelSpec:
            architecture = replace(self, inputs=tuple(texts)).architecture()
            return make_spec(replace(architecture, name=self.reference, typed=()), options=chosen)

        spec = spec_with(self.inputs)
        with neutral_torch(""):
            module = build_without_weights(spec, host, SMALL_WEIGHTS)
            size = parameter_bytes(module)
            if size <= SMALL_WEIGHTS:
                module = build_module(spec, host)
            try:
                guesses = guess_inputs(module, self.reference, self.inputs, spec_with)
            except UsageProblem:
                if not SMALL_WEIGHTS < size <= LARGE_WEIGHTS:
                    raise
                module = build_module(spec, host)  # it may need values to run
                guesses = guess_inputs(module, self.reference, self.inputs, spec_with)
        texts = (*self.inputs, *(guess.text for guess in guesses))
        assumed = tuple(map(str, guesses))
        return replace(replace(self, inputs=texts).architecture(), assumed=assumed)


SMALL_WEIGHTS = 8 * 2**20  # bytes; larger ones are tried on the meta device, where runs cost next to no time
LARGE_WEIGHTS = 512 * 2**20


def name_only_module(location: str) -> str:
    """Return `net.py:Net` for `net.py`, if that is the only module in it.

    Raises UsageProblem, which lists them, if there are several or none.
    """
    found = modules_of_file(location)
    if not found:
        raise UsageProblem(
            f"{location} has no torch.nn.Module", f"name what returns one: {location}:function"
        )
    references = {name: f"{location}:{name}" for name in found}
    if len(found) == 1:
        return next(iter(references.values()))
    width = max(map(len, references.values()))
    raise UsageProblem(
        f"{location} has {len(found)} modules",
        f"name one: {list(references.values())[-1]}",
        [f"{references[name]:{width}}  {_describe(factory)}".rstrip() for name, factory in found.items()],
    )


def _describe(factory: Callable[..., Any]) -> str:
    """Return the first line of a docstring, and what has to be given: `A small net (needs --width)`."""
    try:
        options = options_of(make_builder(factory)[1])
        needed = [option.flag for option in options if option.required]
    except UsageProblem:  # it can't be given on a command line
        needed = required_parameters(factory)
    return " ".join(filter(None, (own_summary(factory), f"(needs {', '.join(needed)})" if needed else "")))


def architecture_of_code(reference: str, inputs: Sequence[str]) -> Architecture:
    """Return the architecture for `file.py:Class` or `package.module:Class` with these inputs."""
    return UserCode.load(reference, inputs).architecture()


def _takes_anything(forward: Callable[..., Any], is_class: bool) -> bool:
    try:
        return len(inspect.signature(forward).parameters) > is_class
    except (ValueError, TypeError):  # a forward in TorchScript has none
        return False


def make_builder(factory: Callable[..., Any]) -> tuple[Callable[[Any], Any], type]:
    """Return a function of a config that calls a factory, and the type of that config.

    Parameters that can be typed are its fields. Of a dataclass that has to be given (`config:
    GPTConfig`), the fields are. A parameter without a default is a required option.
    """
    if not isinstance(factory, type) and hasattr(factory, "forward"):  # a module
        return lambda config: copy.deepcopy(factory), NoOptions
    fields: list[tuple[str, Any, Any]] = []
    nested: dict[str, type] = {}
    for parameter in _signature(factory).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation, is_required = parameter.annotation, parameter.default is parameter.empty
        if is_required and isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            nested[parameter.name] = annotation
            fields += _fields_of(annotation, factory)
        elif field := _field(factory, parameter.name, annotation, parameter.default):
            fields.append(field)
    config = dataclasses.make_dataclass(f"{factory.__name__}Options", fields, frozen=True, kw_only=True)

    def build(options: Any) -> Any:
        names = {option_name(name): name for name in required_parameters(factory)}
        values = {names.get(name, name): value for name, value in vars(options).items()}
        objects = {}
        for name, kind in nested.items():
            parts = {field.name for field in dataclasses.fields(kind)} & values.keys()
            objects[name] = kind(**{part: values.pop(part) for part in parts})
        return factory(**values, **objects)

    return build, config


def _fields_of(kind: Any, factory: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Return the fields of a dataclass that can be typed, with their defaults."""
    annotations = {parameter.name: parameter.annotation for parameter in _signature(kind).parameters.values()}
    fields = []
    for field in dataclasses.fields(kind):
        if field.init:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            elif default is dataclasses.MISSING:
                default = inspect.Parameter.empty
            fields.append(_field(factory, field.name, annotations[field.name], default))
    return [field for field in fields if field]


def _field(factory: Callable[..., Any], name: str, annotation: Any, default: Any) -> Any:
    """Return the field for a parameter, or None if it can't be typed and keeps its default.

    Raises UsageProblem if it has none.
    """
    if default is not inspect.Parameter.empty:
        option_type = type(default) if annotation is inspect.Parameter.empty else annotation
        if not _is_option(option_type, default):
            return None
        return name, option_type, dataclasses.field(default=default)
    option_type = Any if annotation is inspect.Parameter.empty else annotation
    if not _can_be_typed(option_type) or (option_type is Any and name in CONFIGS):
        function = f"def small() -> {factory.__name__}: return {factory.__name__}({name}=…)"
        raise UsageProblem(
            f"parameter {name!r} of {factory.__qualname__} has no default, and can't be an option",
            f"write a function that gives it, and name that one: {function}",
        )
    return option_name(name), option_type, dataclasses.field(default=REQUIRED)


def option_name(parameter: str) -> str:
    """Return the option for a required parameter: `model_depth` for `depth`, since nnkit has a `--depth`."""
    return f"model_{parameter}" if parameter in RESERVED else parameter


def _can_be_typed(option_type: Any) -> bool:
    """Whether some text on a command line can be a value of a type."""
    try:
        return _is_typable(msgspec.inspect.type_info(option_type))
    except (TypeError, RuntimeError):  # a type that msgspec doesn't know
        return False


def _is_typable(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.Metadata():
            return _is_typable(kind.type)
        case msgspec.inspect.UnionType():
            return any(map(_is_typable, kind.types))
        case msgspec.inspect.VarTupleType():
            return _is_typable(kind.item_type)
    plain = (
        msgspec.inspect.AnyType, msgspec.inspect.BoolType, msgspec.inspect.IntType,
        msgspec.inspect.FloatType, msgspec.inspect.StrType, msgspec.inspect.LiteralType,
        msgspec.inspect.EnumType,
    )  # fmt: skip
    return isinstance(kind, plain)


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
