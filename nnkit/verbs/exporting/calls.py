"""Run a module on inputs without changing either."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.contract.signature import Signature
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import format_shape
from nnkit.errors import NnkitError, first_line
from nnkit.models.copies import copy_of
from nnkit.models.running import evaluate, evaluate_tensors
from nnkit.models.sampling import Inputs, sample_inputs
from nnkit.models.tensors import in_reals
from nnkit.models.user_lines import at_line

T = TypeVar("T")


def run_module(module: nn.Module, signature: Signature, inputs: Inputs) -> list[Tensor]:
    """Return the tensors that a copy of `module` returns, so that the module itself stays as it was built.

    Raises NnkitError when forward fails.
    """
    return call_module(copy_of(module), signature, inputs)


def fill_lazy(module: nn.Module, spec: ModelSpec) -> None:
    """Run a module with lazy parameters once, so that they get shapes, and values from the seed."""
    if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        inputs = sample_inputs(spec)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(spec.seed)
            call_module(module, spec.signature, inputs)


def run_forward(module: nn.Module, signature: Signature, inputs: Inputs) -> Any:
    """Return what forward of a copy of `module` returns. Raises NnkitError when it fails."""
    return _run_or_explain(evaluate, copy_of(module), signature, inputs)


def call_module(module: nn.Module, signature: Signature, inputs: Inputs) -> list[Tensor]:
    """Return the tensors that `module` itself returns, complex ones as reals; its state may change.

    Raises NnkitError when forward fails.
    """
    return [in_reals(tensor) for tensor in _run_or_explain(evaluate_tensors, module, signature, inputs)]


def _run_or_explain(
    run: Callable[[nn.Module, Signature, Inputs], T],
    module: nn.Module,
    signature: Signature,
    inputs: Inputs,
) -> T:
    try:
        return run(module, signature, inputs)
    except Exception as error:
        shapes = ", ".join(format_shape(tensor.shape) for tensor in inputs)
        problem = f"{type(error).__name__}: {first_line(error)}{at_line(error)}"
        raise NnkitError(
            f"forward fails on inputs of {shapes}: {problem}",
            "see where it fails: nnkit summary",
        ) from error
