"""The check of optional inputs: the model is sound with and without each."""

from collections.abc import Callable, Iterator

from nnkit.contract.text import plural
from nnkit.errors import first_line
from nnkit.verbs.smoke.checks import batch_independence, shapes
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject
from nnkit.verbs.smoke.values import finite


def optional_inputs(subject: Subject) -> str:
    """It is sound with and without each optional input: shapes, finite values, samples by themselves."""
    units = subject.spec.optional_inputs
    if not units:
        raise Skipped("no input is optional")
    seen = []
    for without in _choices(units, subject.spec.without):
        variant = subject.with_inputs(without)
        given = [unit for unit in units if unit not in without]
        name = f"with {' and '.join(given)}" if given else "without optional inputs"
        for check in (shapes, finite, batch_independence):
            _run(check, variant, name)
        seen.append(name)
    return f"{plural(len(seen), 'choice')}: {', '.join(seen)}"


def _choices(units: tuple[str, ...], default: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield what is left out: nothing, everything, and each input added to or taken from the default."""
    toggled = [tuple(unit for unit in units if (unit in default) != (unit == other)) for other in units]
    others = dict.fromkeys([(), units, *toggled])
    yield from (without for without in others if without != default)


def _run(check: Callable[[Subject], str], variant: Subject, name: str) -> None:
    unsupported = variant.spec.architecture.unsupported
    if check.__name__.replace("_", "-") in unsupported:
        return
    try:
        check(variant)
    except Skipped:
        return
    except Failed as fault:
        raise Failed(f"{name}: {fault}") from fault
    except Exception as error:
        raise Failed(f"{name}: {type(error).__name__}: {first_line(error)}") from error
