"""The proof that a file is the model: run beside the original module, at several sizes.

Exit code 0 is to mean something, so a proof that could not have failed doesn't count: outputs that are
not numbers, are constant, or don't depend on the inputs prove nothing, and weights that the outputs
don't feel are looked for (coverage.py), and proven by other means.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from nnkit.errors import NnkitError, VerificationFailed
from nnkit.models.sampling import Inputs
from nnkit.verbs.exporting.comparison import compare, failed, words
from nnkit.verbs.exporting.coverage import Effects, perturbed
from nnkit.verbs.exporting.plan import Plan, Run
from nnkit.verbs.exporting.reach import explore
from nnkit.verbs.exporting.reference import NOT_FINITE, ROUNDING, Reference
from nnkit.verbs.exporting.report import Check, Coverage, Proof, Weights
from nnkit.verbs.exporting.runtimes import Refused
from nnkit.verbs.exporting.tolerance import SHARE

# However much a network makes of its rounding, a difference may not be more than this share of the spread,
# or twice the tolerance.
CLOSE = 0.02
FAR = 10  # times what is allowed otherwise, at sizes far from the traced ones
OTHER_VALUES = 4  # drawn at a far size where one draw differs
TELLING = 0.9  # of the parameters that show with their own weights
NO_MEMORY = ("out of memory", "not enough memory", "allocate memory")


def _silent(line: str) -> None:
    """Report progress to nobody."""


class Runner(Protocol):
    """Runs a file; `name` is what ran it. Raises Refused when it can't."""

    @property
    def name(self) -> str: ...

    def __call__(self, inputs: Inputs) -> list[Tensor]: ...


class Candidate(Protocol):
    """A file that claims to be a module.

    name: of the file. replaceable: names of the tensors that `with_weights` can put others in the place
    of; None for all.
    """

    @property
    def name(self) -> str: ...

    @property
    def replaceable(self) -> set[str] | None: ...

    def equal(self, module: nn.Module) -> tuple[int, int] | None:
        """Return how many of its tensors are the module's bit for bit, and of how many.

        Raises VerificationFailed where one that should be isn't; returns None where it can't be told.
        """

    def runner(self) -> Runner:
        """Return what runs the file."""

    def with_weights(self, module: nn.Module) -> Runner:
        """Return what runs the same graph with the weights of another module."""

    def shape_problem(self, run: Run, results: list[Tensor]) -> tuple[str, str] | None:
        """Return the output that has another shape than the file declares, and how; None where all agree."""


class Prover:
    """Proves files of one module, whose own results are computed once."""

    def __init__(self, module: nn.Module, plan: Plan, progress: Callable[[str], None] = _silent) -> None:
        self._plan, self._progress = plan, progress
        self._own = Reference(module, plan)
        self._perturbed: dict[frozenset[str] | None, Reference | None] = {}

    def prove(self, candidate: Candidate) -> Proof:
        """Compare a file with the module at every run of the plan, and see that it could have failed.

        Raises VerificationFailed with the first thing that doesn't hold.
        """
        start, own = time.perf_counter(), self._own
        equal = candidate.equal(own.module)
        own.check_repeatable()
        effects = own.effects([])
        pairs: list[Pair] = []
        checks: list[Check] = []
        others: set[str] = set()
        if own.uninformative or effects is None or effects.unseen:
            pairs = self._with_other_weights(candidate)
            for pair in pairs:
                checks += self._run_all(pair, self._plan.runs)
                others = _seen(pair.reference.effects(checks))
        _check_informative(own, pairs)
        pairs.append(Pair(candidate, _loaded(candidate.runner, candidate.name), own, "own"))
        found = self._run_all(pairs[-1], self._plan.runs)
        unread = self._vary_each_input(pairs)
        if any(check.rounded for check in found):
            effects = own.effects(found)
        coverage = _coverage(own.module, effects, _seen(effects), others)
        # The file itself is faster than its graph with other weights; where it shows little, these are run.
        telling = (coverage.own or 0) >= TELLING * coverage.parameters and not own.uninformative
        reach = explore(self._plan, partial(self._run_far, pairs[-1 if telling else 0]))
        seconds = time.perf_counter() - start
        return Proof(
            pairs[-1].runner.name, (*checks, *found), coverage, equal, seconds, reach,
            self._plan.assumed, unread,
        )  # fmt: skip

    def _with_other_weights(self, candidate: Candidate) -> list["Pair"]:
        """Return the file with perturbed weights, if there are any that its outputs feel."""
        other = self._other(candidate.replaceable)
        if other is None:
            return []
        runner = _loaded(partial(candidate.with_weights, other.module), candidate.name)
        return [Pair(candidate, runner, other, "perturbed")]

    def _other(self, replaceable: set[str] | None) -> Reference | None:
        """Return the module with perturbed weights, where there are any that its outputs feel."""
        key = None if replaceable is None else frozenset(replaceable)
        if key not in self._perturbed:
            samples = [run.inputs for run in self._plan.runs[:2]]
            module = perturbed(self._own.module, self._plan.spec.input_names, samples, replaceable)
            self._perturbed[key] = None if module is None else Reference(module, self._plan)
        return self._perturbed[key]

    def _run_all(self, pair: "Pair", runs: Iterable[Run]) -> list[Check]:
        checks: list[Check] = []
        for run in runs:
            self._progress(f"proving at {words(run)}{pair.with_others}")
            found = _run(pair, run, self._plan, pair.reference.outputs(run))
            for check in found:
                if not check.passed:
                    raise _is_another(pair, run, check)
            checks += found
        return checks

    def _vary_each_input(self, pairs: list["Pair"]) -> tuple[str, ...]:
        """Compare with one input varied and the others kept, for each; return those that are never read.

        Raises VerificationFailed for an input that no output feels: what the file makes of it is not proven.
        """
        first, second, *_ = self._plan.runs
        unfelt = [
            name
            for place, name in enumerate(self._plan.input_names)
            if first.inputs[place].numel()
            and not any(self._is_felt(place, *runs, pairs) for runs in ((first, second), (second, first)))
        ]
        unread = self._own.unread_inputs() if unfelt else set()
        for name in unfelt:
            place = self._plan.input_names.index(name)
            if name not in unread:
                same = first.inputs[place].equal(second.inputs[place])
                problem = "is the same in every run" if same else "changes no output"
                raise VerificationFailed(
                    f"input {name!r} {problem}, so what the file makes of it is not proven",
                    "declare values that show (tokens: int64[batch, time] < 32000), or use --no-verify",
                )
        return tuple(name for name in unfelt if name in unread)

    def _is_felt(self, place: int, run: Run, other: Run, pairs: list["Pair"]) -> bool:
        """Compare on a run with one input of another; return whether an output of the module feels it."""
        inputs = (*run.inputs[:place], other.inputs[place], *run.inputs[place + 1 :])
        mixed = replace(run, inputs=inputs)
        for pair in pairs:
            self._run_all(pair, [mixed])
        return any(pair.reference.feels(mixed, run) for pair in pairs)

    def _run_far(self, pair: "Pair", run: Run) -> list[Check] | None:
        """Compare at a size far from the traced one; return None where memory or precision end."""
        self._progress(f"proving at {words(run)}{pair.with_others}")
        try:
            expected = pair.reference.compute(run)
            found = _run(pair, run, self._plan, expected)
        except NnkitError as error:
            if any(sign in error.message for sign in NO_MEMORY):
                return None
            raise
        for index, check in enumerate(found):
            if check.passed:
                continue
            if not _is_far_off(check):
                found[index] = replace(check, passed=True, problem="", rounded=True)
            elif _is_left_to_rounding(pair, run, index, check) or self._holds_for_other_values(pair, run):
                return None
            else:
                raise _is_another(pair, run, check)
        return found

    def _holds_for_other_values(self, pair: "Pair", run: Run) -> bool:
        """Whether a file that differs on one draw does so on no other at these sizes: a size shows on all."""
        for seed in range(1, OTHER_VALUES + 1):
            other = self._plan.draw(run.sizes, seed=seed)
            found = _run(pair, other, self._plan, pair.reference.compute(other))
            for index, check in enumerate(found):
                if _is_far_off(check) and not _is_left_to_rounding(pair, other, index, check):
                    return False
        return True


def _is_far_off(check: Check) -> bool:
    """Whether a difference is more than what rounding adds up to over thousands of elements."""
    return not check.passed and check.max_abs_diff > FAR * check.tolerance


def _is_left_to_rounding(pair: "Pair", run: Run, index: int, check: Check) -> bool:
    """Whether the module itself is off as far: no file could do better.

    So it is where forward decides (argmax) between two that are nearly the same.
    """
    moves = ROUNDING * pair.reference.spread_by_rounding(run, index)
    return check.max_abs_diff <= max(moves, pair.reference.rounding(run, index))


@dataclass(frozen=True)
class Pair:
    """A file with the weights of a module, and that module."""

    candidate: Candidate
    runner: Runner
    reference: Reference
    weights: Weights

    @property
    def with_others(self) -> str:
        """What is said of the weights."""
        return " with perturbed weights" if self.weights == "perturbed" else ""


def _check_informative(own: Reference, others: list[Pair]) -> None:
    """Raise VerificationFailed for an output that proves nothing, with other weights neither."""
    for name, why in own.uninformative.items():
        if why == NOT_FINITE or all(name in pair.reference.uninformative for pair in others):
            raise VerificationFailed(
                f"output {name!r} {why}, which proves nothing",
                "give it inputs that show in it, or use --no-verify",
            )


def _is_another(pair: Pair, run: Run, check: Check) -> VerificationFailed:
    hint = "it is another model, or the fault is in the exporter or in forward"
    if run.why:
        hint = (
            f"forward does something else where {run.why} does not hold: write it so that it does the same "
            "for every size, or declare which sizes they take (min, max, multiple_of)"
        )
    return VerificationFailed(
        f"{pair.candidate.name} is not the model: at {words(run)}{pair.with_others} "
        f"output {check.output!r} {check.problem}",
        hint,
    )


def _seen(effects: Effects | None) -> set[str]:
    return effects.seen if effects else set()


def _loaded(load: Callable[[], Runner], name: str) -> Runner:
    try:
        return load()
    except Refused as error:
        raise VerificationFailed(f"{name} can't be loaded: {error}") from error


def _run(pair: Pair, run: Run, plan: Plan, expected: list[Tensor]) -> list[Check]:
    names, weights = plan.output_names, pair.weights
    try:
        results = pair.runner(run.inputs)
    except Refused as error:
        return [failed(run, names[0], f"can't be computed: {error}", weights)]
    if len(results) != len(expected):
        problem = f"is one of {len(results)}, the module gives {len(expected)}"
        return [failed(run, names[0], problem, weights)]
    checks = []
    for index, (name, result, wanted) in enumerate(zip(names, results, expected, strict=True)):
        check = compare(run, name, result, wanted, weights)
        close = max(CLOSE, 2 * SHARE.get(wanted.dtype, 0.0)) * check.scale
        if not check.passed and wanted.is_floating_point() and check.max_abs_diff < close:
            rounding = min(pair.reference.rounding(run, index), close)
            check = compare(run, name, result, wanted, weights, rounding)
        checks.append(check)
    misdeclared = pair.candidate.shape_problem(run, results) if all(each.passed for each in checks) else None
    return [failed(run, *misdeclared, weights)] if misdeclared else checks


def _coverage(module: nn.Module, effects: Effects | None, own: set[str], others: set[str]) -> Coverage:
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    if effects is None:
        return Coverage(sum(sizes.values()), None, None)

    def count(names: Iterable[str]) -> int:
        return sum(sizes[name] for name in names)

    proven = (own | others) & set(effects.effects)
    unproven = tuple(name for name in effects.effects if name not in proven)
    return Coverage(count(effects.effects), count(own), count(proven), unproven, effects.unused)
