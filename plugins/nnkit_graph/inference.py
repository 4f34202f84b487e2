"""The layers of a GCN in two buffers, for inference on the CPU: the same numbers, bit by bit, sooner.

Written plainly, each step makes a new tensor of N nodes and F features. On a large graph the first write to
new memory costs as much as the step. Here two buffers take turns as source and target, and bias and relu
stay where they are. For widths 128 -> 256 -> 40, which aggregate before the first W and after the second:

    Â X -> a      a W_1 -> b    b = relu(b + b_1)      b W_2 -> a      Â a -> scores     scores += b_2
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nnkit_graph.adjacency import CompressedRows
from nnkit_graph.observers import sees_calls, sees_operations

if TYPE_CHECKING:
    from nnkit_graph.gcn import GCNConv

Step = Callable[[Tensor, Tensor], object]
"""A product with its argument (N, F), written into a tensor (N, F')."""


def may_overwrite(x: Tensor, convs: Sequence["GCNConv"]) -> bool:
    """Return whether nothing can tell these layers in two buffers from the plain ones, but by time."""
    if sees_operations() or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if x.dtype not in (torch.float32, torch.float64):  # the matrix has another precision
        return False
    if any(sees_calls(conv) or sees_calls(conv.lin) for conv in convs):
        return False
    if any(type(conv.lin) is not nn.Linear or conv.lin.bias is not None for conv in convs):
        return False
    tensors = [x, *(parameter for conv in convs for parameter in conv.parameters())]
    return all(
        type(tensor) in (Tensor, nn.Parameter) and tensor.is_cpu and tensor.dtype == x.dtype
        for tensor in tensors
    )


def scores_in_two_buffers(
    x: Tensor, convs: Sequence["GCNConv"], matrices: Sequence[CompressedRows | None]
) -> Tensor:
    """Return the scores (N, C) for x (N, F), where each layer multiplies by its matrix, if it has one."""
    layers = [_steps(conv, matrix) for conv, matrix in zip(convs, matrices, strict=True)]
    widths = [width for layer in layers for _, width in layer]
    free, taken = (x.new_empty(x.shape[0] * max(widths[:-1], default=0)) for _ in range(2))
    for layer, conv in zip(layers, convs, strict=True):
        if layer is not layers[0]:
            x.relu_()
        for step, width in layer:
            is_last = layer is layers[-1] and step is layer[-1][0]
            target = x.new_empty(x.shape[0] * width) if is_last else free[: x.shape[0] * width]
            target = target.view(x.shape[0], width)
            step(x, target)
            x, free, taken = target, taken, free
        if conv.bias is not None:
            x.add_(conv.bias)
    return x


def _steps(conv: "GCNConv", matrix: CompressedRows | None) -> list[tuple[Step, int]]:
    """Return the products of a layer in their order, each with the number of features that it gives."""
    out_channels, in_channels = conv.lin.weight.shape

    def linear(x: Tensor, target: Tensor) -> None:
        torch.mm(x, conv.lin.weight.t(), out=target)

    if matrix is None:
        return [(linear, out_channels)]
    if conv.widens:
        return [(matrix.multiply_into, in_channels), (linear, out_channels)]
    return [(linear, out_channels), (matrix.multiply_into, out_channels)]
