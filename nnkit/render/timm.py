"""BenchReport -> CSV with the columns that timm's benchmark.py writes, and that its result files have.

https://github.com/huggingface/pytorch-image-models/blob/main/benchmark.py
"""

from nnkit.contract.spec import ModelSpec
from nnkit.render.table import Table, to_csv
from nnkit.verbs.benchmarking.report import BenchModel, BenchReport, Mode

PREFIXES: dict[Mode, str] = {"forward": "infer", "training": "train"}
COLUMNS = (
    "model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size", "infer_img_size", "infer_gmacs",
    "train_samples_per_sec", "train_step_time", "train_batch_size", "train_img_size", "param_count",
)  # fmt: skip


def as_timm_csv(report: BenchReport) -> str:
    """Return a line for each model: milliseconds of a step, 10⁹ multiply-adds, 10⁶ parameters.

    What isn't known, or isn't of such a model, is empty.
    """
    lines = [
        {"model": label, **_values(model)} for label, model in zip(report.labels, report.models, strict=True)
    ]
    return to_csv(Table(COLUMNS, [tuple(line.get(name, "") for name in COLUMNS) for line in lines]))


def _values(model: BenchModel) -> dict[str, str]:
    values = {"param_count": f"{model.parameters / 1e6:.2f}"}
    if model.macs is not None:
        values["infer_gmacs"] = f"{model.macs / 1e9:.2f}"
    for measured in model.measurements:
        prefix = PREFIXES[measured.mode]
        values[f"{prefix}_samples_per_sec"] = f"{measured.throughput:.2f}"
        values[f"{prefix}_step_time"] = f"{measured.latency.median / 1e6:.3f}"
        values[f"{prefix}_batch_size"] = str(model.batch or 1)
        values[f"{prefix}_img_size"] = _image_size(model.spec)
    return values


def _image_size(spec: ModelSpec) -> str:
    """Return the last axis of the first input of four axes, an image; empty where there is none."""
    shapes = [spec.shape(tensor) for tensor in spec.inputs if len(tensor.shape) == 4]
    return str(shapes[0][-1]) if shapes else ""
