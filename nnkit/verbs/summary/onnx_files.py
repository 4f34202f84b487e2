"""An ONNX file of anybody's -> FileReport, without its external data unless values are asked for."""

import math
from collections import Counter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.external_data_helper import uses_external_data

from nnkit.contract.visible import brief
from nnkit.errors import NnkitError
from nnkit.models import metadata
from nnkit.models.external_data import files_of, graphs_in, mismatch
from nnkit.models.metadata import damaged
from nnkit.verbs.summary.file_report import Axis, FileReport, FileTensor, Graph, Port, TensorStats


def inspect_onnx(path: Path, stats: bool) -> FileReport:
    """Return what is in an ONNX file.

    Raises NnkitError for a damaged one, or one whose other files are missing or not those written with it.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise damaged(path, error) from error
    if not model.HasField("graph"):
        raise damaged(path, "it has no graph")
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if metadata.KEY in texts:
        metadata.decode(texts[metadata.KEY], path)  # which raises where nnkit didn't write it
    graphs = list(graphs_in(model.graph))
    initializers = [each for graph in graphs for each in graph.initializer]
    _check(path, graphs)
    files = files_of(path, model)
    for tensor in initializers:
        _check_length(path, tensor)
    if problem := mismatch(path, model):
        raise NnkitError(problem, "export it again, or fetch both files again")
    tensors = tuple(_tensor(path, each, stats) for each in initializers)
    return FileReport(
        file=str(path),
        format="onnx",
        bytes=path.stat().st_size + sum(files.values()),
        tensors=tensors,
        elements=sum(each.elements for each in tensors),
        tensor_bytes=sum(each.bytes for each in tensors),
        files=files,
        metadata=texts,
        graph=_graph(model, graphs),
    )


def _check(path: Path, graphs: list[GraphProto]) -> None:
    """Raise NnkitError for an initializer that can't be: its name, dtype, shape or the bytes that it has."""
    for graph in graphs:
        names = Counter(tensor.name for tensor in graph.initializer)
        for tensor in graph.initializer:
            name = brief(tensor.name)
            if names[tensor.name] > 1:
                raise damaged(path, f"it has {name} {names[tensor.name]} times")
            if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
                raise damaged(path, f"{name} has the unknown dtype {tensor.data_type}")
            if min(tensor.dims, default=0) < 0:
                raise damaged(path, f"{name} has the shape {brief(list(tensor.dims))}")
            needed = _bytes(tensor, math.prod(tensor.dims))
            if tensor.HasField("raw_data") and len(tensor.raw_data) != needed:
                has = f"{len(tensor.raw_data):,} bytes, and its dtype and shape need {needed:,}"
                raise damaged(path, f"{name} has {has}")


def _graph(model: ModelProto, graphs: list[GraphProto]) -> Graph:
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    given = {each.name for each in model.graph.initializer}
    return Graph(
        ir_version=model.ir_version,
        opsets={each.domain or "ai.onnx": each.version for each in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(_port(each) for each in model.graph.input if each.name not in given),
        outputs=tuple(_port(each) for each in model.graph.output),
        operators=dict(Counter(map(_operator, nodes)).most_common()),
    )


def _operator(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _port(value: ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    shape: tuple[Axis, ...] = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in kind.shape.dim
    )
    return Port(value.name, _dtype(kind.elem_type), shape)


def _dtype(number: int) -> str:
    """Return `float32`, the name that torch and NumPy have for it, where onnx calls it FLOAT."""
    if number not in TensorProto.DataType.values():
        return "?"
    name = str(TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64", "undefined": "?"}.get(name, name)


def _tensor(path: Path, tensor: TensorProto, stats: bool) -> FileTensor:
    shape, dtype = tuple(tensor.dims), _dtype(tensor.data_type)
    elements = math.prod(shape)
    where = {each.key: each.value for each in tensor.external_data} if uses_external_data(tensor) else {}
    return FileTensor(
        tensor.name, dtype, shape, elements, _bytes(tensor, elements), where.get("location", ""),
        _stats(path, tensor) if stats else None,
    )  # fmt: skip


def _bytes(tensor: TensorProto, elements: int) -> int:
    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    name = TensorProto.DataType.Name(tensor.data_type)
    bits = 4 if name.endswith(("INT4", "E2M1")) else 2 if name.endswith("INT2") else None
    if bits:
        return math.ceil(elements * bits / 8)
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _stats(path: Path, tensor: TensorProto) -> TensorStats | None:
    import torch

    from nnkit.verbs.summary.values import stats_of

    if tensor.data_type == TensorProto.STRING:
        return None
    try:
        values = onnx.numpy_helper.to_array(tensor, base_dir=str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise damaged(path, f"the values of {tensor.name!r} can't be read: {error}") from error
    if values.dtype.kind == "V" or values.dtype.name.startswith(("bfloat", "float8", "int4", "uint4")):
        values = values.astype("float32")  # which torch can't take from NumPy as they are
    return stats_of(torch.from_numpy(values.copy()))


def _check_length(path: Path, tensor: TensorProto) -> None:
    """Raise NnkitError where the bytes that a tensor has in another file can't be its own."""
    length = {entry.key: entry.value for entry in tensor.external_data}.get("length")
    needed = _bytes(tensor, math.prod(tensor.dims))
    if uses_external_data(tensor) and length is not None and int(length) != needed:
        claim = f"{int(length):,} bytes in another file"
        raise damaged(path, f"{brief(tensor.name)} has {claim}, and its dtype and shape need {needed:,}")
