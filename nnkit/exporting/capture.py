"""What surrounds torch.export: silence, and loops for recurrent layers."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any


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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress and its wall of harmless warnings from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(previous)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
