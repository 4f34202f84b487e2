"""The module that a file is compared with: its results, and which of them can prove anything."""

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nnkit.errors import NnkitError, VerificationFailed
from nnkit.models.copies import changed_between, copy_of, state_of, whole_copy_of
from nnkit.models.running import call, without_gradients
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import core_of, registered, tensors_in
from nnkit.verbs.exporting.calls import call_module
from nnkit.verbs.exporting.comparison import compare, describe_sizes
from nnkit.verbs.exporting.coverage import Effects, measure, redraw
from nnkit.verbs.exporting.in_float64 import copy_in_float64, read_in_float64
from nnkit.verbs.exporting.plan import Plan, Run
from nnkit.verbs.exporting.report import Check
from nnkit.verbs.exporting.tolerance import MODULE_ROUNDING, is_same, typical_tolerance

# To see what rounding decides, each weight is moved by up to this many units in its last place.
NUDGE = 8

# If a call changes the state of a copy, the copy is called this often to see whether an output follows.
REPEATED_CALLS = 8

# This many further inputs are drawn before an integer output counts as the same for all inputs.
FURTHER_DRAWS = 8

SAME = "is the same for other inputs"
NOT_FINITE = "is not finite in the module itself"

# What forward may ask of a tensor without reading a value.
SHAPE_QUERIES = ("__get__", "size", "dim", "numel")


class ModuleFails(VerificationFailed):
    """The module itself fails at sizes that its dims allow.

    bound: the constraint on sizes that would keep it from them, as far as torch knows one.
    """

    def __init__(self, message: str, hint: str = "", details: Iterable[str] = (), bound: str = "") -> None:
        super().__init__(message, hint, details)
        self.bound = bound


class Reference:
    """A module, with its outputs on each run of a plan. Every run uses a fresh copy.

    effects: those of its parameters on the traced run, where they are known already.
    """

    def __init__(self, module: nn.Module, plan: Plan, effects: Effects | None = None) -> None:
        self.module, self._plan, self._known_effects = module, plan, effects
        self._outputs: dict[Run, list[Tensor]] = {}

    def outputs(self, run: Run) -> list[Tensor]:
        """Return what the module returns on a run of the plan; the results are kept."""
        if run not in self._outputs:
            self._outputs[run] = self.compute(run)
        return self._outputs[run]

    def compute(self, run: Run) -> list[Tensor]:
        """Return what the module returns on any run.

        Raises ModuleFails where it fails at sizes that its declaration allows.
        """
        return self._explain(run, lambda: self._call(copy_of(self.module), run))

    def _explain(self, run: Run, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        try:
            return compute()
        except NnkitError as error:
            raise ModuleFails(
                f"{self._plan.spec.reference} fails at {describe_sizes(run)}, which its dims allow: "
                f"{error.message}",
                "declare which sizes it takes (min, max, multiple_of), or fix them: --static, --fix",
                bound=self._bound_that_breaks(run),
            ) from error

    def _bound_that_breaks(self, run: Run) -> str:
        """Return a constraint that these sizes break and the traced ones don't.

        It is torch's own condition; where that is about one dim, a bound says the same:

            time == min(40, time), broken at time 41   ->   time <= 40
        """
        names = [name for name in self._plan.dims if re.search(rf"\b{name}\b", run.why)]
        if len(names) != 1:
            return run.why
        name = names[0]
        size = run.sizes[name]
        is_above = size > self._plan.traced_run.sizes[name]
        return f"{name} <= {size - 1}" if is_above else f"{name} >= {size + 1}"

    def check_repeatable(self) -> None:
        """Raise VerificationFailed when the module's results differ between calls on the same inputs.

        One copy is called repeatedly; the results of its first call are those of the traced run. A second
        fresh copy is needed only where the first call changes a copy: it may draw random numbers and keep
        them. What it keeps out of sight shows when effects are measured, on a copy of their own.
        """
        run, copy = self._plan.traced_run, copy_of(self.module)
        before = state_of(copy)
        first = self._outputs[run] = self._explain(run, lambda: self._call(copy, run))
        changed = changed_between(before, state_of(copy))
        if changed:
            self.check_same(first, self.compute(run))
        for _ in range(REPEATED_CALLS):
            difference = self._first_difference(first, self._call(copy, run))
            changed = changed_between(before, state_of(copy))
            if difference is not None:
                self.check_same(first, self.compute(run))
                output, problem = difference
                what = changed[0] if changed else "something outside of its buffers and attributes"
                raise VerificationFailed(
                    f"{self._plan.spec.reference} is stateful: forward changes {what} and so the result: "
                    f"output {output!r} {problem} from one call to the next, which a file can't reproduce",
                    "take the state as an input and return it, or reset it in forward; or use --no-verify",
                )
            if not changed:
                break

    def _call(self, module: nn.Module, run: Run) -> list[Tensor]:
        return [output.cpu() for output in call_module(module, self._plan.spec.signature, run.inputs)]

    def check_same(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Raise VerificationFailed when the results of two fresh copies on the traced run differ."""
        difference = self._first_difference(first, second)
        if difference is not None:
            output, problem = difference
            raise VerificationFailed(
                f"{self._plan.spec.reference} is random: output {output!r} of two runs of the module itself "
                f"on the same inputs {problem}, so nothing can be proven",
                "take the randomness out of forward in eval mode, or use --no-verify",
            )

    def _first_difference(
        self, expected: Sequence[Tensor], results: Sequence[Tensor]
    ) -> tuple[str, str] | None:
        """Return the first output that differs, and how; None where all are the same."""
        for name, wanted, result in zip(self._plan.output_names, expected, results, strict=True):
            check = compare(self._plan.traced_run, name, result, wanted, "own")
            has_nan = wanted.is_floating_point() and bool(wanted.isnan().any())
            if not check.passed and not has_nan:
                return name, check.problem
        return None

    def rounding(self, run: Run, index: int) -> float:
        """Return how far an output may be off because the module itself is off from its result in float64.

        For an integer output: how many elements differ in float64, which is not 0 where rounding decides.
        """
        outputs = self._run_in_float64(run)
        if outputs is None:
            return 0.0
        exact = outputs[index].cpu()
        result = self._outputs[run][index] if run in self._outputs else self.compute(run)[index]
        if result.shape != exact.shape:
            return 0.0
        if not result.is_floating_point():
            return float((result != exact).sum())
        apart = (result.double() - exact.double())[core_of(result)].abs()
        return MODULE_ROUNDING * float(apart.max()) if apart.numel() else 0.0

    def spread_by_rounding(self, run: Run, index: int) -> float:
        """Return how far an output moves when each weight moves by a few units in its last place.

        An argmax of two scores that are nearly the same changes then, as it does in a different runtime.
        """
        result = self.compute(run)[index]
        moved = self._plan.run(self._nudged, run.inputs)[index].cpu()
        if result.shape != moved.shape or not result.numel():
            return 0.0
        return float((result.double() - moved.double())[core_of(result)].abs().max())

    @cached_property
    def _nudged(self) -> nn.Module:
        module, generator = whole_copy_of(self.module), torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            # In half precision, a few units in the last place are no small change.
            if parameter.dtype in (torch.float32, torch.float64):
                step = NUDGE * torch.finfo(parameter.dtype).eps
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.data.mul_(1 + step * noise)
        return module

    def _run_in_float64(self, run: Run) -> list[Tensor] | None:
        """Return the results in float64; None where forward names a dtype, or the parameters have it."""
        if any(parameter.dtype == torch.float64 for parameter in self.module.parameters()):
            return None
        inputs = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in run.inputs)
        # Some modules write into their weights, or do what takes a tensor in memory.
        for convert in (read_in_float64, copy_in_float64):
            with contextlib.suppress(NnkitError, RuntimeError):
                return self._plan.run(convert(self.module), inputs)
        return None

    def effects(self, checks: Sequence[Check] = ()) -> Effects | None:
        """Return the effect of each parameter, in units of what these checks allowed in the outputs.

        Raises VerificationFailed when the module is random.
        """
        rounded = [check for check in checks if check.rounded]
        if self._known_effects is not None and not rounded:
            return self._known_effects
        expected = self.outputs(self._plan.traced_run)
        limits = [typical_tolerance(output) for output in expected]
        for check in rounded:
            index = self._plan.output_names.index(check.output)
            limits[index] = max(limits[index] or 0.0, check.tolerance)
        measured = measure(self.module, self._plan.spec.signature, self._plan.traced, limits)
        returned = measured.outputs
        if returned is None or self._differ(expected, returned):
            self.check_same(expected, self.compute(self._plan.traced_run))
        return measured.effects

    def _differ(self, expected: Sequence[Tensor], returned: Sequence[Tensor]) -> bool:
        """Whether results of a run with gradients differ from those without; forward may know which it is."""
        pairs = [(first, second.cpu()) for first, second in zip(expected, returned, strict=False)]
        if len(expected) != len(returned) or any(
            first.dtype != second.dtype or first.shape != second.shape for first, second in pairs
        ):
            return True
        return self._first_difference(*zip(*pairs, strict=True)) is not None

    @cached_property
    def uninformative(self) -> dict[str, str]:
        """For each output that proves nothing, the reason."""
        reasons = {}
        first_run, second_run, *_ = self._plan.runs
        pairs = zip(self._plan.output_names, self.outputs(first_run), self.outputs(second_run), strict=True)
        for index, (name, first, second) in enumerate(pairs):
            if first.numel() == 0 or self._is_weight(first):
                continue
            if reason := self._problem_with(index, first, second):
                reasons[name] = reason
        return reasons

    def _is_weight(self, output: Tensor) -> bool:
        """Whether an output is a weight of the module, which doesn't change with the inputs."""
        return any(output.dtype == weight.dtype and torch.equal(output, weight) for weight in self._weights)

    @cached_property
    def _weights(self) -> list[Tensor]:
        return [tensor.cpu() for tensor in registered(self.module).values()]

    def _problem_with(self, index: int, first: Tensor, second: Tensor) -> str:
        """Return why an output proves nothing, given its values on two inputs; or an empty string."""
        if not first.is_floating_point():
            # An index may well be the same twice. If no output is floating-point, it counts at once.
            outputs = self.outputs(self._plan.traced_run)
            has_floats = any(output.is_floating_point() for output in outputs)
            is_constant = torch.equal(first, second) and (not has_floats or self._hides_weights(index))
            return SAME if is_constant else ""
        if not first.isfinite().any() or first.isnan().any():
            return NOT_FINITE
        # Without inputs, perturbed weights show what the output is made of.
        if self._plan.inputs and first.shape == second.shape and is_same(second, first):
            return SAME
        return ""

    def _hides_weights(self, index: int) -> bool:
        """Whether an integer output depends on weights, and yet is the same for all inputs drawn."""
        run, spec = self._plan.traced_run, self._plan.spec
        expected = self.outputs(run)[index]
        seeds = range(spec.seed + FURTHER_DRAWS, spec.seed + 2 * FURTHER_DRAWS)
        for seed in seeds:
            drawn = sample_inputs(spec, sizes=run.sizes, seed=seed)
            inputs = tuple(tensor.to(self._plan.device) for tensor in drawn)
            if not torch.equal(self.compute(replace(run, inputs=inputs))[index], expected):
                return False
        with_new_weights = redraw(self.module, [name for name, _ in self.module.named_parameters()])
        return not torch.equal(self._plan.run(with_new_weights, run.inputs)[index].cpu(), expected)

    def changes(self, run: Run, other: Run) -> bool:
        """Whether some output differs between two runs by more than rounding."""
        for first, second in zip(self.outputs(other), self.outputs(run), strict=True):
            if first.shape != second.shape:
                return True
            if not (is_same(second, first) if first.is_floating_point() else torch.equal(first, second)):
                return True
        return False

    def unread_inputs(self) -> set[str]:
        """Return the names of the inputs that forward passes to no function of torch."""
        module, inputs = copy_of(self.module), tuple(tensor.clone() for tensor in self._plan.traced)
        with _ReadTensors() as read:
            without_gradients(lambda: call(module, self._plan.spec.signature, inputs))
        names = zip(self._plan.input_names, inputs, strict=True)
        return {name for name, tensor in names if id(tensor) not in read.ids}


class _ReadTensors(TorchFunctionMode):
    """Records which tensors are passed to functions of torch; asking for a shape reads no value."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") not in SHAPE_QUERIES:
            self.ids |= {id(tensor) for tensor in tensors_in([args, kwargs or {}])}
        return function(*args, **(kwargs or {}))
