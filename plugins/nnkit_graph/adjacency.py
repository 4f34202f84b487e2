"""The matrix Â of a graph, in the form that multiplies features fastest on their device.

    Â = D^-½ (A + I) D^-½,    D = diag of the row sums of A + I

Row t of A holds the edges into node t: A[t, s] is the weight of the edge s -> t. So Â X sums over the
neighbors that point at a node, and its degree counts them. A node that has a self-loop keeps the weight
of that loop; every other node gets a loop of weight 1, as with PyG's `add_remaining_self_loops`. Only
the caller's own dense matrix has N² elements. Symbols: N nodes, E edges, F features.
"""

import itertools
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from nnkit_graph.observers import is_transformed, sees_operations


class Adjacency(Protocol):
    """A matrix (N, N) that can multiply features (N, F) from the left."""

    def __matmul__(self, x: Tensor) -> Tensor: ...


class EdgeList:
    """A matrix by its entries: `index` (2, E) of source and target, `weight` (E,).

    Multiplies by CSR where torch can. Elsewhere it gathers messages and adds them up: in an export, under
    vmap, on meta tensors, and when the weights are learned. It adds in the precision of the weights, which is
    never half.
    """

    def __init__(self, index: Tensor, weight: Tensor, num_nodes: int) -> None:
        self.index, self.weight, self.num_nodes = index, weight, num_nodes
        self._compressed: CompressedRows | None = None

    def compress(self, x: Tensor) -> "CompressedRows | None":
        """Return the rows by which features like `x` are multiplied, or None where torch can't do that."""
        if not self._can_compress(x):
            return None
        if self._compressed is None:
            self._compressed = CompressedRows(_to_csr(self.index, self.weight, self.num_nodes))
        return self._compressed

    def __matmul__(self, x: Tensor) -> Tensor:
        rows = self.compress(x)
        if rows is not None:
            return _multiply(rows, x.to(self.weight.dtype)).to(x.dtype)
        source, target = self.index
        messages = x[source] * self.weight[:, None]  # (E, F)
        sums = messages.new_zeros(self.num_nodes, x.shape[1]).index_add(0, target, messages)  # (N, F)
        return sums.to(x.dtype)

    def _can_compress(self, x: Tensor) -> bool:
        return (
            not is_transformed()
            and x.device.type in ("cpu", "cuda")
            and not self.weight.requires_grad
            and self.index.shape[1] > 0
        )


class CompressedRows:
    """A constant matrix in torch's CSR layout, and its transpose in the same layout once it is needed."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self._transpose: CompressedRows | None = None

    @property
    def transpose(self) -> "CompressedRows":
        if self._transpose is None:
            with _silence_beta_warning():
                self._transpose = CompressedRows(self.rows.t().to_sparse_csr())
        return self._transpose

    def multiply_into(self, x: Tensor, target: Tensor) -> Tensor:
        """Write the product with x (N, F) into `target` (N, F), whatever is there.

        This is what `@` does at last, without the two tensors that it first fills with zeros and copies.
        """
        return torch.addmm(target, self.rows, x, beta=0, out=target)


class _Product(torch.autograd.Function):
    """A X forward, and Aᵀ G backward. torch's own backward multiplies by columns, at half the speed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: CompressedRows) -> Tensor:
        ctx.matrix = matrix
        # Autocast would convert the matrix to a precision that has no product.
        with torch.autocast(x.device.type, enabled=False):
            if x.is_cpu and not sees_operations():
                return matrix.multiply_into(x, x.new_empty(matrix.rows.shape[0], x.shape[1]))
            return matrix.rows @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _multiply(ctx.matrix.transpose, gradient), None


def _multiply(matrix: CompressedRows, x: Tensor) -> Tensor:
    product: Tensor = _Product.apply(x, matrix)  # type: ignore[no-untyped-call]
    return product


def _to_csr(index: Tensor, weight: Tensor, num_nodes: int) -> Tensor:
    """Return the matrix in CSR layout, with repeated entries added up."""
    source, target = index
    shape = (num_nodes, num_nodes)
    entries = torch.sparse_coo_tensor(torch.stack([target, source]), weight, shape, check_invariants=True)
    with _silence_beta_warning():
        csr = entries.coalesce().to_sparse_csr()
        rows, columns, values = csr.crow_indices(), csr.col_indices(), csr.values()
        if values.shape[0] < 2**31:  # half the memory, and MKL would convert to it at each product
            rows, columns = rows.int(), columns.int()
        return torch.sparse_csr_tensor(rows, columns, values, shape, check_invariants=False)


@contextmanager
def _silence_beta_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def dtype_of_sums(dtype: torch.dtype) -> torch.dtype:
    """Return the precision to add up in: a sum of ones stops at 256 in bfloat16, at 2,048 in float16."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def _weights(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> Tensor:
    """Return the weights (E,), or ones, in the precision to add up in."""
    dtype = dtype_of_sums(like.dtype)
    return like.new_ones(edge_index.shape[1], dtype=dtype) if edge_weight is None else edge_weight.to(dtype)


def normalize_edges(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> EdgeList:
    """Return Â for `edge_index` (2, E), with weights (E,) or 1 each, to multiply features `like` (N, F).

    Each node gets one loop. A loop that the graph has already gives its weight to that one and keeps none,
    rather than being removed: no shape may depend on a value, so that this exports and runs on meta.
    """
    num_nodes = like.shape[0]
    source, target = edge_index
    weight = _weights(edge_index, edge_weight, like)  # (E,)
    is_loop = source == target
    # An edge that is no loop writes to an extra row, which is then cut off.
    row = torch.where(is_loop, target, num_nodes)
    loops = weight.new_ones(num_nodes + 1).scatter(0, row, weight)[:num_nodes]  # (N,)
    nodes = torch.arange(num_nodes, device=edge_index.device)
    index = torch.cat([edge_index, torch.stack([nodes, nodes])], dim=1)  # (2, E + N)
    weight = torch.cat([weight.masked_fill(is_loop, 0.0), loops])  # (E + N,)
    source, target = index
    scale = _inverse_square_root(weight.new_zeros(num_nodes).index_add(0, target, weight))
    return EdgeList(index, scale[source] * weight * scale[target], num_nodes)


def bare_edges(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> EdgeList:
    """Return A itself, as an edge list."""
    return EdgeList(edge_index, _weights(edge_index, edge_weight, like), like.shape[0])


def mean_edges(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> EdgeList:
    """Return A with each row divided by its sum: its product is the weighted mean over the neighbors.

    A node without neighbors gets zeros.
    """
    bare = bare_edges(edge_index, edge_weight, like)
    target = edge_index[1]
    total = bare.weight.new_zeros(bare.num_nodes).index_add(0, target, bare.weight)
    share = torch.where(total == 0, 0.0, 1 / torch.where(total == 0, 1.0, total))  # (N,)
    return EdgeList(edge_index, bare.weight * share[target], bare.num_nodes)


def normalize_matrix(adjacency: Tensor) -> Tensor:
    """Return Â (N, N) for a dense matrix A (N, N)."""
    missing = (adjacency.diagonal() == 0).to(adjacency.dtype)
    with_loops = adjacency + torch.diag(missing)
    scale = _inverse_square_root(with_loops.sum(dim=1))
    return scale[:, None] * with_loops * scale


def _inverse_square_root(degree: Tensor) -> Tensor:
    """Return degree^-½, and 0 for a node without edges."""
    return torch.where(degree > 0, degree, 1.0).rsqrt() * (degree > 0)


class AdjacencyCache:
    """Keeps the last normalized graph, as long as the same tensors come back unchanged."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._references: list[weakref.ref[Tensor]] = []
        self._value: EdgeList | None = None

    def get(self, *key: Tensor | int | torch.dtype | None) -> EdgeList | None:
        """Return the graph made from `key`, if it is the last one that was put."""
        alive = all(reference() is not None for reference in self._references)
        return self._value if alive and self._key == _identify(key) else None

    def put(self, value: EdgeList, *key: Tensor | int | torch.dtype | None) -> None:
        """Keep the graph made from `key` instead of the last one."""
        self._key, self._value = _identify(key), value
        self._references = [weakref.ref(part) for part in key if isinstance(part, Tensor)]

    def __deepcopy__(self, memo: object) -> "AdjacencyCache":
        return AdjacencyCache()

    def __reduce__(self) -> tuple[type["AdjacencyCache"], tuple[()]]:
        return AdjacencyCache, ()


def _identify(key: tuple[Tensor | int | torch.dtype | None, ...]) -> tuple[object, ...]:
    """Return what identifies a key: of a tensor its object and its version, which changes in place raise."""
    return tuple((id(part), _version(part)) if isinstance(part, Tensor) else part for part in key)


def _version(tensor: Tensor) -> int:
    # A tensor made in inference mode has no version. A new number each time means that it never counts as
    # unchanged.
    return next(_unique_versions) if tensor.is_inference() else tensor._version


_unique_versions = itertools.count(-1, -1)
