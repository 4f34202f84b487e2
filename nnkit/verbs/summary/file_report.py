"""The report of a model file. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nnkit.models.metadata import INDEX

SUFFIXES = (".onnx", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".gguf")


def is_model_file(path: Path) -> bool:
    """Whether a path has the suffix of a model file."""
    return path.suffix in SUFFIXES or path.name.endswith(INDEX)


@dataclass(frozen=True)
class TensorStats:
    """Statistics of the finite values of a tensor; `nans` and `infinities` count the others.

    std: of the population. All are None if there is no finite value.
    """

    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    nans: int
    infinities: int


@dataclass(frozen=True)
class FileTensor:
    """A tensor in a file. bytes: of its values. file: the other file that holds it, "" if it is this one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    bytes: int
    file: str = ""
    stats: TensorStats | None = None


@dataclass(frozen=True)
class FilePart:
    """What a checkpoint holds under a key.

    Attributes:
        key: the key; dotted where mappings are nested, empty for the whole file.
        tensors: the number of tensors.
        elements: the number of their elements.
        state_dict: whether `--weights FILE --key KEY` can load it.
        prefix: what the names of all its tensors begin with: `module.`.
    """

    key: str
    tensors: int
    elements: int
    state_dict: bool
    prefix: str = ""


Axis: TypeAlias = int | str


@dataclass(frozen=True)
class Port:
    """An input or output of a graph; an axis is a size, the name of one, or `?`."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]


@dataclass(frozen=True)
class Graph:
    """What an ONNX file has beside tensors. operators: how often each occurs, including in subgraphs."""

    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: Mapping[str, int]


@dataclass(frozen=True)
class Block:
    """The tensors of a part of a model: `blk.0`, `token_embd`."""

    name: str
    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class FileReport:
    """What is in a model file.

    Attributes:
        file: its path.
        format: `onnx`, `safetensors`, `torch` or `gguf`.
        bytes: the bytes of all its files together.
        tensors: its tensors, with their dtypes and shapes.
        elements: the number of elements in all tensors.
        tensor_bytes: the memory of all tensors, in which tied ones count once.
        files: the other files that belong to it, with their bytes.
        metadata: entries of the file, as text.
        parts: of a file of torch, what its keys hold.
        graph: what an ONNX file computes; None for other formats.
        blocks: the parts of a model in a GGUF file; empty for other formats.

    Example:

        export("simple-cnn", "model.safetensors")
        assert inspect_file("model.safetensors").elements == 545_098
    """

    SCHEMA = "nnkit.file/1"

    file: str
    format: Literal["onnx", "safetensors", "torch", "gguf"]
    bytes: int
    tensors: tuple[FileTensor, ...]
    elements: int
    tensor_bytes: int
    files: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[FilePart, ...] = ()
    graph: Graph | None = None
    blocks: tuple[Block, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {"schema": self.SCHEMA, "nnkit": __version__, **asdict(self)}
