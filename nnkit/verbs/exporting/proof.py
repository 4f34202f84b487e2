"""The proof that a file is the model: both run on the same inputs, at several sizes.

Which weights are compared at which sizes: those that show most are compared at every size, which proves
the graph. The others, the model's own or perturbed ones, are compared at two sizes (`Pair.few`), which
proves what they alone show. That the weights in the file are the model's is compared bit for bit.

    a network as it is built    own at all sizes, perturbed at two
    one whose head is zero      perturbed at all sizes, own at two

Exit code 0 must mean something, so a proof that could not have failed doesn't count. Outputs that are
not numbers, are constant, or don't depend on the inputs prove nothing. Weights that no output depends on
are found (coverage.py) and proven by other means. How large a difference may be: tolerance.py.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol

from torch import Tensor, nn

from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, VerificationFailed
from nnkit.models.sampling import Inputs
from nnkit.verbs.exporting.comparison import compare, describe_sizes, failed_check
from nnkit.verbs.exporting.coverage import Effects, perturb_and_measure, recalibrate
from nnkit.verbs.exporting.plan import Plan, Run, assumed_dims
from nnkit.verbs.exporting.reach import explore
from nnkit.verbs.exporting.reference import NOT_FINITE, ModuleFails, Reference
from nnkit.verbs.exporting.report import Check, Coverage, Proof, Weights
from nnkit.verbs.exporting.runtimes import Refused
from nnkit.verbs.exporting.tolerance import FAR_FACTOR, MODULE_ROUNDING, largest_module_rounding

# Where one draw of values fails at a far size, this many other draws are compared.
OTHER_DRAWS = 4

# At far sizes the file itself is run if at least this share of its parameters shows in its outputs.
# Otherwise its graph is run with perturbed weights, which is slower.
ENOUGH_SEEN = 0.9

OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory")


def _ignore(line: str) -> None:
    """Show no progress."""


def check_provable(spec: ModelSpec) -> None:
    """Raise VerificationFailed for a model that is declared to draw random numbers in eval mode."""
    if spec.architecture.stochastic == "always":
        raise VerificationFailed(
            f"{spec.reference} declares that it draws random numbers in eval mode (stochastic: always): two "
            "runs of the model itself differ, so no comparison can prove a file",
            "write it without a proof: --no-verify; or take the noise as an input of forward",
        )


class Runner(Protocol):
    """Runs a file; `name` is what runs it. Raises Refused when it can't."""

    @property
    def name(self) -> str: ...

    def __call__(self, inputs: Inputs) -> list[Tensor]: ...


class Candidate(Protocol):
    """A file that claims to be a module.

    name: the name of the file. replaceable: the names of the tensors that `with_weights` can replace; None
    for all of them.
    """

    @property
    def name(self) -> str: ...

    @property
    def replaceable(self) -> set[str] | None: ...

    def count_equal(self, module: nn.Module) -> tuple[int, int] | None:
        """Return how many of its tensors are the module's bit for bit, and how many it has.

        Raises VerificationFailed where a tensor differs; returns None where tensors can't be compared.
        """

    def runner(self) -> Runner:
        """Return what runs the file."""

    def with_weights(self, module: nn.Module) -> Runner:
        """Return what runs the same graph with the weights of a different module."""

    def shape_problem(self, run: Run, results: list[Tensor]) -> tuple[str, str] | None:
        """Return an output whose shape is not the one that the file declares, and the problem, or None."""


@dataclass(frozen=True)
class Pair:
    """A file that runs with the weights of a module, and that module.

    few: whether it is compared at two sizes only, because other weights show more. is_extra: whether these
    are perturbed weights and the model's own show nearly all of it already.
    """

    candidate: Candidate
    runner: Runner
    reference: Reference
    weights: Weights
    few: bool = False

    @property
    def is_extra(self) -> bool:
        return self.few and self.weights == "perturbed"

    @property
    def suffix(self) -> str:
        """What a message adds about the weights."""
        return " with perturbed weights" if self.weights == "perturbed" else ""


class Prover:
    """Proves files of one module, whose own results are computed once."""

    def __init__(self, module: nn.Module, plan: Plan, progress: Callable[[str], None] = _ignore) -> None:
        self._plan, self._progress = plan, progress
        self._reference = Reference(module, plan)
        self._perturbed_references: dict[frozenset[str] | None, Reference | None] = {}

    @cached_property
    def _own_effects(self) -> Effects | None:
        """The effect of each parameter in the module, which does the same whenever it runs."""
        self._reference.check_repeatable()
        return self._reference.effects([])

    def prove(self, candidate: Candidate) -> Proof:
        """Compare a file with the module at every run of the plan, and check that it could have failed.

        Raises VerificationFailed for the first difference, and for a proof that shows nothing.
        """
        start, reference = time.perf_counter(), self._reference
        equal = candidate.count_equal(reference.module)
        effects = self._own_effects

        perturbed: Pair | None = None
        own_shows_enough = not reference.uninformative and _shows_enough(self._coverage(effects))
        if reference.uninformative or effects is None or effects.unseen:
            perturbed = self._pair_with_perturbed_weights(candidate, few=own_shows_enough)
        perturbed_checks = self._compare_at(self._runs_for(perturbed), perturbed) if perturbed else []
        seen_when_perturbed = _seen_in(perturbed.reference.effects(perturbed_checks)) if perturbed else set()
        _check_informative(reference, perturbed)

        own_runner = _load(candidate.runner, candidate.name)
        is_less = perturbed is not None and self._shows_more(perturbed, seen_when_perturbed, effects)
        own = Pair(candidate, own_runner, reference, "own", few=is_less)
        own_checks = self._compare_at(self._runs_for(own), own)
        pairs = [own] if perturbed is None else sorted((perturbed, own), key=lambda pair: pair.few)
        unread = self._vary_each_input(pairs)
        if any(check.rounded for check in own_checks):
            effects = reference.effects(own_checks)
        coverage = self._coverage(effects, seen_when_perturbed)
        is_shown = _shows_enough(coverage) and not reference.uninformative
        far_pair = own if is_shown or perturbed is None else perturbed
        reach = explore(self._plan, partial(self._compare_far, far_pair))
        checks, seconds = (*perturbed_checks, *own_checks), time.perf_counter() - start
        assumed, runner = self._plan.assumed, own.runner.name
        return Proof(runner, checks, coverage, equal, seconds, reach, assumed, unread)

    def _shows_more(self, perturbed: Pair, seen: Collection[str], effects: Effects | None) -> bool:
        """Whether perturbed weights, compared at all sizes, show each output and as much as the own weights.

        seen: the parameters that they show. effects: those of the model's own weights.
        """
        if perturbed.few or perturbed.reference.uninformative:
            return False
        sizes = {name: each.numel() for name, each in self._reference.module.named_parameters()}
        return sum(map(sizes.__getitem__, seen)) >= sum(map(sizes.__getitem__, _seen_in(effects)))

    def _runs_for(self, pair: Pair) -> Sequence[Run]:
        """Return the runs at which a pair is compared: all, or the first at the traced and another size."""
        runs = self._plan.runs
        return (runs[0], *runs[2:3]) if pair.few else runs

    def _coverage(self, effects: Effects | None, seen_when_perturbed: Collection[str] = ()) -> Coverage:
        return _measure_coverage(self._reference.module, effects, _seen_in(effects), set(seen_when_perturbed))

    def _pair_with_perturbed_weights(self, candidate: Candidate, few: bool) -> Pair | None:
        """Return the file with perturbed weights, or None where no perturbation makes them matter."""
        reference = self._perturbed_reference(candidate.replaceable)
        if reference is None:
            return None
        runner = _load(partial(candidate.with_weights, reference.module), candidate.name)
        return Pair(candidate, runner, reference, "perturbed", few)

    def _perturbed_reference(self, replaceable: set[str] | None) -> Reference | None:
        key = None if replaceable is None else frozenset(replaceable)
        if key not in self._perturbed_references:
            signature, samples = self._plan.spec.signature, self._plan.samples
            found = perturb_and_measure(self._reference.module, signature, samples, replaceable)
            reference = None if found is None else Reference(found.module, self._plan, found.effects)
            self._perturbed_references[key] = reference
        return self._perturbed_references[key]

    def _compare_at(self, runs: Iterable[Run], pair: Pair) -> list[Check]:
        """Return the checks of all runs. Raises VerificationFailed for the first that fails."""
        checks: list[Check] = []
        for run in runs:
            self._progress(f"proving at {describe_sizes(run)}{pair.suffix}")
            checks_of_run = _compare(pair, run, self._plan, pair.reference.outputs(run))
            if pair.weights == "perturbed" and _is_lost_in_rounding(pair, run, checks_of_run):
                checks_of_run = self._compare_again(pair, run, checks_of_run)
            for check in checks_of_run:
                if not check.passed:
                    raise _not_the_model(pair, run, check)
            checks += checks_of_run
        return checks

    def _compare_again(self, pair: Pair, run: Run, checks: list[Check]) -> list[Check]:
        """Return the checks of a run on which these weights amplify rounding, with ones that fit it better.

        Statistics of batch normalizations are measured on this very run. Measured at one size, they may not
        fit another: each layer then passes on a signal that is a little too strong, and over the 200 layers
        of an EfficientNet-B7 rounding grows as large as the output.

        Where rounding still decides, a difference that it explains is no failure if the model's own weights
        show nearly everything. It counts as allowed, so that what hides behind it counts as unproven.
        """
        candidate, signature = pair.candidate, self._plan.spec.signature
        module = recalibrate(pair.reference.module, signature, run.inputs, candidate.replaceable)
        if module is not None:
            runner = _load(partial(candidate.with_weights, module), candidate.name)
            pair = replace(pair, runner=runner, reference=Reference(module, self._plan))
            checks = _compare(pair, run, self._plan, pair.reference.outputs(run))
        if pair.is_extra and _is_lost_in_rounding(pair, run, checks):
            return [_excuse(pair, run, index, check) for index, check in enumerate(checks)]
        return checks

    def _vary_each_input(self, pairs: list[Pair]) -> tuple[str, ...]:
        """Vary one input at a time and compare; return the names of the inputs that forward never reads.

        Raises VerificationFailed for an input that changes no output, because then nothing shows that
        the file uses it as the module does.
        """
        first, second, *_ = self._plan.runs
        without_effect = [
            index
            for index in range(len(self._plan.input_names))
            if first.inputs[index].numel()
            and not self._has_effect(index, first, second, pairs)
            and not self._has_effect(index, second, first, pairs)
        ]
        unread = self._reference.unread_inputs() if without_effect else set()
        for index in without_effect:
            name = self._plan.input_names[index]
            if name not in unread:
                is_same = first.inputs[index].equal(second.inputs[index])
                problem = "is the same in every run" if is_same else "changes no output"
                raise VerificationFailed(
                    f"input {name!r} {problem}, so how the file uses it can't be proven",
                    "declare values that have an effect (tokens: int64[batch, time] < 32000), "
                    "or use --no-verify",
                )
        names = [self._plan.input_names[index] for index in without_effect]
        return tuple(name for name in names if name in unread)

    def _has_effect(self, index: int, run: Run, other: Run, pairs: list[Pair]) -> bool:
        """Compare on a run with one input taken from a different run; return whether an output changes.

        A model of one input has been compared on that run already.
        """
        inputs = (*run.inputs[:index], other.inputs[index], *run.inputs[index + 1 :])
        is_other = run.sizes == other.sizes and len(inputs) == 1
        mixed = other if is_other else replace(run, inputs=inputs)
        for pair in pairs:
            if mixed not in self._runs_for(pair):
                self._compare_at([mixed], pair)
            if pair.reference.changes(mixed, run):
                return True
        return False

    def _compare_far(self, pair: Pair, run: Run) -> list[Check] | None:
        """Compare at a size far from the traced one.

        Returns None where memory runs out, where the module itself fails and nobody declared that it takes
        this size, or where rounding leaves nothing to compare.
        """
        self._progress(f"proving at {describe_sizes(run)}{pair.suffix}")
        try:
            expected = pair.reference.compute(run)
            checks = _compare(pair, run, self._plan, expected)
        except NnkitError as error:
            is_beyond = isinstance(error, ModuleFails) and bool(assumed_dims(self._plan.spec))
            if is_beyond or any(sign in error.message for sign in OUT_OF_MEMORY):
                return None
            raise
        for index, check in enumerate(checks):
            if check.passed:
                continue
            if not _is_far_off(check):
                checks[index] = replace(check, passed=True, problem="", rounded=True)
            elif _is_left_to_rounding(pair, run, index, check) or self._passes_on_other_draws(pair, run):
                return None
            else:
                raise _not_the_model(pair, run, check)
        return checks

    def _passes_on_other_draws(self, pair: Pair, run: Run) -> bool:
        """Whether a file that differs on one draw of values passes on others at the same sizes.

        A fault that depends on a size shows on every draw.
        """
        for seed in range(1, OTHER_DRAWS + 1):
            redrawn = self._plan.draw(run.sizes, seed=seed)
            checks = _compare(pair, redrawn, self._plan, pair.reference.compute(redrawn))
            for index, check in enumerate(checks):
                if _is_far_off(check) and not _is_left_to_rounding(pair, redrawn, index, check):
                    return False
        return True


def _is_lost_in_rounding(pair: Pair, run: Run, checks: list[Check]) -> bool:
    """Whether these weights amplify rounding so much that an output shows little or nothing.

    A check that failed is no sign of it unless the module's own result is off by as much.
    """
    failed = [(index, check) for index, check in enumerate(checks) if not check.passed]
    if failed:
        return all(check.max_abs_diff <= pair.reference.rounding(run, index) for index, check in failed)
    return any(check.rounded for check in checks)


def _excuse(pair: Pair, run: Run, index: int, check: Check) -> Check:
    """Return the check of an output that fails for no other reason than rounding, with that much allowed."""
    if check.passed:
        return check
    rounding = pair.reference.rounding(run, index)
    return replace(check, passed=True, problem="", rounded=True, tolerance=rounding)


def _is_far_off(check: Check) -> bool:
    """Whether a difference is more than rounding adds up to over thousands of elements."""
    return not check.passed and check.max_abs_diff > FAR_FACTOR * check.tolerance


def _is_left_to_rounding(pair: Pair, run: Run, index: int, check: Check) -> bool:
    """Whether the module's own result is off by as much, so that no file could do better.

    An example is a forward that takes the argmax of two scores that are nearly the same.
    """
    by_weights = MODULE_ROUNDING * pair.reference.spread_by_rounding(run, index)
    return check.max_abs_diff <= max(by_weights, pair.reference.rounding(run, index))


def _check_informative(reference: Reference, perturbed_pair: Pair | None) -> None:
    """Raise VerificationFailed for an output that proves nothing, not even with perturbed weights."""
    for name, problem in reference.uninformative.items():
        if problem == NOT_FINITE or perturbed_pair is None or name in perturbed_pair.reference.uninformative:
            raise VerificationFailed(
                f"output {name!r} {problem}, which proves nothing",
                "give inputs that change it, or use --no-verify",
            )


def _not_the_model(pair: Pair, run: Run, check: Check) -> VerificationFailed:
    hint = "either this is a different model, or the exporter or forward is at fault"
    if run.why:
        hint = (
            f"forward takes a different branch where {run.why} does not hold: make it do the same "
            "for every size, or declare which sizes it takes (min, max, multiple_of)"
        )
    return VerificationFailed(
        f"{pair.candidate.name} is not the model: at {describe_sizes(run)}{pair.suffix} "
        f"output {check.output!r} {check.problem}",
        hint,
    )


def _seen_in(effects: Effects | None) -> set[str]:
    return effects.seen if effects else set()


def _load(load: Callable[[], Runner], name: str) -> Runner:
    try:
        return load()
    except Refused as error:
        raise VerificationFailed(f"{name} can't be loaded: {error}") from error


def _compare(pair: Pair, run: Run, plan: Plan, expected: list[Tensor]) -> list[Check]:
    """Run the file and compare each output with the expected one; one failed check where it can't."""
    names, weights = plan.output_names, pair.weights
    try:
        results = pair.runner(run.inputs)
    except Refused as error:
        return [failed_check(run, names[0], f"can't be computed: {error}", weights)]
    if len(results) != len(expected):
        problem = f"is one of {len(results)}, but the module returns {len(expected)}"
        return [failed_check(run, names[0], problem, weights)]
    checks = [
        _compare_output(pair, run, name, index, result, wanted)
        for index, (name, result, wanted) in enumerate(zip(names, results, expected, strict=True))
    ]
    if all(check.passed for check in checks):
        misdeclared = pair.candidate.shape_problem(run, results)
        if misdeclared is not None:
            return [failed_check(run, *misdeclared, weights)]
    return checks


def _compare_output(pair: Pair, run: Run, name: str, index: int, result: Tensor, expected: Tensor) -> Check:
    """Compare one output; where it fails, once more with the rounding of the module itself allowed."""
    check = compare(run, name, result, expected, pair.weights)
    most = largest_module_rounding(expected.dtype, check.scale)
    if check.passed or not expected.is_floating_point() or check.max_abs_diff >= most:
        return check
    rounding = min(pair.reference.rounding(run, index), most)
    return compare(run, name, result, expected, pair.weights, rounding)


def _shows_enough(coverage: Coverage) -> bool:
    """Whether nearly all of a model shows with its own weights."""
    return (coverage.own or 0) >= ENOUGH_SEEN * coverage.parameters


def _measure_coverage(
    module: nn.Module, effects: Effects | None, seen: set[str], seen_when_perturbed: set[str]
) -> Coverage:
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    if effects is None:
        return Coverage(sum(sizes.values()), None, None)

    def count(names: Iterable[str]) -> int:
        return sum(sizes[name] for name in names)

    proven = (seen | seen_when_perturbed) & set(effects.effects)
    unproven = tuple(name for name in effects.effects if name not in proven)
    return Coverage(count(effects.effects), count(seen), count(proven), unproven, effects.unused)
