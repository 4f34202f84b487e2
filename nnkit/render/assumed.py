"""What was found out about a module by running it, as lines of a text report."""

from collections.abc import Iterator

from nnkit.contract.spec import ModelSpec


def assumed_lines(spec: ModelSpec) -> Iterator[str]:
    """Yield what a report shows of a module passed from Python; a command line has shown it already."""
    if not spec.typed:
        yield from spec.architecture.assumed
