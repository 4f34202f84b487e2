"""Any ONNX file -> FileReport, without its external data unless values are asked for."""

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
        metadata.decode(texts[metadata.KEY], path)  # which raises if nnkit didn't write it
    graphs = list(graphs_in(model.graph))
    initializers = [initializer for graph in graphs for initializer in graph.initializer]
    _check(path, graphs)
    files = files_of(path, model)
    for tensor in initializers:
        _check_length(path, tensor)
    if problem := mismatch(path, model):
        raise NnkitError(problem, "export it again, or fetch both files again")
    tensors = tuple(_tensor(path, initializer, stats) for initializer in initializers)
    return FileReport(
        file=str(path),
        format="onnx",
        bytes=path.stat().st_size + sum(files.values()),
        tensors=tensors,
        elements=sum(tensor.elements for tensor in tensors),
        tensor_bytes=sum(tensor.bytes for tensor in tensors),
        files=files,
        metadata=texts,
        graph=_graph(model, graphs),
    )


def _check(path: Path, graphs: list[GraphProto]) -> None:
    """Raise NnkitError for an initializer with an impossible name, dtype, shape or number of bytes."""
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
    initialized = {initializer.name for initializer in model.graph.initializer}
    return Graph(
        ir_version=model.ir_version,
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(port_of(value) for value in model.graph.input if value.name not in initialized),
        outputs=tuple(port_of(output) for output in model.graph.output),
        operators=dict(Counter(map(operator_of, nodes)).most_common()),
    )


def operator_of(node: NodeProto) -> str:
    """Return the name of a node's operator, with its domain unless that is ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def port_of(value: ValueInfoProto) -> Port:
    """Return the name, dtype and shape of a value."""
    tensor = value.type.tensor_type
    shape: tuple[Axis, ...] = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim
    )
    return Port(value.name, _dtype(tensor.elem_type), shape)


def _dtype(number: int) -> str:
    """Return `float32`, torch's and NumPy's name, for what onnx calls FLOAT."""
    if number not in TensorProto.DataType.values():
        return "?"
    name = str(TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64", "undefined": "?"}.get(name, name)


def _tensor(path: Path, tensor: TensorProto, stats: bool) -> FileTensor:
    shape, dtype = tuple(tensor.dims), _dtype(tensor.data_type)
    elements = math.prod(shape)
    external = _external_data(tensor) if uses_external_data(tensor) else {}
    return FileTensor(
        name=tensor.name,
        dtype=dtype,
        shape=shape,
        elements=elements,
        bytes=_bytes(tensor, elements),
        file=external.get("location", ""),
        stats=_stats(path, tensor) if stats else None,
    )


def _external_data(tensor: TensorProto) -> dict[str, str]:
    """Return where a tensor lies in another file: `location`, `offset`, `length`."""
    return {entry.key: entry.value for entry in tensor.external_data}


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
    """Raise NnkitError if a tensor has too many or too few bytes in another file."""
    length = _external_data(tensor).get("length")
    needed = _bytes(tensor, math.prod(tensor.dims))
    if uses_external_data(tensor) and length is not None and int(length) != needed:
        claim = f"{int(length):,} bytes in another file"
        raise damaged(path, f"{brief(tensor.name)} has {claim}, and its dtype and shape need {needed:,}")
