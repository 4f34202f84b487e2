"""Formats by name: ONNX and safetensors, which core knows inside out, and those that plugins declare.

`pt2` is declared as a plugin's would be.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nnkit.contract.loading import load, missing
from nnkit.contract.requests import Exporter, ExportOptions, Host, WriteRequest
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, VerificationFailed, did_you_mean, first_line
from nnkit.models import metadata
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import in_reals
from nnkit.verbs.exporting.capture import quiet
from nnkit.verbs.exporting.copies import whole_copy_of
from nnkit.verbs.exporting.plan import Plan, Run
from nnkit.verbs.exporting.proof import Runner
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
)
OWN = ("onnx", "safetensors")

SIGNATURE = frozenset({"fixed", "static", "input_names", "output_names"})
HEEDED: Mapping[str, frozenset[str]] = {
    "onnx": SIGNATURE | {"opset", "float32_io", "optimize", "external_data"},
    "safetensors": frozenset({"max_shard_size"}),
}
"""Which options concern which format; those that plugins declare know the signature alone."""


def find(name: str, host: Host) -> Exporter | None:
    """Return the declared format of that name; None for the two that core writes itself.

    Raises UsageProblem for an unknown name, PluginProblem where a package that it needs is missing.
    """
    if name in OWN:
        return None
    offered = {each.name: each for each in (PT2, *host.exporters())}
    if name not in offered:
        every = [*OWN, *offered]
        raise UsageProblem(
            f"unknown format {name!r}", did_you_mean(name, every) or f"one of: {', '.join(every)}"
        )
    exporter = offered[name]
    if lacking := missing(exporter.requires):
        raise PluginProblem(
            f"format {name} needs the package {lacking}", f"install it: {exporter.requires[lacking]}"
        )
    return exporter


def heeded(options: ExportOptions, format: str) -> ExportOptions:
    """Return what of the options concerns a format."""
    defaults = vars(ExportOptions())
    return replace(options, **{name: defaults[name] for name in defaults if name not in _heeds(format)})


def unheeded(options: ExportOptions, format: str) -> list[str]:
    """Return the names of the options that were given and don't concern a format."""
    given = vars(options).items() - vars(ExportOptions()).items()
    return sorted(name for name, _ in given if name not in _heeds(format))


def _heeds(format: str) -> frozenset[str]:
    return HEEDED.get(format, SIGNATURE)


def write(exporter: Exporter, module: nn.Module, plan: Plan, path: Path) -> None:
    """Let a declared format write its file."""
    # It gets a copy, so that whatever it does to the module is found by the comparison.
    args, keywords = plan.bind(module, plan.traced)
    request = WriteRequest(
        spec=plan.spec, module=whole_copy_of(module), path=path, inputs=args, keywords=keywords,
        dynamic=plan.dynamic, input_names=plan.input_names, output_names=plan.output_names,
    )  # fmt: skip
    try:
        with quiet():
            load(exporter.write)(request)
    except NnkitError:
        raise
    except Exception as error:
        raise PluginProblem(
            f"format {exporter.name} failed to write: {type(error).__name__}: {first_line(error)}",
            "see where: repeat with -v",
        ) from error
    if not path.is_file():
        raise PluginProblem(f"format {exporter.name} wrote no file", f"tell its author ({exporter.write})")


def put_stamp(exporter: Exporter, plan: Plan, path: Path, proof: Proof | None) -> None:
    """Put into a file what it tells of itself, where its format has a place for it."""
    if exporter.stamp is not None:
        told = {
            **stamp(plan.spec),
            "signature": signature(plan.input_names, plan.output_names, tuple(plan.dims)),
            "proof": proof and proof.to_dict(),
        }
        load(exporter.stamp)(path, metadata.encode(told))


class DeclaredFile:
    """A file of a declared format as a candidate for a proof."""

    replaceable = None

    def __init__(self, exporter: Exporter, path: Path, plan: Plan) -> None:
        self.name = path.name
        self._exporter, self._path, self._plan = exporter, path, plan

    def equal(self, module: nn.Module) -> tuple[int, int] | None:
        """Compare the weights bit for bit, where the format lets them be read."""
        if self._exporter.weights is None:
            return None
        stored: dict[str, Tensor] = load(self._exporter.weights)(self._path)
        expected = {name: each for name, each in module.state_dict().items() if name in stored}
        return compare_states(self.name, expected, stored).equal

    def runner(self) -> Runner:
        """Run the file."""
        return self._run(self._path)

    def with_weights(self, module: nn.Module) -> Runner:
        """Write another file from the other module, in the same way, and run that."""
        with tempfile.TemporaryDirectory() as folder:
            other = Path(folder, self._path.name)
            write(self._exporter, module, self._plan, other)
            return self._run(other)

    def shape_problem(self, run: Run, results: list[Tensor]) -> None:
        """Such a file declares no shapes."""

    def _run(self, path: Path) -> Runner:
        if self._exporter.run is None:
            raise VerificationFailed(f"format {self._exporter.name} can't be run to prove it")
        try:
            return DeclaredRunner(self._exporter, load(self._exporter.run)(path))
        except NnkitError:
            raise
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error


class DeclaredRunner:
    """What runs a file of a declared format; whatever it raises, it can't run it."""

    def __init__(self, exporter: Exporter, call: Callable[[Inputs], list[Tensor]]) -> None:
        self.name, self._call = exporter.name, call

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        try:
            with torch.no_grad():
                results = self._call(tuple(each.clone() for each in inputs))
                return [in_reals(each.detach().cpu()) for each in results]
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {first_line(error)}") from error
