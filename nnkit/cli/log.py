"""What the library logs, on stderr: it finds out things that the user should know, and never prints."""

import click

from nnkit.cli.settings import Settings


def show_log() -> None:
    """Print what is logged until the command ends, each line once, unless quiet."""
    import logging

    ctx = click.get_current_context()
    settings, shown = ctx.ensure_object(Settings), set[str]()

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = record.getMessage()
            if line not in shown:
                shown.add(line)
                settings.note(line)

    logger, handler = logging.getLogger("nnkit"), Notes(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def stop() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level)

    ctx.call_on_close(stop)
