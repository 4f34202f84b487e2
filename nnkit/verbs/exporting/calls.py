"""Running a module on inputs, so that neither is changed by it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import format_shape
from nnkit.errors import NnkitError, first_line
from nnkit.models.running import evaluate, evaluate_tensors
from nnkit.models.sampling import Inputs, sample_inputs
from nnkit.models.tensors import in_reals
from nnkit.models.user_lines import at_line
from nnkit.verbs.exporting.copies import copy_of

T = TypeVar("T")


def run_module(module: nn.Module, names: Sequence[str], inputs: Inputs) -> list[Tensor]:
    """Return the tensors that a copy of `module` gives, so that the module itself stays as it was built.

    names: of the inputs. Raises NnkitError when forward fails.
    """
    return call_module(copy_of(module), names, inputs)


def fill_lazy(module: nn.Module, spec: ModelSpec, given: Inputs | None = None) -> None:
    """Run a module once that has lazy parameters, so that they get their shapes, and values from the seed."""
    if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        inputs = given if given is not None else sample_inputs(spec)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(spec.seed)
            call_module(module, spec.input_names, inputs)


def run_forward(module: nn.Module, names: Sequence[str], inputs: Inputs) -> Any:
    """Return what forward of a copy of `module` returns. Raises NnkitError when it fails."""
    return _checked(evaluate, copy_of(module), names, inputs)


def call_module(module: nn.Module, names: Sequence[str], inputs: Inputs) -> list[Tensor]:
    """Return the tensors that `module` itself gives, which may change its state; complex ones in reals.

    Raises NnkitError when forward fails.
    """
    return [in_reals(tensor) for tensor in _checked(evaluate_tensors, module, names, inputs)]


def _checked(
    run: Callable[[nn.Module, Sequence[str], Inputs], T],
    module: nn.Module,
    names: Sequence[str],
    inputs: Inputs,
) -> T:
    try:
        return run(module, names, inputs)
    except Exception as error:
        shapes = ", ".join(format_shape(each.shape) for each in inputs)
        what = f"{type(error).__name__}: {first_line(error)}{at_line(error)}"
        raise NnkitError(
            f"forward fails on inputs of {shapes}: {what}",
            "see where it fails: nnkit summary",
        ) from error
