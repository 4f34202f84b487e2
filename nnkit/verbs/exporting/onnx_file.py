"""An ONNX file as a candidate for a proof: what it declares, which weights it holds, how its graph runs."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.errors import VerificationFailed, first_line
from nnkit.models import external_data, metadata
from nnkit.models.tensors import registered
from nnkit.models.weights import digest
from nnkit.verbs.exporting.calls import call_module
from nnkit.verbs.exporting.initializers import (
    Fold,
    Identified,
    Source,
    alter,
    find_folds,
    identify,
    lift_constants,
    same_as,
    same_bits,
)
from nnkit.verbs.exporting.onnx_graph import axes_of, evaluate, load, ports_of, read
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
from nnkit.verbs.exporting.tolerance import is_same

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto


LARGE = 2**26  # bytes of values in a file from which on memory matters


class OnnxFile:
    """A file that claims to be the module of a plan.

    exact: whether every initializer with the name of a parameter or buffer must equal it bit for bit, as in
    files that nnkit wrote. In other files the values are searched for under any name. scratch: the folder for
    temporary copies of large values; by default the system's.
    """

    def __init__(
        self, path: Path, module: nn.Module, plan: Plan, exact: bool = True, scratch: Path | None = None
    ) -> None:
        self.name, self._path, self._plan, self._exact = path.name, path, plan, exact
        self._parts, self._scratch = read(path), scratch
        self._model = self._parts.model if exact else lift_constants(self._parts.model)
        external_data.files_of(path, self._model)
        self._module = module
        # The names of the module's tensors, by the names that nnkit gives them in a file.
        self._names_by_initializer = {plan.initializer_name(name): name for name in registered(module)}

    # What it declares

    @property
    def opset(self) -> int | None:
        """The version of the standard operators."""
        return next((entry.version for entry in self._model.opset_import if not entry.domain), None)

    def check_signature(self, opset: int | None = None) -> None:
        """Raise VerificationFailed for a lost or renamed input or output, a fixed axis or a wrong opset."""
        graph = self._model.graph
        if opset is not None and self.opset != opset:
            raise self._not_the_model(f"it has opset {self.opset}, but {opset} was requested")
        self._check_ports("input", ports_of(graph), self._plan.inputs)
        self._check_ports("output", graph.output, self._plan.outputs)

    def _check_ports(
        self, kind: str, ports: "Sequence[ValueInfoProto]", declared: Sequence[TensorSpec]
    ) -> None:
        """Check the inputs or the outputs; kind: which of them, for messages."""
        names, wanted = [port.name for port in ports], [tensor.name for tensor in declared]
        if names != wanted:
            raise self._not_the_model(
                f"its {kind}s are {', '.join(names) or 'none'}, expected {', '.join(wanted)}"
            )
        for port, tensor in zip(ports, declared, strict=True):
            # A complex tensor has its real and imaginary parts on an axis of its own.
            parts = (2,) if tensor.dtype.startswith("complex") else ()
            self._check_axes(kind, port, (*tensor.shape, *parts))

    def _check_axes(self, kind: str, port: "ValueInfoProto", declared: tuple[int | str, ...]) -> None:
        sizes = axes_of(port)
        if declared and len(sizes) != len(declared):
            raise self._not_the_model(
                f"{kind} {port.name!r} has {len(sizes)} axes, but {len(declared)} are declared"
            )
        for axis, (size, name) in enumerate(zip(sizes, declared, strict=False)):
            where = f"axis {axis} of {kind} {port.name!r}"
            if not self._plan.is_free(name):
                continue
            wanted = self._plan.axis_in_file(name)
            if wanted in self._plan.dims and size != wanted:
                raise self._not_the_model(f"{where} is {size!r}, not the dim {wanted!r}")
            if isinstance(size, int):
                raise self._not_the_model(f"{where} is always {size}, not {wanted}")

    def shape_problem(self, run: Run, results: list[Tensor]) -> tuple[str, str] | None:
        """Return an output whose shape is not the one that the file declares, and the problem, or None."""
        ports = {port.name: port for port in self._model.graph.output}
        for name, result in zip(self._plan.output_names, results, strict=True):
            for axis, (size, actual) in enumerate(zip(axes_of(ports[name]), result.shape, strict=False)):
                declared = evaluate(size, run.sizes) if isinstance(size, str) else size
                if declared is not None and declared != actual:
                    return name, f"is declared with {size} on axis {axis} but has {actual}"
        return None

    @property
    def mismatch(self) -> str:
        """A sentence if the file and its external values were not written together, otherwise empty."""
        return external_data.mismatch(self._path, self._model)

    def _not_the_model(self, problem: str, hint: str = "") -> VerificationFailed:
        return VerificationFailed(f"{self.name} is not the model: {problem}", hint)

    # Which weights it holds

    def count_equal(self, module: nn.Module) -> tuple[int, int]:
        """Return how many of the initializers are tensors of the module, and how many should be.

        Raises VerificationFailed where one has different values.
        """
        if not self._exact:
            if self._identified.wrong:
                raise self._not_the_model(f"{self._identified.wrong[0]} has other values than the module")
            count = len(self._identified.known)
            return count, count
        tensors = registered(module)
        for initializer in self._named_initializers:
            tensor = tensors[self._names_by_initializer[initializer.name]]
            if not same_bits(self._values(initializer), as_array(tensor)):
                raise self._not_the_model(
                    f"{initializer.name} has other values than the module", self.mismatch
                )
        count = len(self._named_initializers)
        return count, count

    @property
    def _named_initializers(self) -> "list[TensorProto]":
        """The initializers with the name of a tensor of the module."""
        initializers = self._model.graph.initializer
        return [initializer for initializer in initializers if initializer.name in self._names_by_initializer]

    @property
    def replaceable(self) -> set[str] | None:
        """The tensors of the module that can be given other values; None where all can."""
        return None if self._exact else self.weights

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """For each initializer that comes from tensors of the module, how it is computed from them."""
        if self._exact:
            names = [initializer.name for initializer in self._named_initializers]
            return {name: same_as(self._names_by_initializer[name]) for name in names}
        return self._identified.sources

    @cached_property
    def _identified(self) -> Identified:
        def folds() -> list[Fold]:
            return find_folds(
                self._module,
                lambda module: call_module(module, self._plan.spec.signature, self._plan.traced),
            )

        return identify(self._model.graph, self._values, self._module, folds)

    def without_effect(self, module: nn.Module, names: Sequence[str]) -> list[str]:
        """Return those of the initializers that no output depends on, with the weights of `module`."""
        weights = self._weights_of(module)
        for initializer in self._model.graph.initializer:
            if initializer.name in names:
                weights[initializer.name] = self._values(initializer)
        model = self._with_inputs_for(weights).SerializeToString()
        runner = OnnxRuntime(model, weights, self._plan.names, HARMLESS)
        before = runner(self._plan.traced)

        def has_effect(name: str) -> bool:
            try:
                after = runner.given(name, alter(weights[name]))(self._plan.traced)
            except Refused:
                return True
            return any(_differ(*pair) for pair in zip(before, after, strict=True))

        return [name for name in names if not has_effect(name)]

    @property
    def unknown(self) -> list[str]:
        """The initializers that were not found in the module, so that only an output can prove them."""
        return [] if self._exact else self._identified.unknown

    def _values(self, initializer: "TensorProto") -> Array:
        try:
            return self._parts.values(initializer)
        except (ValueError, TypeError, KeyError, OSError, onnx.checker.ValidationError) as error:
            raise self._not_the_model(
                f"the values of {initializer.name!r} can't be read: {first_line(error)}"
            ) from error

    # How it runs

    def runner(self) -> Runner:
        """Run the file itself.

        Of a file with many values in it, ONNX Runtime keeps a second copy while it optimizes the graph. So it
        loads such a file once as it is, and then runs the same graph with the same values mapped from disk.
        """
        if self._parts.size < LARGE or self._may_crash:
            return self._run(self._path)
        try:
            with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as folder:
                spread = self._parts.spread(Path(folder))
                self._run(self._path, optimized=False)
                return self._run(spread)
        except OSError:  # no room on the disk
            return self._run(self._path)

    def with_weights(self, module: nn.Module) -> Runner:
        """Run its graph with the weights as inputs, and pass those of `module`."""
        weights = self._weights_of(module)
        return self._run(self._with_inputs_for(weights).SerializeToString(), weights)

    def _weights_of(self, module: nn.Module) -> dict[str, Array]:
        """Return the values of the initializers that come from tensors of the module, for `module`."""
        tensors = registered(module)
        return {name: source.value(tensors) for name, source in self.sources.items()}

    def _with_inputs_for(self, names: Collection[str]) -> "ModelProto":
        """Return the model with inputs in place of the initializers of these names."""
        opened = onnx.ModelProto()
        opened.CopyFrom(self._model)
        graph = opened.graph
        constants = [self._parts.whole(each) for each in graph.initializer if each.name not in names]
        input_names = {port.name for port in graph.input}
        for initializer in graph.initializer:
            if initializer.name in names and initializer.name not in input_names:
                shape = list(initializer.dims)
                port = onnx.helper.make_tensor_value_info(initializer.name, initializer.data_type, shape)
                graph.input.append(port)
        for constant in constants:
            if onnx.external_data_helper.uses_external_data(constant):
                onnx.external_data_helper.load_external_data_for_tensor(constant, str(self._path.parent))
                constant.data_location = onnx.TensorProto.DEFAULT
                del constant.external_data[:]
        del graph.initializer[:]
        graph.initializer.extend(constants)
        return opened

    def filled(self, module: nn.Module) -> "ModelProto":
        """Return the model with the weights of a different module, in the file itself."""
        tensors, model = registered(module), onnx.ModelProto()
        model.CopyFrom(self._model)
        for initializer in model.graph.initializer:
            if source := self.sources.get(initializer.name):
                value = source.value(tensors)
                initializer.CopyFrom(onnx.numpy_helper.from_array(value, initializer.name))
            else:
                initializer.CopyFrom(self._parts.whole(initializer))
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
        tensors = registered(self._module)
        stored = {}
        for initializer in self._named_initializers:
            name = self._names_by_initializer[initializer.name]
            tensor = as_tensor(self._values(initializer))
            stored[name] = torch.view_as_complex(tensor) if tensors[name].is_complex() else tensor
        return stored

    def _run(
        self, model: Path | bytes, weights: Mapping[str, Array] | None = None, optimized: bool = True
    ) -> Runner:
        """Run a model in ONNX Runtime, or in the reference evaluator where that lacks the dtype."""
        if self._may_crash:
            check_loadable(self._path)
        try:
            warnings = None if self._exact else HARMLESS
            return OnnxRuntime(model, weights, self._plan.names, warnings, optimized)
        except Refused as refused:
            if self._plan.dtype == "float32":
                raise
            try:
                why = f"ONNX Runtime has no {self._plan.dtype} for it"
                return Evaluator(model, weights, self._plan.names, why)
            except Refused as error:
                raise Refused(f"{refused}; the reference evaluator of onnx fails too: {error}") from error

    @cached_property
    def _may_crash(self) -> bool:
        """Whether it has a loop in float16, on which ONNX Runtime 1.32 crashes the whole process."""
        return self._plan.dtype == "float16" and any(
            node.op_type in ("Loop", "Scan", "If") for node in self._model.graph.node
        )


class OptimizedFile(OnnxFile):
    """A file that ONNX Runtime has optimized; `plain` is the file before.

    The optimizer folds weights into each other, so they can't be compared one by one. The file is proven
    with other weights: the plain file with them must be optimized to the same graph, which must be right.
    """

    def __init__(self, path: Path, module: nn.Module, plan: Plan, plain: OnnxFile) -> None:
        super().__init__(path, module, plan, exact=False, scratch=path.parent)
        self._plain = plain

    def count_equal(self, module: nn.Module) -> tuple[int, int]:
        """Compare the weights of the plain file."""
        return self._plain.count_equal(module)

    @property
    def replaceable(self) -> set[str] | None:
        """The tensors that can be replaced in the plain file."""
        return self._plain.replaceable

    @property
    def weights(self) -> set[str]:
        """The names of the tensors in the plain file."""
        return self._plain.weights

    def with_weights(self, module: nn.Module) -> Runner:
        """Optimize the plain file with other weights, and run the result."""
        from nnkit.verbs.exporting.onnx import optimize_file

        with tempfile.TemporaryDirectory() as folder:
            other, optimized = Path(folder, "other.onnx"), Path(folder, self.name)
            onnx.save(self._plain.filled(module), other)
            optimize_file(other, optimized)
            if _structure(load(optimized)) != _structure(self._model):
                raise self._not_the_model("with other weights the optimizer makes a different graph of it")
            return self._run(optimized)


def stamp_onnx(path: Path, plan: Plan, module: nn.Module, file: OnnxFile, proof: Proof | None) -> None:
    """Append the ModelSpec, the versions, the digest of the weights and the proof to a file.

    A protobuf message that follows a message in a file is merged into it. So the bytes that were proven
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


def _structure(model: "ModelProto") -> list[object]:
    """Return the part of a graph that doesn't depend on the values of its weights."""
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    weights = [(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer]
    del graph.initializer[:]
    return [weights, graph.SerializeToString(deterministic=True)]


def _differ(before: Tensor, after: Tensor) -> bool:
    """Whether an output changed by more than rounding, or to or from NaN or infinity."""
    if before.shape != after.shape or not before.is_floating_point():
        return not torch.equal(before, after)
    return not is_same(after, before)
