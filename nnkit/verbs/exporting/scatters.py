"""Replace ScatterND with a reduction by an operator that ONNX Runtime computes right on several threads.

ONNX Runtime (1.32) splits a ScatterND between its threads even where it adds. When two threads update one
row, updates get lost, and graph networks with many edges get wrong results. ScatterElements runs in order.

    ScatterND(data (N, C), indices (E, 1), updates (E, C), add)
    -> ScatterElements(data, Expand(indices, Shape(updates)), updates, axis 0, add)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir


def scatter_in_order(model: "onnx_ir.Model") -> None:
    """Replace each ScatterND of `model` that reduces rows of its data."""
    import onnx_ir

    for node in list(onnx_ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type != "ScatterND" or node.attributes.get_string("reduction", "none") == "none":
            continue
        data, indices, updates = node.inputs
        if data is None or indices is None or updates is None:
            continue
        if indices.shape is None or updates.shape is None or node.graph is None:
            continue
        if indices.shape.rank() == 2 and indices.shape[-1] == 1:
            _replace(node.graph, node, [data, indices, updates], updates.shape.rank())


def _replace(
    graph: "onnx_ir.Graph | onnx_ir.Function",
    node: "onnx_ir.Node",
    inputs: "Sequence[onnx_ir.Value]",
    rank: int,
) -> None:
    """Replace a ScatterND whose indices have the shape (E, 1) and whose updates have `rank` axes."""
    import onnx_ir

    data, indices, updates = inputs
    last = list(range(2, rank)) if rank > 1 else [1]
    nodes = []
    if rank != 2:  # (E, 1) -> (E, 1, 1), or (E,)
        axes = onnx_ir.node("Constant", [], {"value_ints": last})
        reshape = onnx_ir.node("Unsqueeze" if rank > 1 else "Squeeze", [indices, axes.outputs[0]])
        nodes += [axes, reshape]
        indices = reshape.outputs[0]
    shape = onnx_ir.node("Shape", [updates])
    expand = onnx_ir.node("Expand", [indices, shape.outputs[0]])
    reduction = node.attributes.get_string("reduction", "none")
    scatter = onnx_ir.node(
        "ScatterElements", [data, expand.outputs[0], updates], {"axis": 0, "reduction": reduction}
    )
    nodes += [shape, expand, scatter]
    old, new = node.outputs[0], scatter.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    onnx_ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [old], [new])
