"""What runs an exported file: ONNX Runtime, and for what it can't run the reference evaluator of onnx."""

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
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import in_reals
from nnkit.verbs.exporting.interruptible import interruptible
from nnkit.verbs.exporting.plan import Names

Array: TypeAlias = Any
LOG = "nnkit-proof"
HARMLESS = re.compile(r"Removing initializer |Initializer \S+ appears in graph inputs")
"""Of a file that others wrote: values that no node reads, and values that a caller may replace."""
WARNING = re.compile(rf"\[[WEF]:onnxruntime:{LOG}, [^\]]*\] (.*)")


class Refused(Exception):
    """The runtime can't load or run the file, or has warned of it."""


class OnnxRuntime:
    """A session of ONNX Runtime on the CPU; whatever it warns of makes the run fail.

    model: a file, or the bytes of a model. weights: values of further inputs, by name. names: of the inputs
    as they are given and of the outputs as they are returned; those of the file in its own order where they
    are left out. harmless: what it may warn of.
    """

    def __init__(
        self,
        model: Path | bytes,
        weights: Mapping[str, Array] | None = None,
        names: Names | None = None,
        harmless: re.Pattern[str] | None = None,
    ) -> None:
        import onnxruntime

        self.name = f"ONNX Runtime {version('onnxruntime')}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.logid = 2, LOG
        self._harmless = harmless
        with _no_warnings(harmless):
            try:
                self._session = interruptible(
                    lambda: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                )
            except Exception as error:
                raise Refused(first_line(error)) from error
        self._weights = dict(weights or {})
        ports = [each for each in self._session.get_inputs() if each.name not in self._weights]
        self._kinds = {each.name: each.type.removeprefix("tensor(").removesuffix(")") for each in ports}
        self._inputs = names[0] if names else tuple(self._kinds)
        self._outputs = names and names[1]
        if set(self._inputs) != set(self._kinds):
            raise Refused(f"its inputs are {', '.join(self._kinds)}, not {', '.join(self._inputs)}")

    def given(self, name: str, value: Array) -> "OnnxRuntime":
        """Return the same session with another value for one weight."""
        other = copy.copy(self)
        other._weights = {**self._weights, name: value}
        return other

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        feeds = {
            name: _as_array(tensor, self._kinds[name])
            for name, tensor in zip(self._inputs, inputs, strict=True)
        }
        with _no_warnings(self._harmless):
            try:
                results = self._run({**feeds, **self._weights})
            except Exception as error:
                raise Refused(first_line(error)) from error
        return [torch.from_numpy(each) for each in results]

    def _run(self, feeds: Mapping[str, Array]) -> list[Array]:
        import onnxruntime

        options = onnxruntime.RunOptions()
        return interruptible(
            lambda: self._session.run(self._outputs, feeds, options),
            stop=lambda: setattr(options, "terminate", True),
        )


def check_loadable(path: Path) -> None:
    """Load a file in a process of its own; raise Refused where ONNX Runtime takes that process down."""
    code = "import sys, onnxruntime as o; o.set_default_logger_severity(4); o.InferenceSession(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    if done.returncode < 0:
        signal = -done.returncode
        raise Refused(f"ONNX Runtime {version('onnxruntime')} crashes on loading it (signal {signal})")


class Evaluator:
    """The reference evaluator of onnx: slow, and it knows bfloat16. why: for what reason it is used."""

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
        ports = [each.name for each in loaded.graph.input if each.name not in self._weights]
        self._inputs = names[0] if names else tuple(ports)
        self._outputs = names and names[1]

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        feeds = {name: as_array(tensor) for name, tensor in zip(self._inputs, inputs, strict=True)}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's, of infinities that are meant
                results = self._session.run(self._outputs, {**feeds, **self._weights})
        except Exception as error:
            raise Refused(first_line(error)) from error
        return [as_tensor(np.asarray(each)) for each in results]


def as_array(tensor: Tensor) -> Array:
    """Return a tensor as an array, bfloat16 as that of ml_dtypes.

    A complex one is as torch writes it to ONNX: its real and its imaginary part on a last axis of 2.
    """
    tensor = in_reals(tensor.detach().cpu()).contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _as_array(tensor: Tensor, kind: str) -> Array:
    """Return a tensor as the kind that a file takes: float32 may stand before a float16 model."""
    whole = kind == "float" and tensor.dtype == torch.float16
    return as_array(tensor.float() if whole else tensor)


def as_tensor(array: Array) -> Tensor:
    """Return an array as a tensor."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@contextlib.contextmanager
def _no_warnings(harmless: re.Pattern[str] | None) -> Iterator[None]:
    """Raise Refused for what ONNX Runtime warns of in the block, unless it is harmless.

    It writes to the process's own stderr, from threads of its own too; what others write there while
    the block runs is passed on.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            heard.seek(0)
            text = re.sub(r"\x1b\[[\d;]*m", "", heard.read().decode(errors="replace"))
            others = "".join(line for line in text.splitlines(keepends=True) if not WARNING.search(line))
            # What is printed before the first session is about the machine, not about a file.
            if others.strip() and "onnxruntime" not in others:
                sys.stderr.write(others)
        for warning in WARNING.findall(text):
            if not (harmless and harmless.match(warning)):
                raise Refused(f"it warns: {warning}")
