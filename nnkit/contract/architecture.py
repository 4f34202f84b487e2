"""What a plugin declares about an architecture. Only data, so this module never imports torch.

The inputs are declared once, with named dims. That one declaration drives the summary, the random
inputs of the smoke-run, the dynamic axes of the ONNX file and the check at other sizes.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from nnkit.contract.axes import names_in, size_of
from nnkit.contract.loading import load
from nnkit.contract.signature import Container, is_within

OF_NUMBERS = ("normal", "uniform", "positive", "unit", "angles", "zeros")
SAMPLES = (
    *OF_NUMBERS, "index", "sorted", "lengths", "mask", "keep", "prefix", "suffix", "adjacency"
)  # fmt: skip
"""How random values may be drawn; see `TensorSpec`."""

Verb: TypeAlias = Literal["build", "summary", "export", "smoke-run"]
VERBS: tuple[Verb, ...] = ("build", "summary", "export", "smoke-run")

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class QualifiedName(NamedTuple):
    """The name of an architecture with its plugin, which is never ambiguous; `plugin` may be empty."""

    plugin: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "QualifiedName":
        """Return `vision/resnet18` in its parts; a short name has no plugin."""
        plugin, slash, name = text.partition("/")
        return cls(plugin, name) if slash else cls("", text)

    def __str__(self) -> str:
        return f"{self.plugin}/{self.name}" if self.plugin else self.name


MOST = 10_000
"""The most entries that any part of a declaration may have, so that an endless generator is found."""

T = TypeVar("T")


def bounded(entries: Iterable[T], what: str) -> list[T]:
    """Return the entries as a list; raises ValueError if there are more than any declaration needs."""
    bounded_entries = list(islice(entries, MOST + 1))
    if len(bounded_entries) > MOST:
        raise ValueError(f"{what} has more than {MOST:,} entries, or never ends")
    return bounded_entries


@dataclass(frozen=True, kw_only=True)
class Dim:
    """A named dimension of an input and the sizes it may take.

    A bound may be arithmetic of config fields, with `+ - * // **` and parentheses: `multiple_of="2**levels"`.

    Attributes:
        default: The size if the user gives none. If the bounds follow the config, it is moved into them.
        min: The smallest size.
        max: The largest size. None: no limit.
        multiple_of: Every size is a multiple of this.
        description: What the dim counts, for the help text.

    Example:

        height = Dim(default=224, min=32, multiple_of=32, description="rows of the picture")
        assert height.problem_with(100) == "must be a multiple of 32, got 100"
        time = Dim(default=1024, max="context").resolve({"context": 256})
        assert (time.default, time.max) == (256, 256)
    """

    default: int | str
    min: int | str = 1
    max: int | str | None = None
    multiple_of: int | str = 1
    description: str = ""

    def __post_init__(self) -> None:
        if not self.depends_on:
            self.resolve({})

    @property
    def depends_on(self) -> set[str]:
        """The config fields that the bounds and the default are arithmetic of."""
        bounds = (self.default, self.min, self.max, self.multiple_of)
        return set().union(*(names_in(bound) for bound in bounds if bound is not None))

    def resolve(self, values: Mapping[str, int]) -> "ResolvedDim":
        """Return the dim under these values of config fields, with numbers for its bounds.

        Raises ValueError where no size is allowed, or a default that doesn't follow the config isn't.
        """
        bounds = ResolvedDim(
            default=size_of(self.default, values),
            min=size_of(self.min, values),
            max=None if self.max is None else size_of(self.max, values),
            multiple_of=size_of(self.multiple_of, values),
            description=self.description,
        )
        if bounds.multiple_of < 1:
            raise ValueError(f"multiple_of must be at least 1, got {bounds.multiple_of}")
        problem = bounds.problem_with(bounds.default)
        if not problem:
            return bounds
        if not self.depends_on:
            raise ValueError(f"the default of a dim {problem}")
        return replace(bounds, default=bounds.nearest(bounds.default))

    @property
    def least(self) -> int:
        """The smallest allowed size. Raises KeyError where the bounds follow the config."""
        return self.resolve({}).least

    def problem_with(self, size: int) -> str:
        """Return why `size` is not allowed (`must be at least 1, got 0`), or an empty string.

        Raises KeyError where the bounds follow the config; resolve them first.
        """
        return self.resolve({}).problem_with(size)


@dataclass(frozen=True, kw_only=True)
class ResolvedDim(Dim):
    """A dim under one config: its bounds are numbers.

    Example:

        height = Dim(default=200, multiple_of="2**levels").resolve({"levels": 4})
        assert (height.default, height.least, height.nearest(100)) == (192, 16, 96)
    """

    default: int
    min: int = 1
    max: int | None = None
    multiple_of: int = 1

    def __post_init__(self) -> None:
        """Accept any numbers: `resolve` checks them."""

    @property
    def least(self) -> int:
        """The smallest allowed size."""
        return -(-self.min // self.multiple_of) * self.multiple_of

    def nearest(self, size: int) -> int:
        """Return the largest allowed size up to `size`, or the smallest allowed one."""
        if self.max is not None:
            size = min(size, self.max)
        allowed = max(size // self.multiple_of * self.multiple_of, self.least)
        if self.max is not None and allowed > self.max:
            raise ValueError(f"no size is from {self.min} to {self.max} and a multiple of {self.multiple_of}")
        return allowed

    def problem_with(self, size: int) -> str:
        """Return why `size` is not allowed (`must be at least 1, got 0`), or an empty string."""
        if size < self.min:
            return f"must be at least {self.min}, got {size}"
        if self.max is not None and size > self.max:
            return f"must be at most {self.max}, got {size}"
        if size % self.multiple_of:
            return f"must be a multiple of {self.multiple_of}, got {size}"
        return ""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output tensor.

    Attributes:
        name: The parameter of `forward` that takes it, or the name of the output. A tensor inside a dict, a
            list, a tuple, a named tuple or a dataclass has a dotted name: `batch.image`, `cache.0.key`.
        shape: One entry per axis: an int, the name of a dim, the name of an integer config field, or
            arithmetic of these, with `+ - * // **` and parentheses: `(time + 1) // 2`, `past + time`.
        dtype: A torch dtype by name; `float` follows the dtype of the model.
        sample: How random values are drawn. Numbers: `normal` (standard normal), `uniform` (between 0 and 1),
            `positive` (above 0, around 1), `unit` (vectors of length 1 along the last axis), `angles` (from
            -π to π), `zeros`. Integers: `index` (from 0 to below the size of `index_of`), `sorted` (the same,
            ascending along the last axis; numbers from 0 to 1 where there is no `index_of`), `lengths` (from
            `least` to the size of `index_of`, one of them equal to it). Masks: `mask` (both values in every
            row, False in a row of one), `keep` (the same, but True in a row of one), `prefix` (True up to a
            length of at least 1 along the dim `index_of`, the whole row in one sample), `suffix` (the
            opposite of `prefix`: True marks the padding). Graphs: `adjacency` (a symmetric 0/1 matrix with a
            zero diagonal, in the last two axes). Or `module:function`, called as
            `function(shape, sizes, dtype, generator) -> Tensor` on the CPU, with the sizes of all dims and
            integer config fields by name; or such a function.
        index_of: For integers, the dim (or config field, or number) that they index or count; for `prefix`
            and `suffix`, the dim that they run along. All lengths, masks and padding along one dim mark the
            same ends in a draw.
        description: What it holds, for `nnkit info`.
        least: The smallest of `lengths`.
        optional: Whether `forward` can be called without it; of an output, whether it may be missing.
        given: Whether an optional input is given unless the user says otherwise.
        padding: For integers, the one that fills what lies behind the end of a sequence, on the last axis. It
            is drawn nowhere else.

    Example:

        tokens = TensorSpec("tokens", ("batch", "time"), "int64", sample="index", index_of="vocabulary")
        assert tokens.shape == ("batch", "time")
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float"
    sample: str | Callable[..., Any] = "normal"
    index_of: str | int | None = None
    description: str = ""
    least: int = 1
    optional: bool = False
    given: bool = True
    padding: int | None = None


Tensors: TypeAlias = Sequence[TensorSpec]
TensorsOf: TypeAlias = Tensors | Callable[[Any], Tensors]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Named values for config fields and dims: `--preset cora`.

    Attributes:
        config: Values of config fields.
        sizes: Sizes of dims.
        description: What the preset is for.

    Example:

        cora = Preset(config={"num_classes": 7}, sizes={"nodes": 2708}, description="citations of papers")
        assert cora.sizes["nodes"] == 2708
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """One step in the training of several networks: which outputs it uses, and what it trains.

    Attributes:
        outputs: The outputs that its loss is made of.
        trains: The submodules whose parameters it moves.

    Example:

        generator = TrainingStep(outputs=("fake_score",), trains=("generator",))
        assert generator.trains == ("generator",)
    """

    outputs: Sequence[str]
    trains: Sequence[str]


Stochastic: TypeAlias = Literal["", "training", "always"]


class ConfigType:
    """The field `config`: a type, or the `module:name` of one, which is imported when it is first read.

    Making a dataclass takes Python a millisecond, so those of a hundred architectures delay every command.
    """

    def __get__(self, architecture: Any, owner: type | None = None) -> type:
        if architecture is None:
            raise AttributeError("config")  # so dataclass sees that the field has no default
        fields = vars(architecture)
        if isinstance(fields["config"], str):
            fields["config"] = load(fields["config"])
        config: type = fields["config"]
        return config

    def __set__(self, architecture: Any, config: type | str) -> None:
        vars(architecture)["config"] = config


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network that nnkit can build, summarize, export and smoke-run.

    Attributes:
        name: Lower-case words joined by hyphens, unique within its plugin.
        summary: One line, for `nnkit list`.
        build: `module:callable`, called as `callable(config)`; returns the `torch.nn.Module`.
        config: A frozen, keyword-only dataclass; each field has a default and becomes an option. Or
            `module:name` of it, which is imported when somebody asks for the architecture.
        inputs: The tensors that `forward` takes, in order; or a function of the config that returns them.
        outputs: The tensors that `forward` returns, in the same form.
        dims: Every dim that a shape may name. Dims that no input uses under the chosen config (`edges` if
            the graph is a dense matrix) are ignored.
        presets: Named values for config and dims.
        family: The heading in `nnkit list`.
        paper: Author, year and address.
        equation: Plain text.
        notes: Where it departs from what a reader may expect, one sentence each.
        handlers: `module:function` for each verb that the architecture serves itself.
        unsupported: Why it doesn't support a verb, an export format, a check of smoke-run, or a check of the
            conformance suite: `{"onnx": "…"}`.
        causal: The dim along which no output depends on later inputs, if there is one.
        constants: The arguments of `forward` that are no tensors, by name; or a function of the config that
            returns them.
        containers: What holds the tensors of a dotted name, where `forward` has no annotation for it:
            `{"cache": "tuple", "cache.*": "nnkit_yours.gpt:KeyValue"}`.
        constraints: Comparisons that the sizes satisfy: `("past + time <= context",)`.
        padding: The inputs that mark padding: a mask (`keep`, `prefix` or `suffix`), lengths, or integers
            with a `padding` value. What lies in it changes nothing outside of it.
        permutation: The dims along which the order doesn't matter: outputs are permuted likewise, or stay.
        pointwise: The dims along which each position of an output depends on that position of the inputs.
        tied: Groups of parameters that are one tensor: `[("embedding.weight", "head.weight")]`.
        stochastic: `training` if the model draws random numbers when it is trained, `always` if it draws them
            in eval mode too, from torch's generator.
        straight_through: Submodules whose gradient is meant to differ from the derivative.
        steps: For several networks in one, the steps of their training, by name.
        requires: Packages that must be installed, each with the command that installs it.
        typed: The words for it on a command line, if no plugin declares it.
        assumed: For a module of the user's own, what nnkit found out about it by running it.
        namespace: The prefix of the zoo that it comes from, which nnkit fills in.
        versions: The version of the zoo, by distribution, which nnkit fills in.

    Example:

        @dataclass(frozen=True, kw_only=True)
        class NetConfig:
            width: Annotated[int, Meta(ge=1, description="units of the layer")] = 16

        net = Architecture(
            name="net",
            summary="One linear layer",
            build="nnkit_yours.net:Net",
            config=NetConfig,
            inputs=[TensorSpec("x", ("batch", 8))],
            outputs=[TensorSpec("y", ("batch", "width"))],
            dims={"batch": Dim(default=1, description="samples at once")},
            unsupported={"onnx": "its layer is drawn by hand"},
        )
        assert list(net.dims_for(NetConfig())) == ["batch"]
    """

    name: str
    summary: str
    build: str | Callable[[Any], Any]
    config: ConfigType = ConfigType()
    inputs: TensorsOf
    outputs: TensorsOf
    dims: Mapping[str, Dim] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    family: str = "other"
    paper: str = ""
    equation: str = ""
    notes: Sequence[str] = ()
    handlers: Mapping[Verb, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    causal: str = ""
    requires: Mapping[str, str] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    constants: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] = field(default_factory=dict)
    containers: Mapping[str, Container] = field(default_factory=dict)
    constraints: Sequence[str] = ()
    padding: Sequence[str] = ()
    permutation: Sequence[str] = ()
    pointwise: Sequence[str] = ()
    tied: Sequence[Sequence[str]] = ()
    stochastic: Stochastic = ""
    straight_through: Sequence[str] = ()
    steps: Mapping[str, TrainingStep] = field(default_factory=dict)
    assumed: Sequence[str] = ()
    namespace: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def awaits_config(self) -> bool:
        """Whether the config is named by a string, and has not been imported yet."""
        return isinstance(vars(self)["config"], str)

    def inputs_for(self, config: object) -> tuple[TensorSpec, ...]:
        """Return the inputs under `config`, optional ones included."""
        return tuple(bounded(self.inputs(config) if callable(self.inputs) else self.inputs, "inputs"))

    def outputs_for(self, config: object) -> tuple[TensorSpec, ...]:
        """Return the outputs under `config`."""
        return tuple(bounded(self.outputs(config) if callable(self.outputs) else self.outputs, "outputs"))

    def constants_for(self, config: object) -> dict[str, Any]:
        """Return the arguments of `forward` that are no tensors, under `config`."""
        return dict(self.constants(config) if callable(self.constants) else self.constants)

    def dims_in_use(self, config: object, without: Collection[str] = ()) -> dict[str, Dim]:
        """Return the dims that the inputs use under `config`, without the optional inputs `without`.

        A dim that only inputs left out have as an axis isn't in use: in arithmetic it counts 0.
        """
        used: set[str] = set()
        absent: set[str] = set()
        computed: set[str] = set()
        for spec in self.inputs_for(config):
            left_out = any(is_within(spec.name, name) for name in without)
            for axis in (*spec.shape, spec.index_of):
                if axis in self.dims:
                    (absent if left_out else used).add(str(axis))
                elif isinstance(axis, str) and not left_out:
                    computed |= names_in(axis)
        used |= computed - absent
        return {name: dim for name, dim in self.dims.items() if name in used}

    def dims_for(self, config: object) -> dict[str, ResolvedDim]:
        """Return the dims that the inputs use under `config`, with numbers for their bounds."""
        values = {name: value for name, value in vars(config).items() if type(value) is int}
        return {name: dim.resolve(values) for name, dim in self.dims_in_use(config).items()}
