"""ModelSpec: the one thing that every command works on, and its form as data and YAML. Torch-free."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnkit.contract.architecture import Architecture, Dim, Preset, TensorSpec
from nnkit.contract.axes import size_of
from nnkit.contract.config import config_values, make_config, options_of, typed_words
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean, first_line

FORMAT = 1
KEYS = ("nnkit", "architecture", "config", "sizes", "seed", "dtype", "weights", "strict")
KINDS: Mapping[str, tuple[type, ...]] = {
    "architecture": (str,), "config": (dict,), "sizes": (dict,), "seed": (int,), "dtype": (str,),
    "weights": (str, type(None)), "strict": (bool,),
}  # fmt: skip
"""What the value of each key may be, exactly: a bool is no seed."""

LARGEST = 2**63 - 1
"""The largest size, seed or number of an option: torch has integers of 64 bits."""

DTYPES = ("float32", "float64", "float16", "bfloat16")
AS_BUILT = "as built"  # no dtype was asked for: each weight keeps the one that it was made with


@dataclass(frozen=True)
class ModelSpec:
    """An architecture with every choice made: two equal specs give the same model, bit for bit.

    plugin: the plugin that declared the architecture; empty for a module of the user's own.
    config: an instance of the architecture's config type.
    sizes: the size of every dim that the inputs use.
    seed: of the weights and of random inputs. dtype: of the weights, by name; "as built" leaves
    each of them the one that it was made with.
    weights: path of the file that the weights come from, None for random ones. strict: they must be
    exactly those of the model; else those that are in both are taken.

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

    @property
    def name(self) -> str:
        """The qualified name, `plugin/architecture`, which always resolves."""
        return f"{self.plugin}/{self.architecture.name}" if self.plugin else self.architecture.name

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `forward` takes under this config."""
        return self.architecture.inputs_for(self.config)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of what `forward` takes, in declared order."""
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `forward` returns under this config."""
        return self.architecture.outputs_for(self.config)

    @property
    def typed(self) -> tuple[str, ...]:
        """The words that stand for it on a command line, complete; none for a module that Python gave."""
        reference = (self.name,) if self.plugin else self.architecture.typed
        if not reference:
            return ()
        words = [*reference, *typed_words(self.config)]
        dims = self.architecture.dims_for(self.config)
        for name, size in self.sizes.items():
            if size != dims[name].default:
                words += [f"--{name.replace('_', '-')}", str(size)]
        if self.seed:
            words += ["--seed", str(self.seed)]
        if self.dtype != AS_BUILT:
            words += ["--dtype", self.dtype]
        if self.weights is not None:
            words += ["--weights", self.weights]
        return (*words, *(() if self.strict else ("--no-strict",)))

    @property
    def reference(self) -> str:
        """What the user typed for it without its options, or its name for a module that Python gave."""
        return self.name if self.plugin else next(iter(self.architecture.typed), self.name)

    def forward_problem(self, message: str, hint: str) -> NnkitError:
        """Return the error for a forward that fails on the inputs that are declared.

        Where nobody chose an option or a size, it is the declaration that is at fault: a PluginProblem.
        """
        if not self.plugin:
            typed = f", as typed: {shlex.join(self.typed)}" if self.typed else ""
            return NnkitError(message, f"{hint}{typed}")
        if self.typed != (self.name,):
            return NnkitError(
                message, f"{hint}; and see whether it runs as declared: nnkit summary {self.name}"
            )
        inputs = ", ".join(
            f"{each.name}: {each.dtype}[{', '.join(map(str, each.shape))}]" for each in self.inputs
        )
        return PluginProblem(
            message,
            f"plugin {self.plugin} declares {inputs}, on which its own forward fails: tell its author",
        )

    def require_support(self, *names: str) -> None:
        """Raise PluginProblem if one of `names` (`export`, `onnx`) is declared unsupported."""
        for name in names:
            if reason := self.architecture.unsupported.get(name):
                raise PluginProblem(f"{self.name} has no {name}: {reason}", f"see nnkit info {self.name}")

    def command(self, verb: str, *more: str) -> str:
        """Return the command line that does a verb with it, and `more` words; see `typed`."""
        return shlex.join(["nnkit", verb, *self.typed, *more])

    def with_sizes(self, sizes: Mapping[str, int]) -> "ModelSpec":
        """Return the same model for inputs of other sizes."""
        return replace(self, sizes={**self.sizes, **sizes})

    def shape(self, tensor: TensorSpec, sizes: Mapping[str, int] | None = None) -> tuple[int, ...]:
        """Return the shape of a declared tensor, its dims and config fields filled in."""
        values = {**config_values(self.config), **self.sizes, **(sizes or {})}
        try:
            return tuple(size_of(axis, values) for axis in tensor.shape)
        except ValueError as error:
            raise UsageProblem(f"the shape of {tensor.name!r}: {error}", "correct the declaration") from error
        except KeyError as error:
            raise UsageProblem(
                f"the shape of {tensor.name!r} names {error.args[0]!r}, which is no dim of {self.name}",
                "declare it in dims, or as an integer field of the config",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data, complete: nothing is left to defaults."""
        return {
            "nnkit": FORMAT,
            "architecture": self.name,
            "config": config_values(self.config),
            "sizes": dict(self.sizes),
            "seed": self.seed,
            "dtype": self.dtype,
            "weights": self.weights,
            "strict": self.strict,
        }

    def to_yaml(self) -> str:
        """Return the spec as YAML, which `nnkit` reads wherever it takes a reference."""
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
    `weights` and `strict`, by name. Raises UsageProblem for what can't be.
    """
    base, options = base or {}, dict(options or {})
    chosen = _preset(architecture, preset)
    whole = {key: options.pop(key, base.get(key)) for key in ("seed", "dtype", "weights", "strict")}
    config_part, sizes_part = _split(architecture, options)
    config = make_config(architecture.config, {**base.get("config", {}), **chosen.config, **config_part})
    sizes = _sizes(architecture, config, {**base.get("sizes", {}), **chosen.sizes}, sizes_part)
    dtype = whole["dtype"] or AS_BUILT
    if dtype not in (AS_BUILT, *DTYPES):
        hint = did_you_mean(str(dtype), DTYPES) or f"one of: {', '.join(DTYPES)}"
        raise UsageProblem(f"unknown dtype {dtype!r}", hint)
    strict = whole["strict"] is not False
    seed = whole["seed"] or 0
    if abs(seed) > LARGEST:
        raise UsageProblem(f"--seed can't be {brief(seed)}", f"give one up to {LARGEST:,}")
    return ModelSpec(architecture, plugin, config, sizes, seed, dtype, whole["weights"], strict)


def _sizes(
    architecture: Architecture, config: Any, given: Mapping[str, Any], typed: Mapping[str, Any]
) -> dict[str, int]:
    """Return a size for every dim in use; `given` may name idle dims, what the user `typed` may not."""
    dims = _dims_in_use(architecture, config)
    for name in typed:
        if name not in dims:
            raise UsageProblem(
                f"{architecture.name} has no dim {name!r} under these options",
                f"the dims in use are: {', '.join(dims) or 'none'}",
            )
    wanted = {**given, **typed}
    sizes = {name: _size(name, wanted.get(name, dim.default)) for name, dim in dims.items()}
    for name, size in sizes.items():
        if problem := dims[name].problem_with(size):
            hint = f"give another: --{name} {dims[name].default}"
            raise UsageProblem(f"size --{name} of {architecture.name} {problem}", hint)
    return sizes


def _dims_in_use(architecture: Architecture, config: Any) -> dict[str, Dim]:
    try:
        return architecture.dims_for(config)
    except Exception as error:  # inputs may be a function of the plugin's
        raise PluginProblem(
            f"{architecture.name} can't declare its inputs: {type(error).__name__}: {first_line(error)}",
            "give other options, or tell the plugin's author",
        ) from error


def _split(architecture: Architecture, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort options into those of the config and those that are sizes of dims."""
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


def _preset(architecture: Architecture, name: str | None) -> Preset:
    if name is None:
        return Preset()
    if name not in architecture.presets:
        offered = ", ".join(architecture.presets) or "none"
        raise UsageProblem(
            f"{architecture.name} has no preset {name!r}",
            did_you_mean(name, architecture.presets) or f"its presets: {offered}",
        )
    return architecture.presets[name]


def _size(name: str, value: Any) -> int:
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) <= len(str(LARGEST)):
        value = int(value)
    if type(value) is int and abs(value) <= LARGEST:
        return value
    raise UsageProblem(f"size --{name} takes an integer, got {brief(value)}", f"for example: --{name} 8")


def read_spec_file(path: Path) -> dict[str, Any]:
    """Read the YAML form of a spec: checked data, no architecture looked up and no code run.

    Raises UsageProblem for what can't be read, isn't a mapping, or has an unknown key.
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
    """Check the shape of a spec that came from outside; `origin` names it in errors."""
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
        if wrong := [name for name in data.get(key, ()) if not isinstance(name, str)]:
            raise UsageProblem(f"{origin}: {key} has the name {brief(wrong[0])}, which is no text", hint)
    name = data["architecture"]
    if ":" in name or name.endswith((".py", ".yaml")):
        raise UsageProblem(
            f"{origin} names code ({name}); a file can name registered architectures alone",
            "type the reference on the command line instead: code is run only from there",
        )
    return data
