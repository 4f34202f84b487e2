"""What a plugin declares about an architecture. Only data, so this module never imports torch.

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

    Attributes:
        default: The size if the user gives none.
        min: The smallest size.
        max: The largest size. None: no limit.
        multiple_of: Every size is a multiple of this.
        description: What the dim counts, for the help text.

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
        """The smallest allowed size."""
        return -(-self.min // self.multiple_of) * self.multiple_of

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
        name: The parameter of `forward` that takes it, or the name of the output.
        shape: One entry per axis: an int, the name of a dim, or the name of an integer config field. An axis
            of an output may be arithmetic of these, with `+ - * //` and parentheses: `(time + 1) // 2`.
        dtype: A torch dtype by name; `float` follows the dtype of the model.
        sample: How random values are drawn: `normal` (standard normal), `uniform` (between 0 and 1),
            `zeros`, `index` (integers from 0 to below the size of `index_of`), `lengths` (integers from
            `least` to the size of `index_of`, one of them equal to it), `mask` (bool, both values in every
            row, False in a row of one), `keep` (the same, but True in a row of one), `adjacency` (a
            symmetric 0/1 matrix with a zero diagonal, in the last two axes), or `module:function`, called
            as `function(shape, sizes, dtype, generator) -> Tensor` on the CPU, with the sizes of all dims
            and integer config fields by name.
        index_of: For integers, the dim (or config field, or number) that they index or count.
        description: What it holds, for `nnkit info`.
        least: The smallest of `lengths`.

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
class Architecture:
    """A network that nnkit can build, summarize, export and smoke-run.

    Attributes:
        name: Lower-case words joined by hyphens, unique within its plugin.
        summary: One line, for `nnkit list`.
        build: `module:callable`, called as `callable(config)`; returns the `torch.nn.Module`.
        config: A frozen, keyword-only dataclass; each field has a default and becomes an option.
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
        requires: Packages that must be installed, each with the command that installs it.
        typed: The words for it on a command line, if no plugin declares it.

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
