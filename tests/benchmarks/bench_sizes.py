"""Models whose graph changes with the size of an input, exported by torch.onnx.export and by nnkit.

    python tests/benchmarks/bench_sizes.py [--quick]

Each model is exported with its axes dynamic. torch checks its own file (`verify=True`) at the sizes it was traced
with; then the file runs at a size that the trace has not seen. Prints, for each exporter, what it did and what its
file does at the other size, and at the end the ratio of wrong files written. The first model is sound.
"""

import argparse
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

import nnkit
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager


class Two(nn.Module):
    """Two layers, of which the size decides."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)


class SameLayer(Two):
    """Sound: one layer at every size."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer of x (B, T, 8)."""
        return self.first(x)


class OtherLayerFrom33Steps(Two):
    """A different layer for long series."""

    def forward(self, x: Tensor) -> Tensor:
        """Return one layer of x (B, T, 8)."""
        return self.second(x) if x.shape[1] > 32 else self.first(x)


class OtherLayerBeyond16Rows(Two):
    """The first sixteen samples go through one layer, the others through the other."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layers of x (B, T, 8)."""
        return self.first(x) if x.shape[0] <= 16 else torch.cat([self.first(x[:16]), self.second(x[16:])])


class OtherLayerBeyond64Elements(Two):
    """Batch and time decide together."""

    def forward(self, x: Tensor) -> Tensor:
        """Return one layer of x (B, T, 8)."""
        return self.second(x) if x.shape[0] * x.shape[1] > 64 else self.first(x)


class OtherLayerAt64Steps(Two):
    """One single size is different."""

    def forward(self, x: Tensor) -> Tensor:
        """Return one layer of x (B, T, 8)."""
        return self.second(x) if x.shape[1] == 64 else self.first(x)


class WindowsOf512(Two):
    """A series is cut into windows; the trace has seen one."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer of each window of x (B, T, 8)."""
        return torch.cat([self.first(part) for part in x.split(512, 1)], 1)


class Shrunk(nn.Module):
    """Nearest neighbor by a factor: ONNX and torch round the source of a pixel differently at larger sizes."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller pictures of x (B, 3, H, W)."""
        return F.interpolate(x, scale_factor=0.6, mode="nearest")


@dataclass(frozen=True)
class Case:
    """A model, what `--input` declares, the shape that is traced and one that the trace has not seen."""

    kind: type[nn.Module]
    declared: str
    traced: tuple[int, ...]
    other: tuple[int, ...]


TOLERANCE = 1e-3  # of the spread of the output
SERIES, PICTURES = "x: float32[batch, time, 8]", "x: float32[batch, 3, height min=2, width min=2]"
CASES = [
    Case(SameLayer, SERIES, (2, 16, 8), (5, 33, 8)),
    Case(OtherLayerFrom33Steps, SERIES, (2, 16, 8), (2, 33, 8)),
    Case(OtherLayerBeyond16Rows, SERIES, (2, 16, 8), (17, 16, 8)),
    Case(OtherLayerBeyond64Elements, SERIES, (2, 16, 8), (5, 16, 8)),
    Case(OtherLayerAt64Steps, SERIES, (2, 16, 8), (2, 64, 8)),
    Case(WindowsOf512, SERIES, (2, 16, 8), (2, 600, 8)),
    Case(Shrunk, PICTURES, (2, 3, 12, 12), (2, 3, 17, 17)),
]


class Warnings(logging.Handler):
    """Keeps what the exporter warns of, which is how its check reports a difference."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self.messages.append(record.getMessage())


def export_by_torch(case: Case, module: nn.Module, file: Path) -> str:
    """Export with torch's own check; return "" or the refusal, or what the check warned of."""
    axes = {axis: Dim.DYNAMIC for axis in range(len(case.traced)) if case.traced[axis] != case.other[axis]}
    x, warned, logger = torch.randn(case.traced), Warnings(), logging.getLogger("torch.onnx")
    logger.addHandler(warned)
    try:
        program = torch.onnx.export(
            module, (x,), dynamo=True, verbose=False, verify=True, dynamic_shapes=[axes]
        )
    except Exception as error:  # whatever torch raises is its answer
        return type(error).__name__
    finally:
        logger.removeHandler(warned)
    program.save(str(file))
    differences = [message for message in warned.messages if "differ" in message or "accura" in message]
    return "; ".join(differences)


def export_by_nnkit(case: Case, module: nn.Module, file: Path) -> str:
    """Export the same weights; return "" or the refusal."""
    reference = look_up(f"{__file__}:{case.kind.__name__}", plugin_manager(), [case.declared])
    weights = file.with_suffix(".safetensors")
    save_file(module.state_dict(), weights)
    try:
        nnkit.export(reference.resolve(), file, weights=weights if module.state_dict() else None)
    except nnkit.NnkitError as error:
        return error.message
    return ""


def find_fault(case: Case, module: nn.Module, file: Path) -> str:
    """Run the file at the size that the trace has not seen; return "" or what is wrong."""
    x = torch.randn(case.other)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = module(x).numpy()
    try:
        actual = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    except Exception as error:  # of ONNX Runtime's own classes
        return f"it fails with {type(error).__name__}"
    if actual.shape != expected.shape:
        return f"its output is {actual.shape}, not {expected.shape}"
    difference = np.abs(actual - expected).max() / expected.std()
    return f"its output differs by {difference:.2g} of the spread" if difference > TOLERANCE else ""


EXPORTERS = {"torch": export_by_torch, "nnkit": export_by_nnkit}


def main() -> None:
    """Export each model by both and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    cases = CASES[:2] if parser.parse_args().quick else CASES
    logging.getLogger("torch.onnx").propagate = False
    warnings.simplefilter("ignore")
    wrong = dict.fromkeys(EXPORTERS, 0)
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            print(case.kind.__name__)
            for exporter, export in EXPORTERS.items():
                module = case.kind().eval()
                file = Path(name) / f"{exporter}-{case.kind.__name__}.onnx"
                refusal = export(case, module, file)
                fault = "" if refusal else find_fault(case, module, file)
                wrong[exporter] += bool(fault)
                outcome = (
                    f"refused: {refusal}" if refusal else f"written; at {case.other} {fault or 'it is right'}"
                )
                print(f"  {exporter}  {outcome}", flush=True)
    unsound = len(cases) - 1
    print(f"ratio of wrong files written: torch {wrong['torch']}/{unsound}, nnkit {wrong['nnkit']}/{unsound}")


if __name__ == "__main__":
    main()
