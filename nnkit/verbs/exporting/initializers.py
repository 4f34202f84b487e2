"""Which tensors of a module the constants of an ONNX file are.

A comparison of outputs can't see every value in a file: a gate may be zero, a unit may be dead. So each
constant is also compared with the tensors of the module, in this order:

1. by name. The same name, shape and dtype mean that it must be that tensor, as it is or transposed.
2. by bits, for constants that an exporter renamed. Two float tensors don't have the same bits by chance,
   unless all their elements are equal (two biases of zeros), and then either is right.
3. as a batch normalization merged into the layer before it, up to rounding.

A constant that is found is right, whatever the outputs show. One that isn't found must show in an output.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nnkit.models.copies import copy_of
from nnkit.models.tensors import registered
from nnkit.verbs.exporting.runtimes import Array, as_array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

FLOATS = frozenset(map(onnx.TensorProto.DataType.Value, ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")))
BLOCK = 2**22  # bytes
FOLD_ROUNDING = 16  # units in the last place by which two ways to merge a layer may differ

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Source:
    """How the values of an initializer are computed from tensors of the module.

    names: the tensors that `compute` uses.
    """

    names: tuple[str, ...]
    compute: Callable[[Tensors], Tensor]

    def value(self, tensors: Tensors) -> Array:
        """Return the values for a module that has these tensors."""
        return as_array(self.compute(tensors))


def same_as(name: str) -> Source:
    """Return the source of an initializer that is a tensor of the module, unchanged."""
    return Source((name,), lambda tensors: tensors[name])


def transpose_of(name: str) -> Source:
    """Return the source of an initializer that is a transposed matrix of the module."""
    return Source((name,), lambda tensors: tensors[name].t())


@dataclass(frozen=True)
class Fold:
    """A layer followed by a batch normalization, which exporters merge into one layer.

    layer, norm: their names in the module. groups: the groups of a transposed convolution, whose output
    channels are on its second axis; 0 for other layers.
    """

    layer: str
    norm: str
    eps: float
    groups: int

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that are merged; not every layer has all of them."""
        return (*self.names_of_layer, *self._names_of_terms, f"{self.norm}.running_var")

    @property
    def _names_of_terms(self) -> tuple[str, ...]:
        """The tensors of the normalization that are scaled and added up."""
        return f"{self.norm}.weight", f"{self.norm}.bias", f"{self.norm}.running_mean"

    @property
    def names_of_layer(self) -> tuple[str, str]:
        """The weight and the bias before the merge; the merged ones may keep these names."""
        return f"{self.layer}.weight", f"{self.layer}.bias"

    def weight(self, tensors: Tensors) -> Tensor:
        """Return the merged weight."""
        original, factor = tensors[f"{self.layer}.weight"], self._factor(tensors)
        weight = original.double()
        kernel_axes = (1,) * (weight.ndim - 2)
        if self.groups:  # (in, out / groups, kernel...) -> (groups, in / groups, out / groups, kernel...)
            grouped = weight.view(self.groups, -1, *weight.shape[1:])
            merged = (grouped * factor.view(self.groups, 1, -1, *kernel_axes)).view(weight.shape)
        else:  # (out, in, kernel...)
            merged = weight * factor.view(-1, 1, *kernel_axes)
        return merged.to(original.dtype)

    def bias(self, tensors: Tensors) -> Tensor:
        """Return the merged bias."""
        mean = tensors[f"{self.norm}.running_mean"]
        before = tensors.get(f"{self.layer}.bias", torch.zeros_like(mean)).double()
        merged = (before - mean.double()) * self._factor(tensors)
        shift = tensors.get(f"{self.norm}.bias", torch.zeros_like(mean))
        return (merged + shift.double()).to(mean.dtype)

    def largest_term(self, tensors: Tensors) -> float:
        """Return the largest number that the merged bias is a sum of; its rounding grows with it."""
        factor = float(self._factor(tensors).abs().max())
        terms = (f"{self.layer}.bias", *self._names_of_terms)
        largest = max(float(tensors[name].abs().max()) for name in terms if name in tensors)
        return max(largest * max(factor, 1.0), torch.finfo(torch.float32).tiny)

    def _factor(self, tensors: Tensors) -> Tensor:
        spread = (tensors[f"{self.norm}.running_var"].double() + self.eps).sqrt()
        scale = tensors.get(f"{self.norm}.weight", torch.ones_like(spread)).double()
        return scale / spread


def find_folds(module: nn.Module, run: Callable[[nn.Module], object]) -> list[Fold]:
    """Return a fold for each layer whose output goes into one batch normalization, which runs once.

    run: runs a module on example inputs.
    """
    module = copy_of(module)
    producers: dict[int, str] = {}  # the id of an output -> the layer that returned it
    layers_before: dict[str, list[str]] = {}  # a normalization -> the layer before it in each of its calls
    alive: list[Any] = []  # keeps all outputs, so that no two share an id

    def record(name: str, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(layer, _NormBase) and args and layer.running_mean is not None:
            layers_before.setdefault(name, []).append(producers.get(id(args[0]), ""))
        elif not isinstance(layer, _NormBase):
            producers[id(output)] = name
        alive.append((args, output))

    for name, layer in module.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear, _NormBase)):
            layer.register_forward_hook(partial(record, name))
    run(module)
    layer_before = {norm: layers[0] for norm, layers in layers_before.items() if len(layers) == 1}
    normalized = Counter(layer_before.values())
    return [
        _make_fold(module, layer, norm)
        for norm, layer in layer_before.items()
        if layer and normalized[layer] == 1
    ]


def _make_fold(module: nn.Module, layer: str, norm: str) -> Fold:
    convolution, normalization = module.get_submodule(layer), module.get_submodule(norm)
    assert isinstance(normalization, _NormBase)
    groups = convolution.groups if isinstance(convolution, _ConvTransposeNd) else 0
    return Fold(layer, norm, normalization.eps, groups)


@dataclass
class Identified:
    """What is known about the constants of a file.

    sources: the constants that can be given the values of a different module. known: those that are tensors
    of the module. wrong: those with the name, shape and dtype of a tensor but other values. unknown: the
    others that a node reads and that have several elements. Single numbers are the exporter's own.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def identify(
    graph: "GraphProto",
    read: Callable[["TensorProto"], Array],
    module: nn.Module,
    folds: Callable[[], list[Fold]],
) -> Identified:
    """Find the tensors of `module` among the initializers of a graph.

    read: returns the values of an initializer. folds: returns the merged layers to search for; it is called
    only when something is not found otherwise.
    """
    identified, tensors = Identified(), registered(module)
    for initializer in graph.initializer:
        if initializer.name in tensors:
            expected = as_array(tensors[initializer.name])
            _compare_named(initializer.name, read(initializer), expected, identified)
    floats = {proto.name: proto for proto in graph.initializer if proto.data_type in FLOATS}
    not_wrong = {name: proto for name, proto in floats.items() if name not in identified.wrong}
    _find_equal(not_wrong, read, tensors, identified)
    unidentified = set(_names_read(graph)) - identified.known
    remaining = {name: proto for name, proto in floats.items() if name in unidentified}
    if remaining:
        arrays = {name: read(proto) for name, proto in remaining.items()}
        _find_folds(arrays, tensors, folds(), identified)
    for name, proto in remaining.items():
        if name not in identified.known and name not in identified.wrong and math.prod(proto.dims) > 1:
            identified.unknown.append(name)
    return identified


def _compare_named(name: str, stored: Array, expected: Array, identified: Identified) -> None:
    """Compare an initializer with the tensor of the same name, unless shape or dtype differ."""
    if (stored.shape, stored.dtype) != (expected.shape, expected.dtype):
        return
    if same_bits(stored, expected):
        identified.known.add(name)
    elif stored.ndim == 2 and same_bits(stored, expected.T):
        identified.known.add(name)
        identified.sources[name] = transpose_of(name)
    else:
        identified.wrong.append(name)


def _find_equal(
    floats: Mapping[str, "TensorProto"],
    read: Callable[["TensorProto"], Array],
    tensors: Tensors,
    identified: Identified,
) -> None:
    """Find the tensors by their bits. If several tensors are equal, the file may hold one for all of them."""
    names_by_digest: dict[bytes, list[str]] = {}
    for name, proto in floats.items():
        names_by_digest.setdefault(_hash(read(proto)), []).append(name)
    for digest, names in _group_equal(tensors).items():
        tensor = tensors[names[0]]
        equal = names_by_digest.get(digest, [])
        transposed = names_by_digest.get(_hash(as_array(tensor.t())), []) if tensor.ndim == 2 else []
        identified.known |= {*equal, *transposed}
        sources = _assign_equal(names, equal, transposed)
        identified.sources = {**sources, **identified.sources}


def _assign_equal(names: list[str], equal: list[str], transposed: list[str]) -> dict[str, Source]:
    """Return which initializer comes from which tensor, where that is certain.

    names: tensors of the module with the same bits. equal, transposed: the initializers that have these
    bits, as they are or transposed. Getting it wrong would fail a file that is right, once the tensors have
    other, different values.
    """
    # A square matrix of a single number reads the same both ways, so how a renamed one is used is unknown.
    is_symmetric = bool(set(equal) & set(transposed))
    sources: dict[str, Source] = {}
    if set(names) <= set(equal):
        # Every tensor has an initializer of its own name: names decide, however many are equal.
        sources = {name: same_as(name) for name in names}
    elif len(names) == len(equal) == 1 and not is_symmetric:
        # One tensor and one initializer have these bits: it was renamed.
        sources = {equal[0]: same_as(names[0])}
    # Otherwise an exporter shared one initializer between equal tensors, or renamed several of them.
    # Which belongs to which doesn't matter for their values, but is unknown for any others.
    if len(names) == 1:
        # A transposed copy of one tensor follows that tensor, whatever the copy is called.
        sources |= {name: transpose_of(names[0]) for name in transposed if name not in equal}
    return sources


def _group_equal(tensors: Tensors) -> dict[bytes, list[str]]:
    """Return the names of the floating-point tensors, grouped by their bits; tied tensors count once."""
    groups: dict[bytes, list[str]] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in tensors.items():
        memory = (tensor.data_ptr(), tensor.shape)
        if tensor.is_floating_point() and memory not in seen:
            seen.add(memory)
            groups.setdefault(_hash(as_array(tensor)), []).append(name)
    return groups


def _find_folds(
    arrays: Mapping[str, Array], tensors: Tensors, folds: list[Fold], identified: Identified
) -> None:
    """Find merged layers among the initializers that are not known yet."""
    for fold in folds:
        weight_name, bias_name = fold.names_of_layer
        weights = _find_matching(arrays, fold.weight(tensors), weight_name, None)
        biases = _find_matching(arrays, fold.bias(tensors), bias_name, fold.largest_term(tensors))
        identified.known |= {*weights, *biases}
        if len(weights) == len(biases) == 1 and not {*weights, *biases} & set(identified.sources):
            names = tuple(name for name in fold.names if name in tensors)
            identified.sources[weights[0]] = Source(names, fold.weight)
            identified.sources[biases[0]] = Source(names, fold.bias)
    identified.wrong = [name for name in identified.wrong if name not in identified.known]


def _find_matching(arrays: Mapping[str, Array], merged: Tensor, name: str, term: float | None) -> list[str]:
    """Return the initializers that equal a merged tensor up to rounding.

    name: its name before the merge; if an initializer has it, no others are considered. term: the largest
    number that went into a sum, None for a product.
    """
    expected = as_array(merged.float()).astype(np.float64)
    unit = float(torch.finfo(merged.dtype).eps) * FOLD_ROUNDING

    def matches(stored: Array) -> bool:
        if stored.shape != expected.shape:
            return False
        limit = unit * (np.abs(expected) if term is None else term)
        return bool((np.abs(stored.astype(np.float64) - expected) <= limit).all())

    candidates = [name] if name in arrays else list(arrays)
    return [candidate for candidate in candidates if matches(arrays[candidate])]


def lift_constants(model: "ModelProto") -> "ModelProto":
    """Return the model with initializers in place of its Constant nodes."""
    lifted = onnx.ModelProto()
    lifted.CopyFrom(model)
    graph = lifted.graph
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        if node.op_type == "Constant" and not node.domain and value is not None:
            initializer = graph.initializer.add()
            initializer.CopyFrom(value)
            initializer.name = node.output[0]
        else:
            graph.node.append(node)
    return lifted


def _names_read(graph: "GraphProto") -> Iterator[str]:
    """Yield the names that nodes of a graph and of its subgraphs read, and those of its outputs."""
    yield from (port.name for port in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _names_read(subgraph)


def same_bits(left: Array, right: Array) -> bool:
    """Whether two arrays are the same, NaN included."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    pairs = zip(_blocks(_bits(left)), _blocks(_bits(right)), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def _blocks(array: Array) -> Iterator[Array]:
    """Yield a flat array in parts of a bounded size; what is computed of the whole would take its memory."""
    return (array[start : start + BLOCK] for start in range(0, len(array), BLOCK))


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _hash(array: Array) -> bytes:
    header = f"{array.dtype}{array.shape}".encode()
    digest = hashlib.sha256(header)
    for block in _blocks(_bits(array)):
        digest.update(block)
    return digest.digest()


def alter(array: Array, seed: int = 0) -> Array:
    """Return other values of the same scale: the elements are shifted by one, and noise is added."""
    generator = np.random.default_rng(seed)
    values = np.where(np.isfinite(array), array, 0).astype(np.float64)
    scale = float(np.abs(values).max()) or 1.0
    noise = generator.standard_normal(array.shape) * scale
    return (np.roll(values.reshape(-1), 1).reshape(array.shape) + noise).astype(array.dtype)
