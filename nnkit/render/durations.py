"""Durations as people read them."""

TIME_UNITS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))
"""Units and their nanoseconds, the longest first."""


def format_time(nanoseconds: float) -> str:
    """Return `41.2 ms`."""
    units = ((unit, length) for unit, length in TIME_UNITS if nanoseconds >= length)
    unit, length = next(units, TIME_UNITS[-1])
    return f"{three_digits(nanoseconds / length)} {unit}"


def three_digits(number: float) -> str:
    """Return `1.23`, `12.3`, `123`, `12,345`."""
    return f"{number:,.{2 if number < 10 else 1 if number < 100 else 0}f}"
