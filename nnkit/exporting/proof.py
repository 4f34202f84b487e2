"""The proof of an ONNX file: run in ONNX Runtime beside the original module, at several sizes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.errors import VerificationFailed
from nnkit.exporting.report import Check
from nnkit.sampling import Inputs
from nnkit.tensors import spread_of, tensors_in

# The largest difference allowed, as a share of the spread of the output. Rounding in float32 stays
# below a tenth of it on every architecture of the zoo; a wrong graph or weight is far above.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2}


def prove(
    file: Path,
    module: nn.Module,
    output_names: list[str],
    runs: Mapping[tuple[tuple[str, int], ...], Inputs],
    progress: Callable[[str], None],
) -> tuple[Check, ...]:
    """Compare the file with the module on each of `runs` (sizes -> inputs) and return the checks.

    Raises VerificationFailed with the first run that shows a difference.
    """
    session = _session(file)
    checks: list[Check] = []
    for assignment, inputs in runs.items():
        sizes = dict(assignment)
        progress(f"proving at {_words(sizes)}")
        checks += _compare(session, module, output_names, sizes, inputs)
        for check in checks:
            if not check.passed:
                raise VerificationFailed(
                    f"{file.name} is not the model: "
                    f"at {_words(sizes)} output {check.output!r} {check.problem}",
                    "no file was written; the fault is in the exporter or in how forward uses its sizes",
                )
    return tuple(checks)


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about shapes come on stderr, and the proof sees them anyway
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise VerificationFailed(
            f"ONNX Runtime refuses {file.name}: {_first_line(error)}", "no file was written"
        ) from error


def _compare(
    session: Any, module: nn.Module, names: list[str], sizes: dict[str, int], inputs: Inputs
) -> list[Check]:
    with torch.inference_mode():
        expected = list(tensors_in(module(*(each.clone() for each in inputs))))
    feeds = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), inputs, strict=True)}
    try:
        results = session.run(None, feeds)
    except Exception as error:
        return [Check(sizes, names[0], float("inf"), 0.0, False, f"can't be computed: {_first_line(error)}")]
    return [
        _check(sizes, name, torch.from_numpy(result), reference)
        for name, result, reference in zip(names, results, expected, strict=True)
    ]


def _check(sizes: dict[str, int], name: str, result: Tensor, expected: Tensor) -> Check:
    """Judge one output. Integers must be equal; floats may differ by rounding, seen at their scale."""
    if result.shape != expected.shape or result.dtype != expected.dtype:
        got, wanted = (f"{str(each.dtype)[6:]}{list(each.shape)}" for each in (result, expected))
        return Check(sizes, name, float("inf"), 0.0, False, f"is {got} where the module gives {wanted}")
    if expected.numel() == 0:
        return Check(sizes, name, 0.0, 0.0, True)
    if not expected.is_floating_point():
        wrong = int((result != expected).sum())
        return Check(sizes, name, float(wrong), 1.0, wrong == 0, f"differs in {wrong} elements")
    scale = spread_of(expected)
    diff = float((result.double() - expected.double()).abs().max())
    if not torch.isfinite(expected).all():
        return Check(
            sizes, name, diff, scale, False, "is not finite in the module itself, which proves nothing"
        )
    passed = diff <= TOLERANCE[expected.dtype] * scale
    return Check(sizes, name, diff, scale, passed, f"differs by {diff:.3g} where its spread is {scale:.3g}")


def _words(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "the given inputs"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
