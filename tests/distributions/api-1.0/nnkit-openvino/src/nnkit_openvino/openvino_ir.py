"""OpenVINO's intermediate representation, converted from ONNX and run on the CPU.

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
    """Write NAME.xml and NAME.bin, with uncompressed weights and dynamic dims."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        onnx_file = Path(folder, "model.onnx")
        # For inputs that forward takes by name, the axes must be given by name as well.
        by_name = dict(zip(request.spec.input_names, request.dynamic, strict=True))
        dynamic = by_name if request.keywords else request.dynamic
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
        program.save(str(onnx_file))
        openvino.save_model(openvino.convert_model(onnx_file), request.path, compress_to_fp16=False)


def run(path: Path) -> Callable[[tuple[Tensor, ...]], list[Tensor]]:
    """Return a function that runs the file in the precision of its weights."""
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def call(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        results = compiled([tensor.numpy() for tensor in inputs])
        return [torch.from_numpy(results[index].copy()) for index in range(len(compiled.outputs))]

    return call
