"""The module that a file is compared with: its results, and what of them can prove anything."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nnkit.errors import NnkitError, VerificationFailed
from nnkit.models.running import call, without_gradients
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import core_of, registered, tensors_in
from nnkit.verbs.exporting.calls import call_module
from nnkit.verbs.exporting.comparison import compare, words
from nnkit.verbs.exporting.copies import changed_between, copy_of, state_of, whole_copy_of
from nnkit.verbs.exporting.coverage import Effects, effects_of, redrawn
from nnkit.verbs.exporting.plan import Plan, Run
from nnkit.verbs.exporting.report import Check
from nnkit.verbs.exporting.tolerance import same, typical

# Where a network makes more of its rounding, the module itself is run in float64 to see how much. A
# difference may be so many times as much.
ROUNDING = 8
UNITS = 8  # in the last place, by which a weight is moved to see what rounding decides
CALLS = 8  # of one copy, where its state changes, to see whether an output follows
FURTHER = 8  # inputs that are drawn before an integer output counts as the same for all
SAME = "is the same for other inputs"
NOT_FINITE = "is not finite in the module itself"


class Reference:
    """A module, with its outputs on each run of a plan. Every run is that of a fresh copy."""

    def __init__(self, module: nn.Module, plan: Plan) -> None:
        self.module, self._plan = module, plan
        self._outputs: dict[Run, list[Tensor]] = {}

    def outputs(self, run: Run) -> list[Tensor]:
        """Return what the module gives on a run of the plan; the results are kept."""
        if run not in self._outputs:
            self._outputs[run] = self.compute(run)
        return self._outputs[run]

    def compute(self, run: Run) -> list[Tensor]:
        """Return what the module gives on any run.

        Raises VerificationFailed where it doesn't run at sizes that its declaration allows.
        """
        try:
            return [each.cpu() for each in self._plan.run(self.module, run.inputs)]
        except NnkitError as error:
            raise VerificationFailed(
                f"{self._plan.spec.name} doesn't run at {words(run)}, which its dims allow: {error.message}",
                "declare which sizes they take (min, max, multiple_of), or keep them: --static, --fix",
            ) from error

    def check_repeatable(self) -> None:
        """Raise VerificationFailed when the module gives something else on the same inputs another time."""
        run, name = self._plan.runs[0], self._plan.spec.name
        first = self.outputs(run)
        if differs := self._difference(first, self.compute(run)):
            raise VerificationFailed(
                f"{name} is random: output {differs[0]!r} of two runs of the module itself on the same "
                f"inputs {differs[1]}, so nothing can be proven",
                "take the randomness out of forward in eval mode, or use --no-verify",
            )
        # One copy that is called again and again, where the results so far were those of fresh ones.
        used = copy_of(self.module)
        before = state_of(used)
        for _ in range(CALLS):
            again = [each.cpu() for each in call_module(used, self._plan.spec.input_names, run.inputs)]
            changed = changed_between(before, state_of(used))
            if differs := self._difference(first, again):
                what = changed[0] if changed else "something outside of its buffers and attributes"
                raise VerificationFailed(
                    f"{name} is stateful: forward changes {what}, and with it the result: output "
                    f"{differs[0]!r} {differs[1]} from one call to the next, which a file can't repeat",
                    "take the state as an input and return it, or reset it in forward; or use --no-verify",
                )
            if not changed:
                break

    def _difference(self, expected: Sequence[Tensor], results: Sequence[Tensor]) -> tuple[str, str] | None:
        """Return the first output that is another, and how; None where all are the same."""
        for name, first, second in zip(self._plan.output_names, expected, results, strict=True):
            check = compare(self._plan.runs[0], name, second, first, "own")
            if not check.passed and not (first.is_floating_point() and first.isnan().any()):
                return name, check.problem
        return None

    def rounding(self, run: Run, index: int) -> float:
        """Return how far an output may be off for the rounding that the module itself makes.

        For integers: how far the module is off in float64, which is not 0 where they hang on rounding.
        """
        if self._exact is None:
            return 0.0
        exact = tuple(each.double() if each.is_floating_point() else each for each in run.inputs)
        try:
            wanted = self._plan.run(self._exact, exact)[index].cpu()
        except NnkitError:  # a dtype that is written in its forward
            return 0.0
        given = self._outputs[run][index] if run in self._outputs else self.compute(run)[index]
        if given.shape != wanted.shape:
            return 0.0
        if not given.is_floating_point():
            return float((given != wanted).sum())
        apart = (given.double() - wanted.double())[core_of(given)].abs()
        return ROUNDING * float(apart.max()) if apart.numel() else 0.0

    def spread_by_rounding(self, run: Run, index: int) -> float:
        """Return how far an output moves when each weight moves by some units in its last place.

        An argmax between two that are nearly the same goes either way then, as it does in another runtime.
        """
        given = self.compute(run)[index]
        moved = self._plan.run(self._nudged, run.inputs)[index].cpu()
        if given.shape != moved.shape or not given.numel():
            return 0.0
        return float((given.double() - moved.double())[core_of(given)].abs().max())

    @cached_property
    def _nudged(self) -> nn.Module:
        module, noise = whole_copy_of(self.module), torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            if parameter.dtype in (torch.float32, torch.float64):  # units of others are no small change
                step = UNITS * torch.finfo(parameter.dtype).eps
                random = torch.randn(parameter.shape, generator=noise).to(parameter)
                parameter.data.mul_(1 + step * random)
        return module

    @cached_property
    def _exact(self) -> nn.Module | None:
        kinds = {each.dtype for each in self.module.parameters()}
        return None if torch.float64 in kinds else whole_copy_of(self.module).double()

    def effects(self, checks: list[Check]) -> Effects | None:
        """Return the effect of each parameter, beside what was allowed in these checks of the outputs."""
        limits = [typical(each) for each in self.outputs(self._plan.runs[0])]
        for check in checks:
            place = self._plan.output_names.index(check.output)
            if check.rounded:
                limits[place] = max(limits[place] or 0.0, check.tolerance)
        return effects_of(self.module, self._plan.spec.input_names, self._plan.traced, limits)

    @cached_property
    def uninformative(self) -> dict[str, str]:
        """Why an output proves nothing, for those that don't."""
        found = {}
        first_run, second_run, *_ = self._plan.runs
        pairs = zip(self._plan.output_names, self.outputs(first_run), self.outputs(second_run), strict=True)
        numbers = any(each.is_floating_point() for each in self.outputs(first_run))
        weights = [each.cpu() for each in registered(self.module).values()]
        for index, (name, first, second) in enumerate(pairs):
            if first.numel() == 0 or any(
                first.dtype == each.dtype and torch.equal(first, each) for each in weights
            ):
                continue  # a weight that is returned follows no input
            if not first.is_floating_point():
                # An index may well be the same twice; where there is nothing else, it counts at once.
                if torch.equal(first, second) and (not numbers or self._hides_weights(index)):
                    found[name] = SAME
            elif not first.isfinite().any() or first.isnan().any():
                found[name] = NOT_FINITE
            elif self._plan.inputs and first.shape == second.shape and same(second, first):
                found[name] = SAME  # without inputs, other weights show what the output is made of
        return found

    def _hides_weights(self, index: int) -> bool:
        """Whether an integer output follows from weights, and yet is the same for all inputs drawn."""
        first, spec = self._plan.runs[0], self._plan.spec
        expected = self.outputs(first)[index]
        for seed in () if self._plan.given else range(spec.seed + FURTHER, spec.seed + 2 * FURTHER):
            drawn = sample_inputs(spec, sizes=first.sizes, seed=seed)
            inputs = tuple(each.to(self._plan.device) for each in drawn)
            if not torch.equal(self.compute(replace(first, inputs=inputs))[index], expected):
                return False
        other = redrawn(self.module, [name for name, _ in self.module.named_parameters()])
        return not torch.equal(self._plan.run(other, first.inputs)[index].cpu(), expected)

    def feels(self, run: Run, other: Run) -> bool:
        """Whether some output is another on one run than on another."""
        pairs = zip(self.outputs(other), self.outputs(run), strict=True)
        return any(
            first.shape != second.shape
            or not (same(second, first) if first.is_floating_point() else torch.equal(first, second))
            for first, second in pairs
        )

    def unread_inputs(self) -> set[str]:
        """Return the names of the inputs that forward gives to no function of torch."""
        module, inputs = copy_of(self.module), tuple(each.clone() for each in self._plan.traced)
        with _Reads() as reads:
            without_gradients(lambda: call(module, self._plan.spec.input_names, inputs))
        return {
            name
            for name, each in zip(self._plan.input_names, inputs, strict=True)
            if id(each) not in reads.tensors
        }


class _Reads(TorchFunctionMode):
    """Notes which tensors are given to functions of torch; to ask for a shape reads no value."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: set[int] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") not in ("__get__", "size", "dim", "numel"):
            self.tensors |= {id(each) for each in tensors_in([args, kwargs or {}])}
        return function(*args, **(kwargs or {}))
