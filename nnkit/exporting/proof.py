"""The proof that a file is the model: run beside the original module, at several sizes.

Exit code 0 is to mean something, so a proof that could not have failed doesn't count: outputs that are
not numbers, are constant, or don't depend on the inputs prove nothing, and weights that the outputs
don't feel are looked for (coverage.py), and proven by other means.
"""

import copy
import time
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor, nn

from nnkit.errors import NnkitError, VerificationFailed
from nnkit.exporting.coverage import Effects, effects_of, perturbed
from nnkit.exporting.plan import Plan, Run
from nnkit.exporting.report import Check, Coverage, Proof, Weights
from nnkit.exporting.runtimes import Refused
from nnkit.exporting.tolerance import SHARE, allowed, same, scale_of, typical
from nnkit.sampling import Inputs
from nnkit.tensors import core_of

TINY = 1e-300
# Where a network makes more of its rounding, the module itself is run in float64 to see how much. A
# difference may be so many times as much, but not more than this share of the spread, or twice the tolerance.
ROUNDING, CLOSE = 8, 0.02
SAME = "is the same for other inputs"
NOT_FINITE = "is not finite in the module itself"


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


class Reference:
    """A module, with its outputs on each run of a plan."""

    def __init__(self, module: nn.Module, plan: Plan) -> None:
        self.module, self._plan = module, plan
        self._outputs: dict[int, list[Tensor]] = {}

    def outputs(self, place: int) -> list[Tensor]:
        """Return what the module gives on the run in this place."""
        if place not in self._outputs:
            run = self._plan.runs[place]
            try:
                results = self._plan.run(self.module, run.inputs)
            except NnkitError as error:
                name = self._plan.spec.name
                raise VerificationFailed(
                    f"{name} doesn't run at {words(run)}, which its dims allow: {error.message}",
                    "declare which sizes they take (min, max, multiple_of), or keep them: --static, --fix",
                ) from error
            self._outputs[place] = [each.cpu() for each in results]
        return self._outputs[place]

    def check_repeatable(self) -> None:
        """Raise VerificationFailed when the module gives something else the second time."""
        again = [each.cpu() for each in self._plan.run(self.module, self._plan.traced)]
        for name, first, second in zip(self._plan.output_names, self.outputs(0), again, strict=True):
            check = compare(self._plan.runs[0], name, second, first, "own")
            if not check.passed and not first.isnan().any():
                raise VerificationFailed(
                    f"{self._plan.spec.name} is random: output {name!r} of two runs of the module itself on "
                    f"the same inputs differs by {check.max_abs_diff:.3g}, so nothing can be proven",
                    "take the randomness out of forward in eval mode, or use --no-verify",
                )

    def rounding(self, place: int, index: int) -> float:
        """Return how far an output may be off for the rounding that the module itself makes."""
        if self._exact is None:
            return 0.0
        inputs = self._plan.runs[place].inputs
        exact = tuple(each.double() if each.is_floating_point() else each for each in inputs)
        try:
            wanted = self._plan.run(self._exact, exact)[index].cpu()
        except NnkitError:  # a dtype that is written in its forward
            return 0.0
        given = self.outputs(place)[index]
        core = core_of(given)
        apart = (given.double() - wanted.double())[core].abs()
        return ROUNDING * float(apart.max()) if apart.numel() else 0.0

    @cached_property
    def _exact(self) -> nn.Module | None:
        kinds = {each.dtype for each in self.module.parameters()}
        return None if torch.float64 in kinds else copy.deepcopy(self.module).double()

    def effects(self, checks: list[Check]) -> Effects | None:
        """Return the effect of each parameter, beside what was allowed in these checks of the outputs."""
        limits = [typical(each) for each in self.outputs(0)]
        for check in checks:
            place = self._plan.output_names.index(check.output)
            if check.rounded:
                limits[place] = max(limits[place] or 0.0, check.tolerance)
        return effects_of(self.module, self._plan.spec.input_names, self._plan.traced, limits)

    @cached_property
    def uninformative(self) -> dict[str, str]:
        """Why an output proves nothing, for those that don't."""
        found = {}
        pairs = zip(self._plan.output_names, self.outputs(0), self.outputs(1), strict=True)
        numbers = any(each.is_floating_point() for each in self.outputs(0))
        for name, first, second in pairs:
            if first.numel() == 0 or (numbers and not first.is_floating_point()):
                continue  # an index may well be the same twice; where there is nothing else, it counts
            if not numbers:
                if torch.equal(first, second):
                    found[name] = SAME
            elif not first.isfinite().any() or first.isnan().any():
                found[name] = NOT_FINITE
            elif first.shape == second.shape and same(second, first):
                found[name] = SAME
        return found


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
        effects, vain = own.effects([]), dict(own.uninformative)
        checks: list[Check] = []
        others: set[str] = set()
        if vain or effects is None or effects.unseen:
            other = self._other(candidate.replaceable)
            runner = other and _loaded(partial(candidate.with_weights, other.module), candidate.name)
            if other and runner:
                checks += self._run_all(candidate, runner, other, "perturbed")
                others = _seen(other.effects(checks))
                still = other.uninformative
                vain = {name: why for name, why in vain.items() if name in still or why == NOT_FINITE}
        for name, why in vain.items():
            raise VerificationFailed(
                f"output {name!r} {why}, which proves nothing",
                "give it inputs that show in it (integers are 0 unless declared: tokens: int64[batch, time] "
                "< 32000), or use --no-verify",
            )
        runner = _loaded(candidate.runner, candidate.name)
        found = self._run_all(candidate, runner, own, "own")
        if any(check.rounded for check in found):
            effects = own.effects(found)
        coverage = _coverage(own.module, effects, _seen(effects), others)
        seconds = time.perf_counter() - start
        return Proof(runner.name, (*checks, *found), coverage, equal, seconds)

    def _other(self, replaceable: set[str] | None) -> Reference | None:
        """Return the module with perturbed weights, where there are any that its outputs feel."""
        key = None if replaceable is None else frozenset(replaceable)
        if key not in self._perturbed:
            samples = [run.inputs for run in self._plan.runs[:2]]
            module = perturbed(self._own.module, self._plan.spec.input_names, samples, replaceable)
            self._perturbed[key] = None if module is None else Reference(module, self._plan)
        return self._perturbed[key]

    def _run_all(
        self, candidate: Candidate, runner: Runner, reference: Reference, weights: Weights
    ) -> list[Check]:
        checks: list[Check] = []
        for place, run in enumerate(self._plan.runs):
            with_others = " with perturbed weights" if weights == "perturbed" else ""
            self._progress(f"proving at {words(run)}{with_others}")
            found = _run(candidate, runner, reference, place, self._plan, weights)
            for check in found:
                if not check.passed:
                    raise VerificationFailed(
                        f"{candidate.name} is not the model: at {words(run)}{with_others} "
                        f"output {check.output!r} {check.problem}",
                        "it is another model, or the fault is in the exporter or in forward",
                    )
            checks += found
        return checks


def _seen(effects: Effects | None) -> set[str]:
    return effects.seen if effects else set()


def _loaded(load: Callable[[], Runner], name: str) -> Runner:
    try:
        return load()
    except Refused as error:
        raise VerificationFailed(f"{name} can't be loaded: {error}") from error


def _run(
    candidate: Candidate, runner: Runner, reference: Reference, place: int, plan: Plan, weights: Weights
) -> list[Check]:
    run, names, expected = plan.runs[place], plan.output_names, reference.outputs(place)
    try:
        results = runner(run.inputs)
    except Refused as error:
        return [_failed(run, names[0], f"can't be computed: {error}", weights)]
    if len(results) != len(expected):
        problem = f"is one of {len(results)}, the module gives {len(expected)}"
        return [_failed(run, names[0], problem, weights)]
    checks = []
    for index, (name, result, wanted) in enumerate(zip(names, results, expected, strict=True)):
        check = compare(run, name, result, wanted, weights)
        close = max(CLOSE, 2 * SHARE.get(wanted.dtype, 0.0)) * check.scale
        if not check.passed and check.max_abs_diff < close:
            rounding = min(reference.rounding(place, index), close)
            check = compare(run, name, result, wanted, weights, rounding)
        checks.append(check)
    misdeclared = candidate.shape_problem(run, results) if all(each.passed for each in checks) else None
    return [_failed(run, *misdeclared, weights)] if misdeclared else checks


def _failed(run: Run, output: str, problem: str, weights: Weights) -> Check:
    return Check(run.sizes, output, float("inf"), 0.0, False, problem, weights=weights)


def compare(
    run: Run, name: str, result: Tensor, expected: Tensor, weights: Weights, rounding: float = 0.0
) -> Check:
    """Judge one output. Integers must be equal; floats may differ by rounding, seen at their scale.

    rounding: what may differ in any case.
    """
    if expected.dtype == torch.float16 and result.dtype == torch.float32:
        result = result.half()  # a float16 model behind float32 outputs
    if result.shape != expected.shape or result.dtype != expected.dtype:
        got, wanted = (f"{str(each.dtype)[6:]}{list(each.shape)}" for each in (result, expected))
        return _failed(run, name, f"is {got} where the module gives {wanted}", weights)
    if expected.numel() == 0:
        return Check(run.sizes, name, 0.0, 0.0, True, weights=weights)
    if not expected.is_floating_point():
        wrong = int((result != expected).sum())
        problem = f"differs in {wrong} elements" if wrong else ""
        return Check(run.sizes, name, float(wrong), 1.0, not wrong, problem, weights=weights)
    # Infinities may be meant (what is masked); they must stand in the same places.
    apart = torch.where(result == expected, 0.0, (result.double() - expected.double()).abs())
    limit = allowed(expected).clamp_min(rounding)
    # By the share of what is allowed; NaN is more than anything.
    place = int((apart / limit.clamp_min(TINY)).nan_to_num(float("inf"), posinf=float("inf")).argmax())
    diff, scale = float(apart.flatten()[place]), scale_of(expected)
    passed = bool((apart <= limit).all())
    problem = "" if passed else f"differs by {diff:.3g} where its spread is {scale:.3g}"
    where = tuple(int(each) for each in torch.unravel_index(torch.tensor(place), expected.shape))
    tolerance, rounded = float(limit.flatten()[place]), bool(rounding)
    return Check(run.sizes, name, diff, scale, passed, problem, tolerance, where, weights, rounded)


def _coverage(module: nn.Module, effects: Effects | None, own: set[str], others: set[str]) -> Coverage:
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    if effects is None:
        return Coverage(sum(sizes.values()), None, None)

    def count(names: Iterable[str]) -> int:
        return sum(sizes[name] for name in names)

    proven = (own | others) & set(effects.effects)
    unproven = tuple(name for name in effects.effects if name not in proven)
    return Coverage(count(effects.effects), count(own), count(proven), unproven, effects.unused)


def words(run: Run) -> str:
    """Return the sizes of a run for a sentence."""
    return ", ".join(f"{name} {size}" for name, size in run.sizes.items()) or "the given inputs"
