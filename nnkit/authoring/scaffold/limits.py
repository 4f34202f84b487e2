"""Limits of a dim that follow the options: found by building the module at other values of each option.

Dim(default=32, multiple_of=8)   with levels=3   ->   Dim(default=32, multiple_of="2**levels")
Dim(default=32, max=64)          with context=64 ->   Dim(default=32, max="context")
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from nnkit.authoring.scaffold.trials import Trials
from nnkit.contract.architecture import Dim, ResolvedDim
from nnkit.contract.config import config_values

LARGEST_OPTION = 2**16  # an option that is larger counts nothing that a dim follows

FACTORS: Mapping[str, Callable[[int], int]] = {
    "": lambda value: 1,
    "{}": lambda value: value,
    "2**{}": lambda value: 2 ** min(value, 32),
}
"""How a step may follow an option, by the expression: not at all, as its multiple, as a power of two."""


def follow_options(trials: Trials) -> dict[str, Dim]:
    """Return the dims with an expression for each limit that follows options."""
    options = _integer_options(trials)
    return {name: _follow(trials, name, dim, options) for name, dim in trials.dims.items()}


def _integer_options(trials: Trials) -> dict[str, int]:
    return {
        name: value
        for name, value in config_values(trials.spec.config).items()
        if type(value) is int and 0 <= value <= LARGEST_OPTION
    }


def _follow(trials: Trials, name: str, dim: ResolvedDim, options: Mapping[str, int]) -> Dim:
    declared = trials.spec.architecture.dims[name]
    found = Dim(**{field: getattr(dim, field) for field in ("default", "min", "max", "multiple_of")})
    if declared.depends_on:
        return declared
    if declared.multiple_of == 1:
        found = _follow_step(trials, name, dim, found, options)
    if declared.max is None and (option := _find_option_of_maximum(trials, name, dim, options)):
        found = replace(found, max=option)
    return found


def _follow_step(trials: Trials, name: str, dim: ResolvedDim, found: Dim, options: Mapping[str, int]) -> Dim:
    step = dim.multiple_of
    factors = {option: _find_factor(trials, name, dim, option, value) for option, value in options.items()}
    followed = {option: factor for option, factor in factors.items() if factor}
    product = math.prod(FACTORS[factor](options[option]) for option, factor in followed.items())
    if not followed or step % product:
        return found
    rest = [str(step // product)] if step > product else []
    expression = " * ".join([*rest, *(factor.format(option) for option, factor in followed.items())])
    smallest = dim.least // step  # in steps, which is taken to be so at all options
    least = f"{smallest} * {expression}" if smallest > 1 else found.min
    return replace(found, multiple_of=expression, min=least)


def _find_factor(trials: Trials, name: str, dim: ResolvedDim, option: str, value: int) -> str:
    """Return how the step follows an option: the one factor that predicts it at other values."""
    possible = [factor for factor in FACTORS if _scale(dim.multiple_of, FACTORS[factor], value, value)]
    others = [] if len(possible) == 1 else [value + 1, value + 2, 2 * value, value - 1]
    tried = 0
    for other in others:
        if other < 1 or tried == 2:
            continue
        right = [factor for factor in possible if _predicts(trials, name, option, factor, value, other)]
        if right:  # if not, the module may not allow this value at all
            possible, tried = right, tried + 1
    return possible[0] if len(possible) == 1 else ""


def _predicts(trials: Trials, name: str, option: str, factor: str, value: int, other: int) -> bool:
    """Whether, at another value of an option, the step of a dim is what a factor makes of it."""
    steps = {
        dim: _scale(limits.multiple_of, FACTORS[factor], value, other) for dim, limits in trials.dims.items()
    }
    sizes = {  # of other dims, which may follow the option too
        dim: _round_up(trials.spec.sizes[dim], math.lcm(limits.multiple_of, steps[dim] or 1))
        for dim, limits in trials.dims.items()
    }
    return bool(steps[name]) and _has_step(trials, name, {option: other}, sizes, steps[name])


def _scale(step: int, factor: Callable[[int], int], value: int, other: int) -> int:
    """Return the step at another value of an option, or 0 if it isn't a multiple of the factor."""
    now = factor(value)
    return step // now * factor(other) if now and step % now == 0 else 0


def _has_step(
    trials: Trials, name: str, options: Mapping[str, int], sizes: Mapping[str, int], step: int
) -> bool:
    """Whether the sizes of a dim that work with these options and sizes are the multiples of `step` alone."""
    first = _round_up(max(trials.spec.sizes[name], trials.dims[name].min), step)
    if not all(trials.works(options, {**sizes, name: size}) for size in (first, first + step)):
        return False
    between = [first + step // prime for prime in _primes_of(step)]
    return not any(trials.works(options, {**sizes, name: size}) for size in between)


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step


def _primes_of(number: int) -> Iterator[int]:
    for prime in range(2, number + 1):
        if number % prime == 0:
            yield prime
            while number % prime == 0:
                number //= prime


def _find_option_of_maximum(
    trials: Trials, name: str, dim: ResolvedDim, options: Mapping[str, int]
) -> str | None:
    """Return the option that is the largest size, such as the number of an embedding's rows."""
    if not trials.can_run_with_values:
        return None
    first, step = trials.spec.sizes[name], dim.multiple_of
    tables = trials.table_sizes()
    for option, value in options.items():
        is_possible = value in tables and (dim.max == value or (dim.max is None and value >= first))
        if is_possible and _limits(trials, name, option, (first + step, first + 2 * step), step):
            return option
    return None


def find_constraints(trials: Trials, dims: Mapping[str, Dim]) -> tuple[str, ...]:
    """Return the sums of two dims that an option limits: `past + time <= context`."""
    if not trials.can_run_with_values:
        return ()
    tables, sizes = trials.table_sizes(), trials.spec.sizes
    free = [
        name for name, dim in dims.items() if dim.max is None and dim.multiple_of == 1 and name != "batch"
    ]
    return tuple(
        f"{left} + {right} <= {option}"
        for left, right in itertools.combinations(free, 2)
        for option, value in _integer_options(trials).items()
        if value in tables and value >= sizes[left] + sizes[right]
        if _limits_sum(trials, left, right, option)
    )


def _limits_sum(trials: Trials, left: str, right: str, option: str) -> bool:
    """Whether two sizes may together be as large as the option, and not larger, however they share it."""
    sizes = trials.spec.sizes
    least = sizes[left] + sizes[right] + 1
    for value, more in ((least, 0), (least + 1, 1)):
        first = sizes[left] + more
        within, beyond = ({left: first, right: total - first} for total in (value, value + 1))
        if trials.works({option: value}, beyond, with_values=True):
            return False
        if not trials.works({option: value}, within, with_values=True):
            return False
    return True


def _limits(trials: Trials, name: str, option: str, values: tuple[int, ...], step: int) -> bool:
    """Whether the size may be as large as the option, and not a step larger, at each of these values."""
    return all(
        not trials.works({option: value}, {name: value + step}, with_values=True)
        and trials.works({option: value}, {name: value}, with_values=True)
        for value in values
    )
