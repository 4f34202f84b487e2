"""Formats by name: ONNX and safetensors, which core writes itself, and those that plugins declare.

`pt2` is declared in the same way as a plugin's format.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.contract.contributions import Exporter
from nnkit.contract.loading import load, missing
from nnkit.contract.requests import ExportOptions, Host, WriteRequest
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, VerificationFailed, did_you_mean, first_line
from nnkit.models import metadata
from nnkit.models.copies import copy_of, whole_copy_of
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import in_reals
from nnkit.verbs.exporting.calls import run_forward
from nnkit.verbs.exporting.capture import quiet
from nnkit.verbs.exporting.flat_forward import with_flat_forward
from nnkit.verbs.exporting.plan import Plan, Run
from nnkit.verbs.exporting.proof import Runner
from nnkit.verbs.exporting.pytrees import known_containers
from nnkit.verbs.exporting.report import Proof
from nnkit.verbs.exporting.runtimes import Refused
from nnkit.verbs.exporting.safetensors import compare_states
from nnkit.verbs.exporting.stamp import signature, stamp

PT2 = Exporter(
    name="pt2",
    suffix=".pt2",
    summary="A torch.export program",
    write="nnkit.verbs.exporting.pt2:write",
    run="nnkit.verbs.exporting.pt2:run",
    weights="nnkit.verbs.exporting.pt2:weights",
    stamp="nnkit.verbs.exporting.pt2:stamp",
    takes_trees=True,
)
OWN = ("onnx", "safetensors")

SIGNATURE = frozenset({"fixed", "static", "input_names", "output_names"})
OPTIONS: Mapping[str, frozenset[str]] = {
    "onnx": SIGNATURE | {"opset", "float32_io", "optimize", "external_data"},
    "safetensors": frozenset({"max_shard_size"}),
}
"""The options that apply to each format; formats that plugins declare have only those of the signature."""


def find(name: str, host: Host) -> Exporter | None:
    """Return the declared format of that name; None for the two that core writes itself.

    Raises UsageProblem for an unknown name, PluginProblem where a required package is missing.
    """
    if name in OWN:
        return None
    offered = {exporter.name: exporter for exporter in (PT2, *host.exporters())}
    if name not in offered:
        names = [*OWN, *offered]
        raise UsageProblem(
            f"unknown format {name!r}", did_you_mean(name, names) or f"known formats: {', '.join(names)}"
        )
    exporter = offered[name]
    if package := missing(exporter.requires):
        raise PluginProblem(
            f"format {name} needs the package {package}", f"install it: {exporter.requires[package]}"
        )
    return exporter


def is_run(name: str, exporter: Exporter | None) -> bool:
    """Whether files of a format are proven by running them. exporter: the format, if it is a declared one."""
    return name == "onnx" if exporter is None else exporter.run is not None


def relevant_options(options: ExportOptions, format: str) -> ExportOptions:
    """Return the options with only those kept that apply to a format."""
    defaults = vars(ExportOptions())
    return replace(options, **{name: defaults[name] for name in defaults if name not in _options_of(format)})


def irrelevant_options(options: ExportOptions, format: str) -> list[str]:
    """Return the names of the given options that don't apply to a format."""
    given = vars(options).items() - vars(ExportOptions()).items()
    return sorted(name for name, _ in given if name not in _options_of(format))


def _options_of(format: str) -> frozenset[str]:
    return OPTIONS.get(format, SIGNATURE)


def write(exporter: Exporter, module: nn.Module, plan: Plan, path: Path) -> None:
    """Let a declared format write its file."""
    # Of any other's format, the comparison is to find whatever it does to the weights.
    copy = copy_of(module) if exporter is PT2 else whole_copy_of(module)
    tensors = tuple(tensor.clone() for tensor in plan.traced)
    args: tuple[Any, ...] = tensors
    keywords: dict[str, Any] = {}
    if exporter.takes_trees or plan.spec.signature.is_flat:
        args, keywords = plan.bind(module, tensors)
    else:
        copy = with_flat_forward(copy, plan.spec.signature)
    request = WriteRequest(
        spec=plan.spec,
        module=copy,
        path=path,
        inputs=args,
        keywords=keywords,
        dynamic=plan.dynamic,
        input_names=plan.input_names,
        output_names=plan.output_names,
        tensors=tensors,
    )
    try:
        with quiet():
            load(exporter.write)(request)
    except NnkitError:
        raise
    except Exception as error:
        raise PluginProblem(
            f"format {exporter.name} failed to write: {type(error).__name__}: {first_line(error)}",
            "see the full error with -v",
        ) from error
    if not path.is_file():
        raise PluginProblem(
            f"format {exporter.name} wrote no file", f"report it to its author ({exporter.write})"
        )


def known_to_torch(exporter: Exporter, module: nn.Module, plan: Plan) -> AbstractContextManager[None]:
    """Return a context in which torch knows the containers that forward takes and returns, if it must."""
    if not exporter.takes_trees:
        return nullcontext()
    returned = run_forward(module, plan.spec.signature, plan.traced)
    return known_containers(plan.bind(module, plan.traced), returned)


def put_stamp(exporter: Exporter, plan: Plan, path: Path, proof: Proof | None) -> None:
    """Write the ModelSpec and the proof into a file, if its format can hold them."""
    if exporter.stamp is not None:
        content = {
            **stamp(plan.spec),
            "signature": signature(plan.input_names, plan.output_names, tuple(plan.dims)),
            "proof": proof and proof.to_dict(),
        }
        load(exporter.stamp)(path, metadata.encode(content))


class DeclaredFile:
    """A file of a declared format as a candidate for a proof."""

    replaceable = None

    def __init__(self, exporter: Exporter, path: Path, module: nn.Module, plan: Plan) -> None:
        self.name = path.name
        self._exporter, self._path, self._plan = exporter, path, plan
        self._order = plan.call_order(module) if exporter.takes_trees else None

    def count_equal(self, module: nn.Module) -> tuple[int, int] | None:
        """Compare the weights bit for bit, if the format can read them."""
        if self._exporter.weights is None:
            return None
        stored: dict[str, Tensor] = load(self._exporter.weights)(self._path)
        expected = {name: tensor for name, tensor in module.state_dict().items() if name in stored}
        return compare_states(self.name, expected, stored).equal

    def runner(self) -> Runner:
        """Run the file."""
        return self._run(self._path)

    def with_weights(self, module: nn.Module) -> Runner:
        """Write a file from the other module in the same way, and run that."""
        with tempfile.TemporaryDirectory() as folder:
            other = Path(folder, self._path.name)
            write(self._exporter, module, self._plan, other)
            return self._run(other)

    def shape_problem(self, run: Run, results: list[Tensor]) -> None:
        """Return None: such a file declares no shapes."""

    def _run(self, path: Path) -> Runner:
        if self._exporter.run is None:
            raise VerificationFailed(
                f"files of format {self._exporter.name} can't be run, so nothing can be proven"
            )
        try:
            return DeclaredRunner(self._exporter, load(self._exporter.run)(path), self._order)
        except NnkitError:
            raise
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error


class DeclaredRunner:
    """Runs a file of a declared format; raises Refused for any exception.

    order: the indices of the inputs in the order in which the file takes them. None: as they are.
    """

    def __init__(
        self, exporter: Exporter, call: Callable[[Inputs], list[Tensor]], order: Sequence[int] | None
    ) -> None:
        self.name, self._call, self._order = exporter.name, call, order

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        try:
            with torch.no_grad():
                ordered = inputs if self._order is None else [inputs[index] for index in self._order]
                results = self._call(tuple(tensor.clone() for tensor in ordered))
                return [in_reals(result.detach().cpu()) for result in results]
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {first_line(error)}") from error
