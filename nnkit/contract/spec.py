"""ModelSpec, which every command works on, and its form as plain data and YAML. Torch-free."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnkit.contract.architecture import Architecture, Preset, TensorSpec
from nnkit.contract.axes import LARGEST, size_of
from nnkit.contract.config import config_values, make_config, options_of, typed_words
from nnkit.contract.signature import Signature, is_within, prefixes_of
from nnkit.contract.sizes import Dims
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean, first_line

FORMAT = 1
KEYS = (
    "nnkit", "architecture", "config", "sizes", "without", "seed", "dtype", "weights", "key", "strip_prefix",
    "strict",
)  # fmt: skip
PART = ("key", "strip_prefix")
"""What of the file of weights is the model's; see ModelSpec."""
KINDS: Mapping[str, tuple[type, ...]] = {
    "architecture": (str,), "config": (dict,), "sizes": (dict,), "without": (list,), "seed": (int,),
    "dtype": (str,), "weights": (str, type(None)), "key": (str, type(None)),
    "strip_prefix": (str, type(None)), "strict": (bool,),
}  # fmt: skip
"""The exact types of each key's value: a bool is not a seed."""

DTYPES = ("float32", "float64", "float16", "bfloat16")
AS_BUILT = "as built"  # no dtype was given: each weight keeps its own


@dataclass(frozen=True)
class ModelSpec:
    """An architecture with every choice made: two equal specs give the same model, bit for bit.

    Attributes:
        architecture: The architecture.
        plugin: The plugin that declared it; empty for a module of the user's own.
        config: An instance of the architecture's config type.
        sizes: The size of every dim that the inputs use.
        seed: The seed of the weights and of random inputs.
        dtype: The dtype of the weights, by name. `as built`: each weight keeps its own.
        weights: Path of the file that the weights come from. None: random ones.
        strict: Whether that file must have exactly the model's tensors. If not, only those in both are
            loaded.
        without: The optional inputs that are left out.
        key: Where in the file of weights the state dict is: `model_ema`. None: it is found.
        strip_prefix: What is taken off the names in that file: `module.`. None: it is found.

    Example:

        spec = resolve("resnet18", num_classes=10, batch=8)
        assert (spec.name, spec.config.num_classes, spec.sizes["batch"]) == ("vision/resnet18", 10, 8)
    """

    architecture: Architecture
    plugin: str
    config: Any
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    dtype: str = AS_BUILT
    weights: str | None = None
    strict: bool = True
    without: tuple[str, ...] = ()
    key: str | None = None
    strip_prefix: str | None = None

    @property
    def name(self) -> str:
        """The qualified name, `plugin/architecture`, which always resolves."""
        owner = self.architecture.namespace or self.plugin
        return f"{owner}/{self.architecture.name}" if owner else self.architecture.name

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that `forward` is given, in declared order, without the optional ones left out."""
        return tuple(tensor for tensor in self.declared_inputs if not self._leaves_out(tensor.name))

    @property
    def declared_inputs(self) -> tuple[TensorSpec, ...]:
        """All tensors that `forward` takes under this config, optional ones included."""
        return self.architecture.inputs_for(self.config)

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """What can be left out, each a tensor or all that a dotted name holds: `mask`, `cache`."""
        return optional_units(self.declared_inputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The dotted names of the tensors that `forward` is given, in declared order."""
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def signature(self) -> Signature:
        """How the inputs, in declared order, are passed to `forward`."""
        constants = self.architecture.constants_for(self.config)
        kept = {name: value for name, value in constants.items() if not self._leaves_out(name)}
        return Signature(self.input_names, kept, self.architecture.containers)

    def _leaves_out(self, name: str) -> bool:
        return any(is_within(name, unit) for unit in self.without)

    @property
    def dims(self) -> Dims:
        """The dims in use, with numbers for their bounds."""
        return _resolve_dims(self.architecture, self.config, self.without)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `forward` returns under this config."""
        return self.architecture.outputs_for(self.config)

    @property
    def typed(self) -> tuple[str, ...]:
        """The words for it on a command line, complete; empty for a module passed from Python."""
        reference = (self.name,) if self.plugin else self.architecture.typed
        if not reference:
            return ()
        words = [*reference, *typed_words(self.config)]
        dims = self.dims
        for name, size in self.sizes.items():
            if size != dims[name].default:
                words += [f"--{name.replace('_', '-')}", str(size)]
        units = {name: _is_given(self.declared_inputs, name) for name in self.optional_inputs}
        for unit, given in units.items():
            if given == self._leaves_out(unit):
                words += ["--without" if given else "--with", unit]
        if self.seed:
            words += ["--seed", str(self.seed)]
        if self.dtype != AS_BUILT:
            words += ["--dtype", self.dtype]
        if self.weights is not None:
            words += ["--weights", self.weights]
        for name, value in self._part.items():
            words += [f"--{core_option(self.architecture, name).replace('_', '-')}", value]
        return (*words, *(() if self.strict else ("--no-strict",)))

    @property
    def _part(self) -> dict[str, str]:
        """What was chosen of the file of weights."""
        chosen = {name: getattr(self, name) for name in PART} if self.weights is not None else {}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def reference(self) -> str:
        """What the user typed for it without its options, or its name for a module that Python gave."""
        return self.name if self.plugin else next(iter(self.architecture.typed), self.name)

    def forward_problem(self, message: str, hint: str) -> NnkitError:
        """Return the error for a forward that fails on the declared inputs.

        It is a PluginProblem if the user chose nothing, because then the declaration itself is at fault.
        """
        if not self.plugin:
            typed = f", as typed: {shlex.join(self.typed)}" if self.typed else ""
            return NnkitError(message, f"{hint}{typed}")
        if self.typed != (self.name,):
            return NnkitError(
                message, f"{hint}; and see whether it runs as declared: nnkit summary {self.name}"
            )
        inputs = ", ".join(
            f"{tensor.name}: {tensor.dtype}[{', '.join(map(str, tensor.shape))}]" for tensor in self.inputs
        )
        return PluginProblem(
            message,
            f"plugin {self.plugin} declares {inputs}, on which its own forward fails; "
            "report it to its author",
        )

    def require_support(self, *names: str) -> None:
        """Raise PluginProblem if one of `names` (`export`, `onnx`) is declared unsupported."""
        for name in names:
            if reason := self.architecture.unsupported.get(name):
                raise PluginProblem(
                    f"{self.name} doesn't support {name}: {reason}", f"see nnkit info {self.name}"
                )

    def command(self, verb: str, *more: str) -> str:
        """Return the command line that runs a verb on it, with `more` words; see `typed`."""
        return shlex.join(["nnkit", verb, *self.typed, *more])

    def with_inputs(self, without: Iterable[str]) -> "ModelSpec":
        """Return the same model with only these optional inputs left out; their dims have default sizes."""
        other = replace(self, without=tuple(without))
        sizes = {name: self.sizes.get(name, dim.default) for name, dim in other.dims.items()}
        return replace(other, sizes=other.dims.satisfy(sizes) or sizes)

    def with_sizes(self, sizes: Mapping[str, int]) -> "ModelSpec":
        """Return the same model for inputs of other sizes."""
        return replace(self, sizes={**self.sizes, **sizes})

    def shape(self, tensor: TensorSpec, sizes: Mapping[str, int] | None = None) -> tuple[int, ...]:
        """Return the shape of a declared tensor, its dims and config fields filled in."""
        values = {**self.dims.known, **self.sizes, **(sizes or {})}
        try:
            return tuple(size_of(axis, values) for axis in tensor.shape)
        except ValueError as error:
            raise UsageProblem(f"the shape of {tensor.name!r}: {error}", "correct the declaration") from error
        except KeyError as error:
            raise UsageProblem(
                f"the shape of {tensor.name!r} names {error.args[0]!r}, which is not a dim of {self.name}",
                "declare it in dims, or as an integer field of the config",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data, complete: nothing depends on defaults."""
        return {
            "nnkit": FORMAT,
            "architecture": self.name,
            "config": config_values(self.config),
            "sizes": dict(self.sizes),
            **({"without": list(self.without)} if self.optional_inputs else {}),
            "seed": self.seed,
            "dtype": self.dtype,
            "weights": self.weights,
            **self._part,
            "strict": self.strict,
        }

    def to_yaml(self) -> str:
        """Return the spec as YAML, which every command accepts as a reference."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def make_spec(
    architecture: Architecture,
    plugin: str = "",
    *,
    base: Mapping[str, Any] | None = None,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Make every choice: the architecture's defaults, then `base`, then the preset, then the options.

    base: a spec as plain data, as read from a file. options: config fields, dims, `seed`, `dtype`,
    `weights`, `key`, `strip_prefix`, `strict`, and `with_` and `without` (names of optional inputs), by name;
    see `core_option` for names that a plugin has too. Raises UsageProblem for an invalid choice.
    """
    base, options = base or {}, dict(options or {})
    keys = [core_option(architecture, key) for key in ("with_", "without")]
    with_, leave_out = (_names(options.pop(key, ())) for key in keys)
    named = _find_preset(architecture, preset)
    part = _choose_part(architecture, base, options)
    settings = {key: options.pop(key, base.get(key)) for key in ("seed", "dtype", "weights", "strict")}
    config_options, size_options = _split(architecture, options)
    config = make_config(architecture.config, {**base.get("config", {}), **named.config, **config_options})
    without = _choose_inputs(architecture, config, base.get("without"), with_, leave_out)
    dims = _resolve_dims(architecture, config, without)
    sizes = _choose_sizes(architecture, dims, {**base.get("sizes", {}), **named.sizes}, size_options)
    dtype = settings["dtype"] or AS_BUILT
    if dtype not in (AS_BUILT, *DTYPES):
        hint = did_you_mean(str(dtype), DTYPES) or f"one of: {', '.join(DTYPES)}"
        raise UsageProblem(f"unknown dtype {dtype!r}", hint)
    strict = settings["strict"] is not False
    seed = settings["seed"] or 0
    if abs(seed) > LARGEST:
        raise UsageProblem(f"--seed can't be {brief(seed)}", f"give one up to {LARGEST:,}")
    weights = None if settings["weights"] is None else str(settings["weights"])
    if chosen := [name for name in part if weights is None]:
        flag = f"--{chosen[0].replace('_', '-')}"
        raise UsageProblem(f"{flag} is about a file of weights", "name the file: --weights FILE")
    return ModelSpec(architecture, plugin, config, sizes, seed, dtype, weights, strict, without, **part)


def _choose_part(
    architecture: Architecture, base: Mapping[str, Any], options: dict[str, Any]
) -> dict[str, str]:
    """Take what was chosen of the file of weights out of `options`.

    What `base` says is of the file that it names, wherever that is now.
    """
    weights = options.get("weights")
    same = weights is None or Path(weights).name == Path(base.get("weights") or "").name
    chosen = {
        name: options.pop(core_option(architecture, name), base.get(name) if same else None) for name in PART
    }
    return {name: value for name, value in chosen.items() if value is not None}


def core_option(architecture: Architecture, name: str) -> str:
    """Return the name of a core option for an architecture.

    It is `core_NAME` where a plugin of an earlier API has an option of that name.
    """
    own = {*(option.name for option in options_of(architecture.config)), *architecture.dims}
    return f"core_{name}" if name in own else name


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _choose_inputs(
    architecture: Architecture,
    config: Any,
    base: Iterable[str] | None,
    with_: Sequence[str],
    without: Sequence[str],
) -> tuple[str, ...]:
    """Return the optional inputs that are left out. base: those that a file leaves out."""
    inputs = _inputs_of(architecture, config)
    units = optional_units(inputs)
    for name in (*with_, *without, *(base or ())):
        if name not in units:
            raise UsageProblem(
                f"{architecture.name} has no optional input {name!r}",
                did_you_mean(name, units) or f"its optional inputs: {', '.join(units) or 'none'}",
            )
    if both := set(with_) & set(without):
        raise UsageProblem(f"the input {both.pop()!r} can't be both given and left out", "choose one")
    absent = {unit for unit in units if not _is_given(inputs, unit)} if base is None else set(base)
    absent = (absent - set(with_)) | set(without)
    return tuple(unit for unit in units if unit in absent)


def optional_inputs(architecture: Architecture) -> tuple[str, ...]:
    """Return what can be left out under the default options."""
    return optional_units(_inputs_of(architecture, architecture.config()))


def optional_units(inputs: Iterable[TensorSpec]) -> tuple[str, ...]:
    """Return what can be left out: for each optional tensor, the shortest path that holds no other kind.

    cache.0.key and cache.0.value, both optional   ->   cache
    """
    inputs = list(inputs)
    required = {path for tensor in inputs if not tensor.optional for path in prefixes_of(tensor.name)}
    units = (
        next(path for path in prefixes_of(tensor.name) if path not in required)
        for tensor in inputs
        if tensor.optional
    )
    return tuple(dict.fromkeys(units))


def is_given(architecture: Architecture, unit: str) -> bool:
    """Whether an optional input is given under the default options."""
    return _is_given(_inputs_of(architecture, architecture.config()), unit)


def _is_given(inputs: Iterable[TensorSpec], unit: str) -> bool:
    """Whether an optional input is given unless the user says otherwise."""
    return all(tensor.given for tensor in inputs if is_within(tensor.name, unit))


def _choose_sizes(
    architecture: Architecture, dims: Dims, given: Mapping[str, Any], typed: Mapping[str, Any]
) -> dict[str, int]:
    """Return a size for every dim in use; `given` may name unused dims, but `typed`, by the user, may not."""
    for name in typed:
        if name not in dims:
            raise UsageProblem(
                f"{architecture.name} has no dim {name!r} under these options",
                f"the dims in use are: {', '.join(dims) or 'none'}",
            )
    wanted = {**given, **typed}
    sizes = {name: _to_size(name, wanted.get(name, dim.default)) for name, dim in dims.items()}
    for name, size in sizes.items():
        if problem := dims[name].problem_with(size):
            hint = f"for example: --{name} {dims[name].default}"
            raise UsageProblem(f"size --{name} of {architecture.name} {problem}", hint)
    fitting = dims.satisfy(sizes, fixed=wanted)
    if fitting is None:
        raise UsageProblem(
            f"these sizes of {architecture.name} don't go together: {dims.problem_with(sizes)}",
            f"give others, for example: {size_words(dims.satisfy(sizes) or {}) or 'smaller ones'}",
        )
    return fitting


def size_words(sizes: Mapping[str, int]) -> str:
    """Return sizes as typed: `--past 3 --time 5`."""
    return " ".join(f"--{name.replace('_', '-')} {size}" for name, size in sizes.items())


def _inputs_of(architecture: Architecture, config: Any) -> tuple[TensorSpec, ...]:
    try:
        return architecture.inputs_for(config)
    except NnkitError:
        raise
    except Exception as error:  # inputs may be a function of the plugin
        raise PluginProblem(
            f"{architecture.name} can't declare its inputs: {type(error).__name__}: {first_line(error)}",
            "give other options, or report it to the plugin's author",
        ) from error


def _resolve_dims(architecture: Architecture, config: Any, without: Collection[str]) -> Dims:
    _inputs_of(architecture, config)
    values = config_values(config)
    resolved = {}
    for name, dim in architecture.dims_in_use(config, without).items():
        try:
            resolved[name] = dim.resolve(values)
        except ValueError as error:
            raise UsageProblem(
                f"{architecture.name} has no size for {name} under these options: {error}",
                f"see what {name} follows: nnkit info {architecture.name}",
            ) from error
    unused = {name: 0 for name in architecture.dims if name not in resolved}
    return Dims(resolved, architecture.constraints, {**values, **unused})


def _split(architecture: Architecture, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into config fields and sizes of dims."""
    fields = {option.name for option in options_of(architecture.config)}
    unknown = [name for name in options if name not in fields and name not in architecture.dims]
    if unknown:
        everything = [*fields, *architecture.dims]
        raise UsageProblem(
            f"{architecture.name} has no option {unknown[0]!r}",
            did_you_mean(unknown[0], everything) or f"see them all: nnkit info {architecture.name}",
        )
    config = {name: value for name, value in options.items() if name in fields}
    return config, {name: value for name, value in options.items() if name not in fields}


def _find_preset(architecture: Architecture, name: str | None) -> Preset:
    if name is None:
        return Preset()
    if name not in architecture.presets:
        offered = ", ".join(architecture.presets) or "none"
        raise UsageProblem(
            f"{architecture.name} has no preset {name!r}",
            did_you_mean(name, architecture.presets) or f"its presets: {offered}",
        )
    return architecture.presets[name]


def _to_size(name: str, value: Any) -> int:
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) <= len(str(LARGEST)):
        value = int(value)
    if type(value) is int and abs(value) <= LARGEST:
        return value
    raise UsageProblem(f"size --{name} takes an integer, got {brief(value)}", f"for example: --{name} 8")


def read_spec_file(path: Path) -> dict[str, Any]:
    """Read and check the YAML form of a spec. No architecture is looked up and no code runs.

    Raises UsageProblem for a file that can't be read, isn't a mapping, or has an unknown key.
    """
    from nnkit.contract.yaml_text import read_yaml

    hint = "write one with: nnkit build ARCH --spec > spec.yaml"
    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UsageProblem(f"{path} is not readable YAML: it is not text", hint) from error
    except ValueError as error:
        raise UsageProblem(f"{path} is not readable YAML{error}", hint) from error
    return check_spec_data(data, str(path))


def check_spec_data(data: Any, origin: str) -> dict[str, Any]:
    """Check and return a spec from outside; `origin` names it in errors."""
    hint = "write one with: nnkit build ARCH --spec > spec.yaml"
    if not isinstance(data, dict) or "architecture" not in data:
        raise UsageProblem(f"{origin} is not a ModelSpec: it names no architecture", hint)
    for key in data:
        if key not in KEYS:
            near = did_you_mean(key, KEYS) if isinstance(key, str) else ""
            raise UsageProblem(f"{origin} has an unknown key {brief(key)}", near or hint)
    if data.get("nnkit", FORMAT) != FORMAT:
        raise UsageProblem(
            f"{origin} is written in format {brief(data['nnkit'])}, this nnkit reads {FORMAT}",
            "upgrade nnkit, or write the file again",
        )
    for key, kinds in KINDS.items():
        if key in data and type(data[key]) not in kinds:
            raise UsageProblem(f"{origin}: {key} can't be {brief(data[key])}", hint)
    for key in ("config", "sizes"):
        if not_text := [name for name in data.get(key, ()) if not isinstance(name, str)]:
            raise UsageProblem(f"{origin}: {key} has a key that is not text: {brief(not_text[0])}", hint)
    name = data["architecture"]
    if ":" in name or name.endswith((".py", ".yaml")):
        raise UsageProblem(
            f"{origin} names code ({name}); a file can name only registered architectures",
            "type the reference on the command line instead; code runs only from there",
        )
    return data
