"""Sums over many edges are right on several threads of ONNX Runtime, which loses updates in a ScatterND."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import nnkit
from nnkit.models.references import look_up


class Sums(nn.Module):
    """Adds the messages of edges up in the nodes that they go to; `trailing` axes behind the edges."""

    def __init__(self, trailing: int = 2):
        super().__init__()
        self.scale, self.trailing = nn.Parameter(torch.randn(())), trailing

    def forward(self, nodes, messages, target):
        return nodes.index_add(0, target, messages * self.scale)


@pytest.mark.parametrize("trailing", [0, 1, 2])
def test_no_update_is_lost(tmp_path, trailing):
    axes = "".join(f", {8}" for _ in range(trailing))
    texts = [
        f"nodes: float32[nodes=5{axes}]", f"messages: float32[edges=9{axes}]", "target: int64[edges] < nodes"
    ]  # fmt: skip
    spec = look_up(f"{__name__}:Sums", None, texts).resolve()
    file = tmp_path / "sums.onnx"
    assert nnkit.export(spec, file).verified
    kinds = {node.op_type for node in onnx.load(file).graph.node if node.op_type.startswith("Scatter")}
    assert kinds == {"ScatterElements"}

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 4
    session, generator = onnxruntime.InferenceSession(file, options), np.random.default_rng(0)
    scale = nnkit.build(spec).scale.item()
    for _ in range(10):
        messages = generator.standard_normal((20_000, *[8] * trailing)).astype(np.float32)
        target = generator.integers(0, 2, 20_000)
        expected = np.zeros((2, *[8] * trailing))
        np.add.at(expected, target, messages.astype(float) * scale)
        nodes = np.zeros(expected.shape, np.float32)
        (found,) = session.run(None, {"nodes": nodes, "messages": messages, "target": target})
        assert np.abs(found - expected).max() < 1e-2
