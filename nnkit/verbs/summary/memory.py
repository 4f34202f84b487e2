"""How much memory a training step and an inference need, estimated without weights, data or arithmetic.

A twin of the model runs on fake tensors, which have a shape, a dtype and a storage of a size, but no memory.
A dispatch mode tracks the storages as they are made and freed. It can't track what a kernel allocates and
frees within one call: for that scratch.py has a rule for each operator. The note names those without a rule.
"""

import logging
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.parameter import is_lazy

from nnkit.contract.requests import OPTIMIZERS
from nnkit.errors import NoEstimate, UsageProblem, did_you_mean, first_line
from nnkit.models.members import named_buffers, named_modules, named_parameters
from nnkit.models.process import random_states_kept
from nnkit.models.tensors import bytes_of, tensors_in
from nnkit.verbs.summary.report import Memory
from nnkit.verbs.summary.storages import LiveStorages
from nnkit.verbs.summary.tracing import uncompiled
from nnkit.verbs.summary.twin import Observer, Twin

MEASURABLE = 2 * 2**30  # bytes of parameters, up to which a model that needs values is run for real
MEASURED = "measured in a run on the CPU: "  # the note if fake tensors can't run the model, before the reason
LONGEST_REASON = 200  # characters of an error in a note
CUDA_BLOCK = 512  # bytes, to a multiple of which CUDA's caching allocator rounds every request

T = TypeVar("T")


def estimate_memory(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    optimizer: str = "adam",
    device: str = "cpu",
    observer: Observer | None = None,
) -> Memory:
    """Return what training and running `module` on these inputs needs, by a run on fake tensors.

    Parameters, buffers and inputs may have values or not; `module` itself isn't run and stays as it is.

    A model that can't run without values (`nonzero`, `item`) is run for real on the CPU, on a copy, if it
    has less than 2 GiB of parameters and its inputs have values; its peaks are what torch's allocator counts.
    Raises NoEstimate, whose message is one sentence, if that isn't possible either or a training step fails.

    On "cpu" the peaks were within 2 % of what torch's allocator counted, or the note names what may be off,
    for the models of tests/benchmarks/bench_memory.py and the layers of its --sweep. On "cuda" no figure was
    compared with a GPU's: CUDA's context, the workspaces of cuDNN and cuBLAS and the allocator's
    fragmentation are left out.
    """
    on_cuda = torch.device(device).type == "cuda"
    simulated = on_cuda and not torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]

    def make_fake(tensor: Tensor) -> Tensor:
        where = "cpu" if simulated else device
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=where)

    def run_on_fakes() -> Memory:
        live = LiveStorages(CUDA_BLOCK, temporaries=False) if on_cuda else LiveStorages()
        with FakeTensorMode(allow_non_fake_inputs=True), live:
            twin = Twin(module, args, kwargs, make_fake, optimizer, foreach=on_cuda)
            return twin.measure(live, observer, device, "; ".join(find_doubts(module, simulated)))

    def run_for_real(reason: str) -> Memory:
        with LiveStorages(temporaries=False) as live:
            twin = Twin(module, args, kwargs, copy_to_cpu, optimizer, foreach=False)
            memory = twin.measure(live, observer, "cpu", MEASURED + reason)
        twin = Twin(module, args, kwargs, copy_to_cpu, optimizer, foreach=False)
        training, inference = twin.measure_with_allocator(trains=memory.training_peak > 0)
        return replace(memory, training_peak=training, inference_peak=inference)

    return try_fakes_first(module, args, kwargs, optimizer, run_on_fakes, run_for_real)


def try_fakes_first(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    optimizer: str,
    run_on_fakes: Callable[[], T],
    run_for_real: Callable[[str], T],
) -> T:
    """Return the result of a run on fake tensors; if that fails, of a real run, which gets the reason.

    Raises NoEstimate if both fail, UsageProblem for an unknown optimizer.
    """
    if optimizer not in OPTIMIZERS:
        hint = did_you_mean(optimizer, OPTIMIZERS) or f"choose one of {', '.join(OPTIMIZERS)}"
        raise UsageProblem(f"unknown optimizer {optimizer}", hint)
    weights = [*named_parameters(module).values(), *named_buffers(module).values()]
    if any(is_lazy(tensor) for tensor in weights):
        raise NoEstimate("the parameters have no shape yet", "run the module once, then try again")
    with _undisturbed():
        try:
            return run_on_fakes()
        except Exception as problem:
            reason = _explain(problem)
            without_values = any(tensor.is_meta for tensor in tensors_in((args, kwargs)))
            if without_values or sum(bytes_of(tensor) for tensor in weights) > MEASURABLE:
                raise NoEstimate(
                    f"its memory can't be estimated without a run: {reason}",
                    "give inputs with values, and a model of less than 2 GiB",
                ) from problem
        try:
            return run_for_real(reason)
        except Exception as problem:
            raise NoEstimate(
                f"a training step failed: {_explain(problem)}",
                "check the sizes and the dtype of the inputs",
            ) from problem


def _explain(problem: Exception) -> str:
    if isinstance(problem, (DataDependentOutputException, DynamicOutputShapeException)):
        return f"{problem.func} needs values"
    message = textwrap.shorten(first_line(problem), LONGEST_REASON, placeholder="…")
    return f"{type(problem).__name__}: {message}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the random state as it is, and repeat none of the model's warnings, for it has run before."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, logger.disabled = logger.disabled, True
    try:
        with ExitStack() as stack:
            stack.enter_context(random_states_kept())
            stack.enter_context(warnings.catch_warnings())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(uncompiled())
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def find_doubts(module: nn.Module, simulated: bool) -> Iterator[str]:
    """Yield why figures from a run on fake tensors may not be exact."""
    if simulated:
        yield "computed with the CPU's kernels, because this torch has none for CUDA"
    if any(isinstance(submodule, nn.RNNBase) for submodule in named_modules(module).values()):
        yield "the working memory of recurrent kernels is an estimate, good to a few percent"


def copy_to_cpu(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU, with the values of the tensor if it has any."""
    return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach().cpu().clone()
