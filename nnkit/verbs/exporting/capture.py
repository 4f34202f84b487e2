"""What surrounds torch.export: silence, and loops for recurrent layers."""

import contextlib
import functools
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.errors import NnkitError, VerificationFailed, first_line
from nnkit.models.running import lacks_gradients
from nnkit.models.tensors import tensors_in
from nnkit.models.user_lines import at_line
from nnkit.verbs.exporting.derivatives import written_out

T = TypeVar("T")

STATIC = re.compile(r"static shape of (\d+) for dimension inputs\['?(\w+)'?\]\.shape\[(\d+)\]")


@contextlib.contextmanager
def looped_recurrences() -> Iterator[None]:
    """Let recurrent layers be exported with a dynamic number of steps, as loops.

    torch registers these for capturing alone and not for what follows, which leaves a stale number of
    steps in the outputs' shapes (pytorch#191855); registering them around the whole export mends it.
    """
    with contextlib.ExitStack() as stack:
        patches: Any = None
        with contextlib.suppress(ImportError):
            from torch.export import _patches as patches  # private: other versions may lack it
        for name in ("register_lstm_while_loop_decomposition", "register_gru_while_loop_decomposition"):
            if register := getattr(patches, name, None):
                stack.enter_context(register())
        yield


def capture(
    export: Callable[[nn.Module], T],
    module: nn.Module,
    args: tuple[Tensor, ...],
    keywords: Mapping[str, Tensor],
) -> T:
    """Return what `export` makes of a module, in silence.

    Where forward differentiates, its derivatives are written out first, for these inputs.
    """
    try:
        with quiet(), looped_recurrences(), torch.inference_mode():
            return export(module)
    except Exception as error:
        cause = error.__cause__ or error
        if not isinstance(cause, RuntimeError) or not lacks_gradients(cause):
            raise
    with quiet(), torch.no_grad():
        return export(written_out(module, args, keywords))


@contextlib.contextmanager
def plain_outputs(module: nn.Module) -> Iterator[None]:
    """Let forward return a tuple of the tensors in what it returns, each of them a tensor of its own.

    The exporter doesn't know everybody's dataclasses, and loses an output that is an input, a weight or
    another output.
    """
    forward = module.forward

    @functools.wraps(forward)
    def plain(*args: Any, **keywords: Any) -> tuple[Tensor, ...]:
        return tuple(each.clone() for each in tensors_in(forward(*args, **keywords)))

    own = vars(module).get("forward")
    module.forward = plain
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's progress, its wall of harmless warnings and what it logs of a failure from the user."""
    aside = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(aside), contextlib.redirect_stderr(aside):
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # of a capture that fails the error says it in a line
        try:
            yield
        finally:
            logging.disable(previous)


def export_failure(error: Exception, name: str, inputs: Sequence[TensorSpec]) -> NnkitError:
    """Return what torch's failure to export means: a dim that has one size alone, or anything else."""
    cause = error.__cause__ or error
    if found := STATIC.search(str(cause)):
        size, tensor, axis = found[1], found[2], int(found[3])
        shapes = {each.name: each.shape for each in inputs}
        dim = shapes[tensor][axis] if tensor in shapes else f"axis {axis} of {tensor}"
        return VerificationFailed(
            f"{name} works with {dim} {size} alone, though {dim} is declared as a dim: "
            "forward makes a constant of it",
            f"compute with its shape, not in a Python loop over it; or keep it: --fix {dim}={size}",
        )
    return NnkitError(
        f"torch can't export {name}: {type(cause).__name__}: {first_line(cause)}{at_line(cause)}",
        "see the whole story with -v; `nnkit export --safetensors` needs no export",
    )
