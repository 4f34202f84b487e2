"""The matrix Â of a graph, in the form that multiplies features fastest where it is.

    Â = D^-½ (A + I) D^-½,    D = diag of the row sums of A + I

Row t of A holds the edges into node t: A[t, s] is the weight of the edge s -> t, so Â X sums over the
neighbours that point at a node, and its degree counts them. A node that has a self-loop keeps that
one's weight; the others get one of weight 1 (as PyG's `add_remaining_self_loops`). Nothing here has
N² elements but the dense matrix that the caller brings.

A graph of 2.4 million nodes and 124 million directed edges (ogbn-products) with 32-bit floats, on
paper: edge_index 2.0 GB, its weights 0.5 GB, the CSR matrix 1.5 GB, one activation of 256 features
2.5 GB; gathered messages would be 127 GB a layer, which is why the product is CSR's and not a
scatter. Symbols: N nodes, E edges, F features.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Protocol

import torch
from torch import Tensor


class Adjacency(Protocol):
    """A matrix (N, N) that can multiply features (N, F) from the left."""

    def __matmul__(self, x: Tensor) -> Tensor: ...


class EdgeList:
    """A matrix by its entries: `index` (2, E) of source and target, `weight` (E,).

    Multiplies by CSR where torch can, and by gathering and adding up where it can't: while exporting,
    on meta tensors, in half precision, or when the weights themselves are to be learnt.
    """

    def __init__(self, index: Tensor, weight: Tensor, num_nodes: int) -> None:
        self.index, self.weight, self.num_nodes = index, weight, num_nodes
        self._csr: Tensor | None = None

    def prepare(self, x: Tensor) -> None:
        """Make now what multiplying features like `x` will need."""
        if self._csr is None and self._multiplies_by_csr(x):
            self._csr = _csr(self.index, self.weight, self.num_nodes)

    def __matmul__(self, x: Tensor) -> Tensor:
        self.prepare(x)
        if self._csr is not None:
            return self._csr @ x
        source, target = self.index
        messages = x[source] * self.weight[:, None]  # (E, F)
        return x.new_zeros(self.num_nodes, x.shape[1]).index_add(0, target, messages)  # (N, F)

    def _multiplies_by_csr(self, x: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()
            and not torch.compiler.is_exporting()
            and x.device.type in ("cpu", "cuda")
            and x.dtype in (torch.float32, torch.float64)
            and not self.weight.requires_grad
            and self.index.shape[1] > 0
        )


def _csr(index: Tensor, weight: Tensor, num_nodes: int) -> Tensor:
    """Return the matrix as CSR, entries that repeat added up."""
    source, target = index
    entries = torch.sparse_coo_tensor(
        torch.stack([target, source]), weight, (num_nodes, num_nodes), check_invariants=True
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return entries.coalesce().to_sparse_csr()


def normalize_edges(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> EdgeList:
    """Return Â for `edge_index` (2, E), with weights (E,) or 1 each, in the dtype of features `like` (N, F).

    No shape depends on a value, so it exports and runs on meta: loops that are there give their
    weight to the one loop that each node gets, and keep none.
    """
    num_nodes = like.shape[0]
    source, target = edge_index
    weight = like.new_ones(source.shape[0]) if edge_weight is None else edge_weight  # (E,)
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
    weight = like.new_ones(edge_index.shape[1]) if edge_weight is None else edge_weight
    return EdgeList(edge_index, weight, like.shape[0])


def mean_edges(edge_index: Tensor, edge_weight: Tensor | None, like: Tensor) -> EdgeList:
    """Return A with each row divided by its sum: multiplying averages over the neighbours, by weight.

    A node without neighbours gets zeros.
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
    """Keeps the last normalised graph, for as long as the very same tensors come unchanged."""

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
