"""What runs in compiled code ends when a signal comes: an endless loop of ONNX Runtime does."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nnkit.verbs.exporting.interruptible import interruptible
from nnkit.verbs.exporting.runtimes import OnnxRuntime


@pytest.fixture
def interrupted_soon():
    """Send this process what Ctrl-C sends, in a second."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.cancel()
    signal.signal(signal.SIGINT, before)


def test_results_and_errors_come_through():
    assert interruptible(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


def test_a_call_is_asked_to_end(interrupted_soon):
    ended = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        interruptible(lambda: ended.wait(60), ended.set)
    assert ended.is_set()


def test_an_endless_loop_in_a_file_can_be_ended(interrupted_soon):
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["go"]), helper.make_node("Neg", ["state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "true", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [
            numpy_helper.from_array(np.array(True), "true"),
            numpy_helper.from_array(np.array(2**62), "times"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    run = OnnxRuntime(model.SerializeToString())
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run((torch.ones(2),))
    assert time.monotonic() - begun < 20
