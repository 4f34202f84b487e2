"""An ONNX file as a candidate for a proof: what it declares, which weights it holds, how its graph runs."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
from torch import Tensor, nn

from nnkit.contract.axes import size_of
from nnkit.errors import VerificationFailed, first_line
from nnkit.models import external_data, metadata
from nnkit.models.tensors import registered
from nnkit.models.weights import digest
from nnkit.verbs.exporting.calls import call_module
from nnkit.verbs.exporting.initializers import (
    Fold,
    Identified,
    Source,
    altered,
    constants_as_initializers,
    folds_of,
    identify,
    same_as,
    same_bits,
)
from nnkit.verbs.exporting.plan import Plan, Run
from nnkit.verbs.exporting.proof import Runner
from nnkit.verbs.exporting.report import Proof
from nnkit.verbs.exporting.runtimes import (
    HARMLESS,
    Array,
    Evaluator,
    OnnxRuntime,
    Refused,
    as_array,
    as_tensor,
    check_loadable,
)
from nnkit.verbs.exporting.stamp import signature, stamp
from nnkit.verbs.exporting.tolerance import same

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto


class OnnxFile:
    """A file that says it is the module of a plan.

    exact: whether every initializer that has the name of a parameter or buffer must be it, bit for bit,
    as in files that nnkit wrote; in others the values are looked for under any name.
    """

    def __init__(self, path: Path, module: nn.Module, plan: Plan, exact: bool = True) -> None:
        self.name, self._path, self._plan, self._exact = path.name, path, plan, exact
        self._model = load(path) if exact else constants_as_initializers(load(path))
        external_data.files_of(path, self._model)
        self._module = module
        # Of a file that nnkit wrote: the tensors of the module, by what they are called in it.
        self._named = {plan.initializer_name(name): name for name in registered(module)}

    # What it declares

    @property
    def opset(self) -> int | None:
        """Of the standard operators."""
        return next((each.version for each in self._model.opset_import if not each.domain), None)

    def check_signature(self, opset: int | None = None) -> None:
        """Raise VerificationFailed for a lost or renamed input or output, a fixed axis or another opset."""
        graph = self._model.graph
        if opset is not None and self.opset != opset:
            raise self._wrong(f"it has opset {self.opset}, and {opset} was asked for")
        for kind, there, declared in (
            ("input", ports_of(graph), self._plan.inputs),
            ("output", graph.output, self._plan.outputs),
        ):
            if [each.name for each in there] != [each.name for each in declared]:
                found, wanted = (", ".join(each.name for each in group) for group in (there, declared))
                raise self._wrong(f"its {kind}s are {found or 'none'}, where {wanted} are declared")
            for port, tensor in zip(there, declared, strict=True):
                # A complex tensor has its real and imaginary parts on an axis of its own.
                parts = (2,) if tensor.dtype.startswith("complex") else ()
                self._check_axes(kind, port, (*tensor.shape, *parts))

    def _check_axes(self, kind: str, port: "ValueInfoProto", declared: tuple[int | str, ...]) -> None:
        axes = axes_of(port)
        if declared and len(axes) != len(declared):
            raise self._wrong(f"{kind} {port.name!r} has {len(axes)} axes, {len(declared)} are declared")
        for place, (axis, name) in enumerate(zip(axes, declared, strict=False)):
            if name in self._plan.dims and axis != name:
                raise self._wrong(f"axis {place} of {kind} {port.name!r} is {axis!r}, not the dim {name!r}")
            if isinstance(axis, int) and self._plan.is_free(name):
                raise self._wrong(f"axis {place} of {kind} {port.name!r} is {axis} always, not {name}")

    def shape_problem(self, run: Run, results: list[Tensor]) -> tuple[str, str] | None:
        """Return the output that has another shape than the file declares, and how."""
        ports = {each.name: each for each in self._model.graph.output}
        for name, result in zip(self._plan.output_names, results, strict=True):
            port = ports[name]
            for place, (axis, size) in enumerate(zip(axes_of(port), result.shape, strict=False)):
                declared = evaluate(axis, run.sizes) if isinstance(axis, str) else axis
                if declared is not None and declared != size:
                    return port.name, f"is declared with {axis} on axis {place} and has {size}"
        return None

    @property
    def mismatch(self) -> str:
        """In words, that the file and the values beside it were not written together."""
        return external_data.mismatch(self._path, self._model)

    def _wrong(self, problem: str, hint: str = "") -> VerificationFailed:
        return VerificationFailed(f"{self.name} is not the model: {problem}", hint)

    # Which weights it holds

    def equal(self, module: nn.Module) -> tuple[int, int]:
        """Return how many of the initializers are tensors of the module; all that bear such a name are.

        Raises VerificationFailed where one has other values.
        """
        if not self._exact:
            if self._identified.wrong:
                raise self._wrong(f"{self._identified.wrong[0]} has other values than the module")
            return (len(self._identified.known),) * 2
        tensors = registered(module)
        named = [each for each in self._model.graph.initializer if each.name in self._named]
        for initializer in named:
            if not same_bits(self._values(initializer), as_array(tensors[self._named[initializer.name]])):
                raise self._wrong(f"{initializer.name} has other values than the module", self.mismatch)
        return len(named), len(named)

    @property
    def replaceable(self) -> set[str] | None:
        """The tensors of the module that other values can be given for; all, where all are to be there."""
        return None if self._exact else self.weights

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """For each initializer that is a tensor of the module, which."""
        if self._exact:
            names = [each.name for each in self._model.graph.initializer if each.name in self._named]
            return {name: same_as(self._named[name]) for name in names}
        return self._identified.sources

    @cached_property
    def _identified(self) -> Identified:
        def folds() -> list[Fold]:
            return folds_of(
                self._module,
                lambda module: call_module(module, self._plan.spec.input_names, self._plan.traced),
            )

        return identify(self._model.graph, self._values, self._module, folds)

    def unfelt(self, module: nn.Module, names: Sequence[str]) -> list[str]:
        """Return those of the initializers that no output depends on, with the weights of `module`."""
        weights = self._weights_of(module) | {
            each.name: self._values(each) for each in self._model.graph.initializer if each.name in names
        }
        runner = OnnxRuntime(self._opened(weights).SerializeToString(), weights, self._plan.names, HARMLESS)
        before = runner(self._plan.traced)

        def is_felt(name: str) -> bool:
            try:
                after = runner.given(name, altered(weights[name]))(self._plan.traced)
            except Refused:
                return True
            return any(_differ(*pair) for pair in zip(before, after, strict=True))

        return [name for name in names if not is_felt(name)]

    @property
    def unknown(self) -> list[str]:
        """The initializers that are none of the module's tensors, so that only an output can show them."""
        return [] if self._exact else self._identified.unknown

    def _values(self, initializer: "TensorProto") -> Array:
        try:
            return onnx.numpy_helper.to_array(initializer, base_dir=str(self._path.parent))
        except (ValueError, TypeError, KeyError, OSError, onnx.checker.ValidationError) as error:
            raise self._wrong(
                f"the values of {initializer.name!r} can't be read: {first_line(error)}"
            ) from error

    # How it runs

    def runner(self) -> Runner:
        """Run the file itself."""
        return self._run(self._path)

    def with_weights(self, module: nn.Module) -> Runner:
        """Run its graph with the weights as inputs, and give it those of `module`."""
        weights = self._weights_of(module)
        return self._run(self._opened(weights).SerializeToString(), weights)

    def _weights_of(self, module: nn.Module) -> dict[str, Array]:
        """Return the values that the initializers have for `module`, of those that are computed from it."""
        tensors = registered(module)
        return {name: source.value(tensors) for name, source in self.sources.items()}

    def _opened(self, names: Collection[str]) -> "ModelProto":
        """Return the model with the initializers of these names as inputs."""
        opened = onnx.ModelProto()
        opened.CopyFrom(self._model)
        graph = opened.graph
        constants = [each for each in graph.initializer if each.name not in names]
        already = {each.name for each in graph.input}
        graph.input.extend(
            onnx.helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
            for each in graph.initializer
            if each.name in names and each.name not in already
        )
        for constant in constants:
            if onnx.external_data_helper.uses_external_data(constant):
                onnx.external_data_helper.load_external_data_for_tensor(constant, str(self._path.parent))
                constant.data_location = onnx.TensorProto.DEFAULT
                del constant.external_data[:]
        del graph.initializer[:]
        graph.initializer.extend(constants)
        return opened

    def filled(self, module: nn.Module) -> "ModelProto":
        """Return the model with the weights of another module, in the file itself."""
        tensors, model = registered(module), onnx.ModelProto()
        model.CopyFrom(self._model)
        for place, initializer in enumerate(model.graph.initializer):
            if source := self.sources.get(initializer.name):
                value = source.value(tensors)
                model.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(value, initializer.name))
        return model

    @property
    def weights(self) -> set[str]:
        """The names in the module of the tensors that the file was made from."""
        return {name for source in self.sources.values() for name in source.names}

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The parameters of the module, by name."""
        return dict(self._module.named_parameters())

    def stored(self) -> dict[str, Tensor]:
        """Return the weights in the file, by their names in the module."""
        own = registered(self._module)
        found = {
            self._named[each.name]: as_tensor(self._values(each))
            for each in self._model.graph.initializer
            if each.name in self._named
        }
        return {
            name: torch.view_as_complex(tensor) if own[name].is_complex() else tensor
            for name, tensor in found.items()
        }

    def _run(self, model: Path | bytes, weights: Mapping[str, Array] | None = None) -> Runner:
        """Run a model in ONNX Runtime; or where that lacks its dtype, in the reference evaluator."""
        if self._may_crash:
            check_loadable(self._path)
        try:
            return OnnxRuntime(model, weights, self._plan.names, None if self._exact else HARMLESS)
        except Refused as refused:
            if self._plan.dtype == "float32":
                raise
            try:
                why = f"ONNX Runtime has no {self._plan.dtype} for it"
                return Evaluator(model, weights, self._plan.names, why)
            except Refused as error:
                raise Refused(f"{refused}; nor by the reference evaluator of onnx: {error}") from error

    @cached_property
    def _may_crash(self) -> bool:
        """Whether it has a loop in float16, on which ONNX Runtime 1.32 takes the whole process down."""
        return self._plan.dtype == "float16" and any(
            node.op_type in ("Loop", "Scan", "If") for node in self._model.graph.node
        )


class OptimizedFile(OnnxFile):
    """A file that ONNX Runtime has optimised; `plain` is what it was made from.

    The optimiser folds weights into each other, so they can't be compared one by one. It is proven on
    other weights: what it makes of the plain file with them must be the same graph, and be right.
    """

    def __init__(self, path: Path, module: nn.Module, plan: Plan, plain: OnnxFile) -> None:
        super().__init__(path, module, plan, exact=False)
        self._plain = plain

    def equal(self, module: nn.Module) -> tuple[int, int]:
        """Compare the weights that the optimiser was given."""
        return self._plain.equal(module)

    @property
    def replaceable(self) -> set[str] | None:
        """All that the plain file has."""
        return self._plain.replaceable

    @property
    def weights(self) -> set[str]:
        """The names of the tensors in the plain file."""
        return self._plain.weights

    def with_weights(self, module: nn.Module) -> Runner:
        """Optimise the plain file with other weights, and run what comes out."""
        from nnkit.verbs.exporting.onnx import optimize_file

        with tempfile.TemporaryDirectory() as folder:
            other, optimized = Path(folder, "other.onnx"), Path(folder, self.name)
            onnx.save(self._plain.filled(module), other)
            optimize_file(other, optimized)
            if _structure(load(optimized)) != _structure(self._model):
                raise self._wrong("the optimiser makes another graph of it with other weights")
            return self._run(optimized)


def stamp_onnx(path: Path, plan: Plan, module: nn.Module, file: OnnxFile, proof: Proof | None) -> None:
    """Append the ModelSpec, the versions, the digest of the weights and the proof to a file.

    A protobuf message that follows another in a file is merged into it. So the bytes that were proven
    stay as they are.
    """
    tensors = registered(module)
    content = {
        **stamp(plan.spec),
        "signature": signature(plan.input_names, plan.output_names, tuple(plan.dims)),
        "sha256": digest({name: tensors[name] for name in file.weights}),
        "optimized": isinstance(file, OptimizedFile),
        "proof": proof and proof.to_dict(),
    }
    if (fingerprint := external_data.fingerprint(path, load(path))) is not None:
        content[external_data.KEY] = fingerprint
    entry = onnx.StringStringEntryProto(key=metadata.KEY, value=metadata.encode(content))
    with path.open("ab") as end:
        end.write(onnx.ModelProto(metadata_props=[entry]).SerializeToString())


def load(path: Path) -> "ModelProto":
    """Return the model in a file, its external weights left where they are.

    Raises VerificationFailed for what is no ONNX model.
    """
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise VerificationFailed(f"{path.name} is no ONNX model: {error}", "export it again") from error


def ports_of(graph: "GraphProto") -> "list[ValueInfoProto]":
    """Return the inputs of a graph that are no weights."""
    weights = {each.name for each in graph.initializer}
    return [each for each in graph.input if each.name not in weights]


def axes_of(port: "ValueInfoProto") -> list[int | str]:
    """Return, per axis, its size or the name of its dim, `?` where it has neither."""
    shape = port.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in shape]


def evaluate(expression: str, sizes: Mapping[str, int]) -> int | None:
    """Return what `2*height - 1` is, or None for names and functions that aren't known."""
    try:
        return size_of(expression, sizes)
    except (KeyError, ValueError):
        return None


def _structure(model: "ModelProto") -> list[object]:
    """Return what of a graph doesn't depend on the values of its weights."""
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    weights = [(each.name, each.data_type, tuple(each.dims)) for each in graph.initializer]
    del graph.initializer[:]
    return [weights, graph.SerializeToString(deterministic=True)]


def _differ(before: Tensor, after: Tensor) -> bool:
    """Whether an output changed by more than rounding, or to or from what is no number."""
    if before.shape != after.shape or not before.is_floating_point():
        return not torch.equal(before, after)
    return not same(after, before)
