"""The program `nnkit`: the command line in a process of its own, which starts and ends quickly.

Imports nothing else of nnkit before the collector rests. A program that runs commands by `main(args)` keeps
its own collector, and goes on after the command.
"""

import contextlib
import sys
from typing import NoReturn

from nnkit.cli import collector, ending


def run() -> NoReturn:
    """Run the command line, as `main()` does, and end the process with the code of its outcome."""
    collector.rest_until_torch()
    from nnkit.cli.main import main

    try:
        main()
    except SystemExit as outcome:
        if ending.is_ours(sys._getframe()) and isinstance(outcome.code, int):
            with contextlib.suppress(KeyboardInterrupt):  # then Python ends the process
                ending.end(outcome.code)
        raise
