"""What a plugin declares about an architecture: data alone, so this module never imports torch.

The inputs are declared once, with named dims. That one declaration drives the summary, the random
inputs of the smoke-run, the dynamic axes of the ONNX file and the check at other sizes.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

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
"""How many things a declaration may have of a kind: an endless generator is found out by it."""

T = TypeVar("T")


def bounded(things: Iterable[T], what: str) -> list[T]:
    """Return the things as a list; raises ValueError where they are more than any declaration needs."""
    found = list(islice(things, MOST + 1))
    if len(found) > MOST:
        raise ValueError(f"{what} gives more than {MOST:,} things, or never ends")
    return found


@dataclass(frozen=True, kw_only=True)
class Dim:
    """A named dimension of an input and the sizes it may take.

    `default` is the size used when the user names none. Sizes are integers from `min` to `max`
    (no limit when None), in steps of `multiple_of`. description: what it counts, for the help text.

    Example:

        height = Dim(default=224, min=32, multiple_of=32, description="rows of the picture")
        assert height.problem_with(100) == "must be a multiple of 32, got 100"
    """

    default: int
    min: int = 1
    max: int | None = None
    multiple_of: int = 1
    description: str = ""

    def __post_init__(self) -> None:
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of must be at least 1, got {self.multiple_of}")
        if problem := self.problem_with(self.default):
            raise ValueError(f"the default of a dim {problem}")

    @property
    def least(self) -> int:
        """The smallest size that is allowed."""
        return -(-self.min // self.multiple_of) * self.multiple_of

    def problem_with(self, size: int) -> str:
        """Say why `size` is not allowed (`must be at least 1, got 0`), or return an empty string."""
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

    name: the parameter of `forward` that takes it, or what the output is called.
    shape: per axis an int, the name of a dim, or the name of an integer config field. An axis of an output
        may be arithmetic of them, with `+ - * //` and parentheses: `(time + 1) // 2`.
    dtype: a torch dtype by name; `float` follows the dtype of the model.
    sample: how random values are drawn:
        `normal` (standard normal), `uniform` (between 0 and 1), `zeros`, `index` (integers from 0 to below
        the size of `index_of`), `lengths` (integers from `least` to the size of `index_of`, one of them
        equal to it), `mask` (bool, both values in every row, False in a row of one), `keep` (likewise, True
        in a row of one), `adjacency` (a symmetric 0/1 matrix with a zero diagonal, last two axes), or
        `module:function`, called as `function(shape, sizes, dtype, generator) -> Tensor` on the CPU, with
        the sizes of all dims and config integers by name.
    index_of: for integers, the dim (or config field, or number) that they index or count.
    least: the smallest of `lengths`.
    description: what it holds, for `nnkit info`.

    Example:

        tokens = TensorSpec("tokens", ("batch", "time"), "int64", sample="index", index_of="vocabulary")
        assert tokens.shape == ("batch", "time")
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float"
    sample: str = "normal"
    index_of: str | int | None = None
    description: str = ""
    least: int = 1


Tensors: TypeAlias = Sequence[TensorSpec]
TensorsOf: TypeAlias = Tensors | Callable[[Any], Tensors]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Named values for config fields and dims (`--preset cora`): `config` and `sizes`.

    description: what they are for.

    Example:

        cora = Preset(config={"num_classes": 7}, sizes={"nodes": 2708}, description="citations of papers")
        assert cora.sizes["nodes"] == 2708
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network that nnkit can build, summarise, export and smoke-run.

    name: lower-case words joined by hyphens, unique within its plugin.
    summary: one line, for `nnkit list`.
    build: `module:callable`, called as `callable(config)`; returns the `torch.nn.Module`.
    config: a frozen, keyword-only dataclass; each field has a default and is an option.
    inputs: the tensors that `forward` takes, in order; or a function of the config that returns them.
    outputs: what `forward` returns, likewise.
    dims: every dim that a shape may name. Those that no input uses under the chosen config
        (`edges` when the graph comes as a dense matrix) are left aside.
    presets: named values for config and dims.
    family: the heading in `nnkit list`.
    paper: author, year and address. equation: plain text. notes: where it departs from what a
        reader may expect, a sentence each.
    handlers: `module:function` for a verb that this architecture serves itself.
    unsupported: why a verb, an export format, or a check of smoke-run or of the conformance suite can't
        serve it: `{"onnx": "…"}`.
    causal: the dim along which no output sees an input that comes later, where there is one.
    requires: packages that must be installed, each with the command that installs it.
    typed: the words that name it on a command line, where no plugin declares it.

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
    config: type
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

    def inputs_for(self, config: object) -> tuple[TensorSpec, ...]:
        """Return the inputs under `config`."""
        return tuple(bounded(self.inputs(config) if callable(self.inputs) else self.inputs, "inputs"))

    def outputs_for(self, config: object) -> tuple[TensorSpec, ...]:
        """Return the outputs under `config`."""
        return tuple(bounded(self.outputs(config) if callable(self.outputs) else self.outputs, "outputs"))

    def dims_for(self, config: object) -> dict[str, Dim]:
        """Return the dims that the inputs use under `config`."""
        used = {
            axis
            for spec in self.inputs_for(config)
            for axis in (*spec.shape, spec.index_of)
            if isinstance(axis, str)
        }
        return {name: dim for name, dim in self.dims.items() if name in used}
