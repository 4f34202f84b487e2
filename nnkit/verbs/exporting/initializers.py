"""Which tensors of a module the constants of an ONNX file are.

A comparison of outputs can't see every value in a file: a gate may be zero, a unit may be dead. So each
constant is also compared with the module: by name, or by content where an exporter renamed, transposed or
folded it. What remains unknown must show in an output.
"""

import hashlib
import math
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

from nnkit.models.tensors import registered
from nnkit.verbs.exporting.copies import copy_of
from nnkit.verbs.exporting.runtimes import Array, as_array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

FLOATS = frozenset(map(onnx.TensorProto.DataType.Value, ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")))
ROUNDING = 16  # units in the last place by which two ways to fold may differ

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Source:
    """How the values of an initializer are computed from the tensors of the module that have these names."""

    names: tuple[str, ...]
    compute: Callable[[Tensors], Tensor]

    def value(self, tensors: Tensors) -> Array:
        """Return the values for a module that has these tensors."""
        return as_array(self.compute(tensors))


def same_as(name: str) -> Source:
    """Return the source of an initializer that is a tensor of the module as it is."""
    return Source((name,), lambda tensors: tensors[name])


def transpose_of(name: str) -> Source:
    """Return the source of an initializer that is a matrix of the module with its axes swapped."""
    return Source((name,), lambda tensors: tensors[name].t())


@dataclass(frozen=True)
class Fold:
    """A layer whose output goes into a batch normalization, which exporters merge into one layer.

    groups: of a transposed convolution, whose output channels are on its second axis; else 0.
    """

    layer: str
    norm: str
    eps: float
    groups: int

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that are merged; not every layer has each."""
        of_norm = ("weight", "bias", "running_mean", "running_var")
        return (*self.names_of_layer, *(f"{self.norm}.{name}" for name in of_norm))

    @property
    def names_of_layer(self) -> tuple[str, str]:
        """The weight and the bias before the merge; the merged ones may keep these names."""
        return f"{self.layer}.weight", f"{self.layer}.bias"

    def weight(self, tensors: Tensors) -> Tensor:
        """Return the merged weight."""
        weight, factor = tensors[f"{self.layer}.weight"].double(), self._factor(tensors)
        rest = (1,) * (weight.ndim - 2)
        if self.groups:
            grouped = weight.view(self.groups, -1, *weight.shape[1:])
            merged = (grouped * factor.view(self.groups, 1, -1, *rest)).view(weight.shape)
        else:
            merged = weight * factor.view(-1, 1, *rest)
        return merged.to(tensors[f"{self.layer}.weight"].dtype)

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
        parts = [tensors[name].abs().max() for name in self.names[1:5] if name in tensors]
        return max(float(max(parts)) * max(factor, 1.0), torch.finfo(torch.float32).tiny)

    def _factor(self, tensors: Tensors) -> Tensor:
        spread = (tensors[f"{self.norm}.running_var"].double() + self.eps).sqrt()
        scale = tensors.get(f"{self.norm}.weight", torch.ones_like(spread)).double()
        return scale / spread


def folds_of(module: nn.Module, run: Callable[[nn.Module], object]) -> list[Fold]:
    """Return each layer whose output goes into a batch normalization and nowhere else, with it.

    run: runs a module on example inputs.
    """
    module = copy_of(module)
    producers: dict[int, str] = {}
    alive: list[Any] = []  # so that no two outputs share an id
    pairs: dict[str, list[str]] = {}

    def note(name: str, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(layer, _NormBase) and args and layer.running_mean is not None:
            pairs.setdefault(name, []).append(producers.get(id(args[0]), ""))
        elif not isinstance(layer, _NormBase):
            producers[id(output)] = name
        alive.append((args, output))

    for name, layer in module.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear, _NormBase)):
            layer.register_forward_hook(partial(note, name))
    run(module)
    layers = [names[0] for names in pairs.values() if len(names) == 1 and names[0]]
    return [
        _fold(module, names[0], norm)
        for norm, names in pairs.items()
        if len(names) == 1 and layers.count(names[0]) == 1
    ]


def _fold(module: nn.Module, layer: str, norm: str) -> Fold:
    convolution, normalization = module.get_submodule(layer), module.get_submodule(norm)
    assert isinstance(normalization, _NormBase)
    groups = convolution.groups if isinstance(convolution, _ConvTransposeNd) else 0
    return Fold(layer, norm, normalization.eps, groups)


@dataclass
class Identified:
    """What is known of the constants of a file.

    sources: of those that can be given the values of another module. known: those that are tensors of the
    module. wrong: those that have the name, shape and dtype of one and are not it. unknown: the others that
    a node reads and that have several elements; numbers by themselves are the exporter's own.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def replaceable(self) -> set[str]:
        """The names of the tensors of the module that other values can be given for."""
        return {name for source in self.sources.values() for name in source.names}


def identify(
    graph: "GraphProto",
    read: Callable[["TensorProto"], Array],
    module: nn.Module,
    folds: Callable[[], list[Fold]],
) -> Identified:
    """Find the tensors of `module` among the initializers of a graph.

    read: returns the values of an initializer. folds: are asked for when something is not found as it is.
    """
    found, tensors = Identified(), registered(module)
    for each in graph.initializer:
        if each.name in tensors:
            _compare_named(each.name, read(each), as_array(tensors[each.name]), found)
    floats = {each.name: each for each in graph.initializer if each.data_type in FLOATS}
    right = {name: each for name, each in floats.items() if name not in found.wrong}
    _find_equal(right, read, tensors, found)
    used = set(_names_read(graph))
    left = {name: each for name, each in floats.items() if name not in found.known and name in used}
    if left:
        _find_folds({name: read(each) for name, each in left.items()}, tensors, folds(), found)
    left = {name: each for name, each in left.items() if name not in {*found.known, *found.wrong}}
    found.unknown += [name for name, each in left.items() if math.prod(each.dims) > 1]
    return found


def _compare_named(name: str, stored: Array, wanted: Array, found: Identified) -> None:
    """Compare an initializer with the tensor of the same name, unless it is of another kind altogether."""
    if (stored.shape, stored.dtype) != (wanted.shape, wanted.dtype):
        return
    if same_bits(stored, wanted):
        found.known.add(name)
    elif stored.ndim == 2 and same_bits(stored, wanted.T):
        found.known.add(name)
        found.sources[name] = transpose_of(name)
    else:
        found.wrong.append(name)


def _find_equal(
    floats: Mapping[str, "TensorProto"],
    read: Callable[["TensorProto"], Array],
    tensors: Tensors,
    found: Identified,
) -> None:
    """Find the tensors by their bits; of several that are equal, the file may have one for all."""
    stored: dict[bytes, list[str]] = {}
    for name, proto in floats.items():
        stored.setdefault(_digest(read(proto)), []).append(name)
    for bits, names in _groups(tensors).items():
        tensor, equal = tensors[names[0]], stored.get(bits, [])
        turned = stored.get(_digest(as_array(tensor.t())), []) if tensor.ndim == 2 else []
        found.known |= {*equal, *turned}
        # A square of one number reads the same either way: how a renamed one is used isn't known.
        either_way = set(equal) & set(turned)
        if set(names) <= set(equal):
            sources = {name: same_as(name) for name in names}
        elif len(names) == len(equal) == 1 and not either_way:
            sources = {equal[0]: same_as(names[0])}
        else:
            sources = {}
        if len(names) == 1:
            sources |= {name: transpose_of(names[0]) for name in turned if name not in equal}
        found.sources = {**sources, **found.sources}


def _groups(tensors: Tensors) -> dict[bytes, list[str]]:
    """Return the names of the floating-point tensors that are equal, by their bits; tied ones count once."""
    groups: dict[bytes, list[str]] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in tensors.items():
        memory = (tensor.data_ptr(), tensor.shape)
        if tensor.is_floating_point() and memory not in seen:
            seen.add(memory)
            groups.setdefault(_digest(as_array(tensor)), []).append(name)
    return groups


def _find_folds(left: Mapping[str, Array], tensors: Tensors, folds: list[Fold], found: Identified) -> None:
    """Find merged layers among the initializers that are left."""
    for fold in folds:
        parts = (
            _matching(left, fold.weight(tensors), fold.names_of_layer[0], None),
            _matching(left, fold.bias(tensors), fold.names_of_layer[1], fold.largest_term(tensors)),
        )
        found.known |= {name for names in parts for name in names}
        weights, biases = parts
        if len(weights) == len(biases) == 1 and not {*weights, *biases} & set(found.sources):
            names = tuple(name for name in fold.names if name in tensors)
            found.sources[weights[0]] = Source(names, fold.weight)
            found.sources[biases[0]] = Source(names, fold.bias)
    found.wrong = [name for name in found.wrong if name not in found.known]


def _matching(left: Mapping[str, Array], merged: Tensor, name: str, term: float | None) -> list[str]:
    """Return the initializers that are a merged tensor but for rounding: by its old name, or any."""
    array = as_array(merged.float()).astype(np.float64)
    unit = float(torch.finfo(merged.dtype).eps) * ROUNDING

    def is_it(stored: Array) -> bool:
        if stored.shape != array.shape:
            return False
        limit = unit * (np.abs(array) if term is None else term)
        return bool((np.abs(stored.astype(np.float64) - array) <= limit).all())

    places = [name] if name in left else list(left)
    return [place for place in places if is_it(left[place])]


def constants_as_initializers(model: "ModelProto") -> "ModelProto":
    """Return the model with what its nodes of type Constant hold as initializers, which they are."""
    lifted = onnx.ModelProto()
    lifted.CopyFrom(model)
    graph = lifted.graph
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and not node.domain and value is not None:
            initializer = graph.initializer.add()
            initializer.CopyFrom(value)
            initializer.name = node.output[0]
        else:
            graph.node.append(node)
    return lifted


def _names_read(graph: "GraphProto") -> Iterator[str]:
    """Yield the names that nodes of a graph and of its subgraphs read, and those of its outputs."""
    yield from (each.name for each in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _names_read(inner)


def same_bits(left: Array, right: Array) -> bool:
    """Whether two arrays are the same, NaN included."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return bool(np.array_equal(_bits(left), _bits(right)))


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _digest(array: Array) -> bytes:
    kind = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(array).tobytes()).digest()


def altered(array: Array, seed: int = 0) -> Array:
    """Return other values at the scale of an array: each moved on by one element, and noise added."""
    generator = np.random.default_rng(seed)
    values = np.where(np.isfinite(array), array, 0).astype(np.float64)
    scale = float(np.abs(values).max()) or 1.0
    noise = generator.standard_normal(array.shape) * scale
    return (np.roll(values.reshape(-1), 1).reshape(array.shape) + noise).astype(array.dtype)
