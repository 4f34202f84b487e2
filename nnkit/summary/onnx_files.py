"""An ONNX file of anybody's -> FileReport, without its external data unless values are asked for."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.external_data_helper import uses_external_data

from nnkit import metadata
from nnkit.errors import NnkitError
from nnkit.metadata import damaged
from nnkit.summary.file_report import Axis, FileReport, FileTensor, Graph, Port, TensorStats
from nnkit.visible import brief


def inspect_onnx(path: Path, stats: bool) -> FileReport:
    """Return what is in an ONNX file. Raises NnkitError for a damaged one, or one whose data is missing."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise damaged(path, error) from error
    if not model.HasField("graph"):
        raise damaged(path, "it has no graph")
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if metadata.KEY in texts:
        metadata.decode(texts[metadata.KEY], path)  # which raises where nnkit didn't write it
    graphs = list(_graphs(model.graph))
    initializers = [each for graph in graphs for each in graph.initializer]
    _check(path, graphs)
    files = _external_files(path, initializers)
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


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and those in its nodes, bodies of loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)
            for each in attribute.graphs:
                yield from _graphs(each)


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

    from nnkit.summary.values import stats_of

    if tensor.data_type == TensorProto.STRING:
        return None
    try:
        values = onnx.numpy_helper.to_array(tensor, base_dir=str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise damaged(path, f"the values of {tensor.name!r} can't be read: {error}") from error
    if values.dtype.kind == "V" or values.dtype.name.startswith(("bfloat", "float8", "int4", "uint4")):
        values = values.astype("float32")  # which torch can't take from NumPy as they are
    return stats_of(torch.from_numpy(values.copy()))


def _external_files(path: Path, tensors: list[TensorProto]) -> dict[str, int]:
    """Return the files that hold values of the model, with their bytes."""
    files: dict[str, int] = {}
    for tensor in tensors:
        if not uses_external_data(tensor):
            continue
        where = {each.key: each.value for each in tensor.external_data}
        name = where.get("location", "")
        if not name or "\0" in name:
            raise damaged(path, f"the values of {brief(tensor.name)} are in {brief(name)}, which is no file")
        place = (path.parent / name).resolve()
        if path.parent.resolve() not in place.parents:
            raise damaged(path, f"it names {name!r}, which is in another folder")
        if not place.is_file():
            raise NnkitError(f"{path} keeps values in {name}, which isn't there", "fetch it too, beside it")
        files[name] = place.stat().st_size
        _check_place(path, tensor, where, files[name])
    return files


def _check_place(path: Path, tensor: TensorProto, where: dict[str, str], size: int) -> None:
    """Raise NnkitError where the bytes that a tensor has in another file can't be its own."""
    needed = _bytes(tensor, math.prod(tensor.dims))
    try:
        offset = int(where.get("offset", 0))
        length = int(where.get("length", needed))
    except ValueError as error:
        raise damaged(path, f"the place of {brief(tensor.name)} can't be read: {error}") from error
    if offset < 0 or length != needed or offset + length > size:
        claim = f"{length:,} bytes from {offset:,} of {size:,} in {where['location']}"
        raise damaged(path, f"{brief(tensor.name)} has {claim}, and its dtype and shape need {needed:,}")
