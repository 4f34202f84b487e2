"""The matrix Â of a graph, in the form that multiplies features fastest where it is.

    Â = D^-½ (A + I) D^-½,    D = diag of the row sums of A + I

Row t of A holds the edges into node t: A[t, s] is the weight of the edge s -> t, so Â X sums over the
neighbors that point at a node, and its degree counts them. A node that has a self-loop keeps that
one's weight; the others get one of weight 1 (as PyG's `add_remaining_self_loops`). Nothing here has
N² elements but the dense matrix that the caller brings.

A graph of 2.4 million nodes and 124 million directed edges (ogbn-products) with 32-bit floats, on
paper: edge_index 2.0 GB, its weights 0.5 GB, the CSR matrix 1.0 GB with indices of 32 bits and as much
again for its transpose in training, one activation of 256 features 2.5 GB; gathered messages would be
127 GB a layer, which is why the product is CSR's and not a scatter.
Symbols: N nodes, E edges, F features.
"""

from __future__ import annotations

import warnings
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator


class Adjacency(Protocol):
    """A matrix (N, N) that can multiply features (N, F) from the left."""

    def __matmul__(self, x: Tensor) -> Tensor: ...


class EdgeList:
    """A matrix by its entries: `index` (2, E) of source and target, `weight` (E,).

    Multiplies by CSR where torch can, and by gathering and adding up where it can't: while exporting,
    on meta tensors, or when the weights themselves are to be learned. Adds up in the precision of the
    weights, which is never half.
    """

    def __init__(self, index: Tensor, weight: Tensor, num_nodes: int) -> None:
        self.index, self.weight, self.num_nodes = index, weight, num_nodes
        self._csr: CSR | None = None

    def prepare(self, x: Tensor) -> None:
        """Make now what multiplying features like `x` will need."""
        if self._csr is None and self._multiplies_by_csr(x):
            self._csr = CSR(_csr(self.index, self.weight, self.num_nodes))

    def __matmul__(self, x: Tensor) -> Tensor:
        self.prepare(x)
        if self._csr is not None:
            return _multiply(self._csr, x.to(self.weight.dtype)).to(x.dtype)
        source, target = self.index
        messages = x[source] * self.weight[:, None]  # (E, F)
        sums = messages.new_zeros(self.num_nodes, x.shape[1]).index_add(0, target, messages)  # (N, F)
        return sums.to(x.dtype)

    def _multiplies_by_csr(self, x: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()
            and not torch.compiler.is_exporting()
            and x.device.type in ("cpu", "cuda")
            and not self.weight.requires_grad
            and self.index.shape[1] > 0
        )


class CSR:
    """A constant matrix in compressed rows and, once it is asked for, its transpose likewise."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self._transpose: CSR | None = None

    @property
    def transpose(self) -> CSR:
        if self._transpose is None:
            with _beta_silenced():
                self._transpose = CSR(self.rows.t().to_sparse_csr())
        return self._transpose


class _Product(torch.autograd.Function):
    """A X, and Aᵀ G on the way back; torch's own way back multiplies by columns, at half the speed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: CSR) -> Tensor:
        ctx.matrix = matrix
        # Autocast would bring the matrix to a precision for which there is no product.
        with torch.autocast(x.device.type, enabled=False):
            return matrix.rows @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _multiply(ctx.matrix.transpose, gradient), None


def _multiply(matrix: CSR, x: Tensor) -> Tensor:
    product: Tensor = _Product.apply(x, matrix)  # type: ignore[no-untyped-call]
    return product


def _csr(index: Tensor, weight: Tensor, num_nodes: int) -> Tensor:
    """Return the matrix as CSR, entries that repeat added up."""
    source, target = index
    shape = (num_nodes, num_nodes)
    entries = torch.sparse_coo_tensor(torch.stack([target, source]), weight, shape, check_invariants=True)
    with _beta_silenced():
        csr = entries.coalesce().to_sparse_csr()
        rows, columns, values = csr.crow_indices(), csr.col_indices(), csr.values()
        if values.shape[0] < 2**31:  # half the bytes, and what MKL would copy them to at each product
            rows, columns = rows.int(), columns.int()
        return torch.sparse_csr_tensor(rows, columns, values, shape, check_invariants=False)


@contextmanager
def _beta_silenced() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def dtype_of_sums(dtype: torch.dtype) -> torch.dtype:
    """Return the precision to add up in: adding ones, bfloat16 stops at 256 and float16 at 2,048."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def _weights(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> Tensor:
    """Return the weights (E,), 1 each where there are none, in the precision to add up in."""
    dtype = dtype_of_sums(like.dtype)
    return like.new_ones(edge_index.shape[1], dtype=dtype) if edge_weight is None else edge_weight.to(dtype)


def normalize_edges(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> EdgeList:
    """Return Â for `edge_index` (2, E), with weights (E,) or 1 each, to multiply features `like` (N, F).

    No shape depends on a value, so it exports and runs on meta: loops that are there give their
    weight to the one loop that each node gets, and keep none.
    """
    num_nodes = like.shape[0]
    source, target = edge_index
    weight = _weights(edge_index, edge_weight, like)  # (E,)
    is_loop = source == target
    # What is no loop writes to one place more, which is then cut off.
    place = torch.where(is_loop, target, num_nodes)
    loops = weight.new_ones(num_nodes + 1).scatter(0, place, weight)[:num_nodes]  # (N,)
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
    """Return A with each row divided by its sum: multiplying averages over the neighbors, by weight.

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
    """Keeps the last normalized graph, for as long as the very same tensors come unchanged."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._alive: list[weakref.ref[Tensor]] = []
        self._value: EdgeList | None = None

    def get(self, *key: Tensor | int | torch.dtype | None) -> EdgeList | None:
        """Return the graph made from `key`, if it is the last one that was put."""
        same = self._key == _identity(key) and all(each() is not None for each in self._alive)
        return self._value if same else None

    def put(self, value: EdgeList, *key: Tensor | int | torch.dtype | None) -> None:
        """Keep the graph made from `key` in the place of the last."""
        self._key, self._value = _identity(key), value
        self._alive = [weakref.ref(each) for each in key if isinstance(each, Tensor)]

    def __deepcopy__(self, memo: object) -> AdjacencyCache:
        return AdjacencyCache()

    def __reduce__(self) -> tuple[type[AdjacencyCache], tuple[()]]:
        return AdjacencyCache, ()


def _identity(key: tuple[Tensor | int | torch.dtype | None, ...]) -> tuple[object, ...]:
    """Name tensors by object and version: an in-place change makes another graph."""
    return tuple((id(each), _version(each)) if isinstance(each, Tensor) else each for each in key)


def _version(tensor: Tensor) -> int:
    # Tensors made under inference mode can't say whether they have changed; a new number each time
    # means that they are never taken for unchanged.
    return next(_counter) if tensor.is_inference() else tensor._version


_counter = iter(range(-1, -(2**62), -1))
