"""OpenVINO's intermediate representation, written by way of ONNX, and run on the CPU.

https://docs.openvino.ai/2025/documentation/openvino-ir-format.html
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import openvino
import torch
from torch import Tensor

from nnkit import WriteRequest


def write(request: WriteRequest) -> None:
    """Write NAME.xml and NAME.bin, weights uncompressed, the dims that are free left open."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        between = Path(folder, "model.onnx")
        # Inputs that forward takes by name need their axes by name as well.
        named = dict(zip(request.spec.input_names, request.dynamic, strict=True))
        dynamic = named if request.keywords else request.dynamic
        program = torch.onnx.export(
            request.module,
            request.inputs,
            kwargs=dict(request.keywords),
            dynamo=True,
            input_names=request.input_names,
            output_names=request.output_names,
            dynamic_shapes=dynamic,
            verbose=False,
        )
        program.save(str(between))
        openvino.save_model(openvino.convert_model(between), request.path, compress_to_fp16=False)


def run(path: Path) -> Callable[[tuple[Tensor, ...]], list[Tensor]]:
    """Return what runs the file, in the precision that it was written in."""
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def call(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        results = compiled([each.numpy() for each in inputs])
        return [torch.from_numpy(results[place].copy()) for place in range(len(compiled.outputs))]

    return call
