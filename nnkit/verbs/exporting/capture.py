"""What torch.export needs around it: silence, loops for recurrent layers, errors in a line."""

import contextlib
import gc
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from nnkit.contract.architecture import TensorSpec
from nnkit.errors import NnkitError, VerificationFailed, first_line
from nnkit.models.running import lacks_gradients
from nnkit.models.user_lines import at_line
from nnkit.verbs.exporting.derivatives import write_out_derivatives

T = TypeVar("T")


class NotCaptured(NnkitError):
    """torch can't capture a module with the dims that are free."""


class NotDynamic(VerificationFailed):
    """torch can capture a module only with one size of a dim, or with fewer sizes.

    bound: `<= 64` or `>= 3`; empty where there is only one size.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        details: Iterable[str] = (),
        dim: str = "",
        bound: str = "",
    ) -> None:
        super().__init__(message, hint, details)
        self.dim, self.bound = dim, bound


STATIC_DIM = re.compile(
    r"static shape of (?P<size>\d+) for dimension inputs(?P<path>\S+?)\.shape\[(?P<axis>\d+)\]"
    r"|You marked L(?P<path_2>\S+?)\.size\(\)\[(?P<axis_2>\d+)\] as dynamic but your code specialized it "
    r"to be a constant \((?P<size_2>\d+)\)"
)
KEY = re.compile(r"\w+")

UNSOLVED = re.compile(r"The inequality, .+ cannot\s+be\s+solved", re.DOTALL)
"""What sympy says of a comparison of symbolic sizes; with numbers, torch makes none."""


@contextlib.contextmanager
def looped_recurrences() -> Iterator[None]:
    """Let recurrent layers be exported with a dynamic number of steps, as loops.

    torch registers these only for capturing, not for the steps after it, which leaves a stale number of
    steps in the outputs' shapes (pytorch#191855). Registering them around the whole export avoids that.
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
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> T:
    """Return what `export` makes of a module, with no output on the terminal.

    If forward differentiates, its derivatives are written out first, for these inputs.
    """
    try:
        with quiet(), looped_recurrences(), torch.inference_mode():
            return export(module)
    except Exception as error:
        cause = error.__cause__ or error
        if not isinstance(cause, RuntimeError) or not lacks_gradients(cause):
            raise
    with quiet(), torch.no_grad():
        return export(write_out_derivatives(module, args, keywords))


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Let Python's garbage collector rest, as it was found.

    Capturing makes millions of objects that live until it ends, and each full collection goes through all of
    them: with these, an export takes 11 to 21 % longer. What is garbage meanwhile are nodes of graphs, not
    weights.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide torch's progress, its harmless warnings and what it logs about a failure."""
    discarded = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(discarded),
        contextlib.redirect_stderr(discarded),
    ):
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # the error of a failed capture says it in one line
        try:
            yield
        finally:
            logging.disable(previous)


def export_failure(
    error: Exception, name: str, inputs: Mapping[str, TensorSpec], without: Sequence[str] = ()
) -> NnkitError:
    """Return the error for a failure of torch.export: a dim with only one size, or anything else.

    inputs: the declaration of each input, by the name that torch was given for it. without: the optional ones
    that are left out; what forward makes in their place, it may not make while it is captured.
    """
    cause = error.__cause__ or error
    if static := STATIC_DIM.search(str(cause)):
        # torch writes inputs['cache'][0].key for cache.0.key.
        size, path, axis = (static[key] or static[f"{key}_2"] for key in ("size", "path", "axis"))
        name_of_input = ".".join(KEY.findall(path))
        known = name_of_input in inputs
        dim = inputs[name_of_input].shape[int(axis)] if known else f"axis {axis} of {name_of_input}"
        fix = f"or fix it: --fix {dim}={size}" if str(dim).isidentifier() else "or fix its dims with --fix"
        return NotDynamic(
            f"{name} works only with {dim} {size}, but {dim} is declared as a dim: "
            "forward makes a constant of it",
            f"compute with the shape, not in a Python loop over it; {fix}",
            dim=str(dim),
        )
    hint = "see the full error with -v; `nnkit export --safetensors` needs no torch.export"
    if UNSOLVED.search(str(cause)):
        hint = "torch can't solve a comparison of sizes that it makes itself: fix them with --static or --fix"
    elif without:
        hint = f"it may need what is left out: --with {' --with '.join(without)}; {hint}"
    return NotCaptured(
        f"torch can't export {name}: {type(cause).__name__}: {first_line(cause)}{at_line(cause)}", hint
    )
