"""What runs an exported file: ONNX Runtime, or the reference evaluator of onnx where that can't."""

import contextlib
import copy
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from torch import Tensor

from nnkit.errors import first_line
from nnkit.models.process import memory_given_back
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import in_reals
from nnkit.verbs.exporting.interruptible import interruptible
from nnkit.verbs.exporting.plan import Names

Array: TypeAlias = Any
LOG = "nnkit-proof"
HARMLESS = re.compile(r"Removing initializer |Initializer \S+ appears in graph inputs")
"""Warnings that are no fault in a file that others wrote: unused values, and values a caller may replace."""
WARNING = re.compile(rf"\[[WEF]:onnxruntime:{LOG}, [^\]]*\] (.*)")


class Refused(Exception):
    """The runtime can't load or run the file, or warned about it."""


class OnnxRuntime:
    """A session of ONNX Runtime on the CPU; any warning makes the run fail.

    model: a file, or the bytes of a model. weights: values for further inputs, by name. names: the inputs in
    the order in which they are passed, and the outputs in the order in which they are returned; by default
    the file's own order. harmless: warnings that are ignored. optimized: whether the graph is
    optimized, which takes memory.
    """

    def __init__(
        self,
        model: Path | bytes,
        weights: Mapping[str, Array] | None = None,
        names: Names | None = None,
        harmless: re.Pattern[str] | None = None,
        optimized: bool = True,
    ) -> None:
        import onnxruntime

        self.name = f"ONNX Runtime {version('onnxruntime')}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.logid = 2, LOG
        # Its threads would burn a processor while they wait for the next operator.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Each weight takes memory of its own, which ends with it. In an arena it would stay.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.disable_prepacking", "1")
        self._harmless = harmless
        with _no_warnings(harmless), memory_given_back():
            try:
                self._session = interruptible(
                    lambda: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                )
            except Exception as error:
                raise Refused(first_line(error)) from error
        self._weights = dict(weights or {})
        self._types = {
            port.name: port.type.removeprefix("tensor(").removesuffix(")")
            for port in self._session.get_inputs()
            if port.name not in self._weights
        }
        self._inputs = names[0] if names else tuple(self._types)
        self._outputs = names[1] if names else None
        if set(self._inputs) != set(self._types):
            raise Refused(f"its inputs are {', '.join(self._types)}, not {', '.join(self._inputs)}")

    def given(self, name: str, value: Array) -> "OnnxRuntime":
        """Return the same session with a different value for one weight."""
        other = copy.copy(self)
        other._weights = {**self._weights, name: value}
        return other

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        feeds = {
            name: _as_array(tensor, self._types[name])
            for name, tensor in zip(self._inputs, inputs, strict=True)
        }
        with _no_warnings(self._harmless):
            try:
                results = self._run({**feeds, **self._weights})
            except Exception as error:
                raise Refused(first_line(error)) from error
        return [torch.from_numpy(result) for result in results]

    def _run(self, feeds: Mapping[str, Array]) -> list[Array]:
        import onnxruntime

        options = onnxruntime.RunOptions()
        return interruptible(
            lambda: self._session.run(self._outputs, feeds, options),
            stop=lambda: setattr(options, "terminate", True),
        )


def check_loadable(path: Path) -> None:
    """Load a file in a process of its own; raise Refused where ONNX Runtime crashes that process."""
    code = "import sys, onnxruntime as o; o.set_default_logger_severity(4); o.InferenceSession(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    if done.returncode < 0:
        signal = -done.returncode
        raise Refused(f"ONNX Runtime {version('onnxruntime')} crashes when loading it (signal {signal})")


class Evaluator:
    """The reference evaluator of onnx, which is slow but supports bfloat16. why: the reason for using it."""

    def __init__(
        self,
        model: Path | bytes,
        weights: Mapping[str, Array] | None = None,
        names: Names | None = None,
        why: str = "",
    ) -> None:
        from onnx.reference import ReferenceEvaluator

        self.name = f"the reference evaluator of onnx {version('onnx')}{why and f' ({why})'}"
        loaded = onnx.load(model) if isinstance(model, Path) else onnx.load_from_string(model)
        try:
            self._session = ReferenceEvaluator(loaded)
        except Exception as error:
            raise Refused(first_line(error)) from error
        self._weights = dict(weights or {})
        ports = [port.name for port in loaded.graph.input if port.name not in self._weights]
        self._inputs = names[0] if names else tuple(ports)
        self._outputs = names[1] if names else None

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        feeds = {name: as_array(tensor) for name, tensor in zip(self._inputs, inputs, strict=True)}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's, about infinities that are intended
                results = self._session.run(self._outputs, {**feeds, **self._weights})
        except Exception as error:
            raise Refused(first_line(error)) from error
        return [as_tensor(np.asarray(result)) for result in results]


def as_array(tensor: Tensor) -> Array:
    """Return a tensor as an array, bfloat16 as the dtype of ml_dtypes.

    A complex tensor is returned as torch writes it to ONNX: real and imaginary parts on a last axis of 2.
    """
    tensor = in_reals(tensor.detach().cpu()).contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _as_array(tensor: Tensor, dtype: str) -> Array:
    """Return a tensor as the dtype that a file takes: a float16 model may take float32 inputs."""
    needs_cast = dtype == "float" and tensor.dtype == torch.float16
    return as_array(tensor.float() if needs_cast else tensor)


def as_tensor(array: Array) -> Tensor:
    """Return an array as a tensor."""
    if not array.flags.aligned:
        array = array.copy()
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@contextlib.contextmanager
def _no_warnings(harmless: re.Pattern[str] | None) -> Iterator[None]:
    """Raise Refused for a warning of ONNX Runtime in the block, unless it is harmless.

    ONNX Runtime writes to the stderr of the process, from threads of its own too. What others write there
    while the block runs is passed on.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            text = re.sub(r"\x1b\[[\d;]*m", "", captured.read().decode(errors="replace"))
            others = "".join(line for line in text.splitlines(keepends=True) if not WARNING.search(line))
            # What is printed before the first session is about the machine, not about a file.
            if others.strip() and "onnxruntime" not in others:
                sys.stderr.write(others)
        for warning in WARNING.findall(text):
            if not (harmless and harmless.match(warning)):
                raise Refused(f"it warns: {warning}")
