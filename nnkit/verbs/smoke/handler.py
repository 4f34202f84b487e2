"""SmokeRequest -> SmokeReport."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from nnkit.contract.contributions import Check
from nnkit.contract.loading import load
from nnkit.contract.own_declarations import own_declarations
from nnkit.contract.requests import Host, SmokeRequest
from nnkit.contract.spec import AS_BUILT
from nnkit.errors import NnkitError, UsageProblem, did_you_mean, first_line
from nnkit.models.devices import find_device
from nnkit.models.precision import count_dtypes
from nnkit.verbs.exporting.plan import run_declared
from nnkit.verbs.smoke.backward import first_training_run
from nnkit.verbs.smoke.checklist import CHECKS
from nnkit.verbs.smoke.report import CheckResult, SmokeReport
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject, Warned

TRAINING = ("finite", "gradients", "updates", "inputs-unchanged")  # they begin with a run in training mode


def smoke_run(request: SmokeRequest) -> SmokeReport:
    """Run the checks one after the other. A model that can't be built raises its own error."""
    device = find_device(request.device, can_simulate=True)
    checks = list(choose_checks(request.checks, request.full, request.host))
    subject = Subject(request.spec, request.host, device, request.compiled)
    if request.compiled:
        _check_compiler(device)
    dtypes = count_dtypes(subject.built.parameters())
    if request.spec.plugin and not request.compiled:
        request.progress("running the model once")
        _run_once(subject)
    subject = _large_enough(subject, shares_run=any(check.name in TRAINING for check in checks))
    spec = request.spec.with_sizes(subject.sizes)
    names = tuple(check.name for check in checks)
    report = SmokeReport(spec, str(device), (), request.compiled, dtypes, not_run=names)
    for check in checks:
        request.progress(f"checking {check.name}")
        result = replace(_run_check(check, subject), repeat=_repeat_command(request, check))
        report = replace(report, checks=(*report.checks, result), not_run=report.not_run[1:])
        request.finished(report)
    return report


def _run_once(subject: Subject) -> None:
    """Run the model. Raises one error for the cause, where every check would fail because of it."""
    try:
        subject.first_run()
    except Exception:
        run_declared(subject.spec, subject.built, subject.inputs())


def _large_enough(subject: Subject, shares_run: bool) -> Subject:
    """Return the subject at sizes at which it trains too, if its defaults are.

    An auxiliary head that only training uses may need larger pictures than evaluation. shares_run: whether a
    check begins with a run in training mode as well, which is then taken from here.
    """
    whole = {
        name: subject.sizes[name] if name == "batch" else size for name, size in subject.spec.sizes.items()
    }
    if whole == subject.sizes or _trains(subject, shares_run) or not subject.allows(whole):
        return subject
    larger = subject.at(whole)
    return larger if _trains(larger, shares_run=False) else subject


def _trains(subject: Subject, shares_run: bool) -> bool:
    if shares_run:
        return first_training_run(subject).outputs is not None
    try:
        with subject.seeded():
            subject.outputs(subject.copy().train(), subject.inputs())
    except Exception:
        return False
    return True


def _check_compiler(device: torch.device) -> None:
    """Raise NnkitError where torch.compile doesn't work at all, so that no model is blamed for it."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except Exception as error:
        raise NnkitError(
            f"torch.compile doesn't work here: {first_line(error)}",
            "install a C++ compiler, or leave out --compile",
        ) from error


def choose_checks(names: Iterable[str] | None, full: bool, host: Host) -> Iterable[Check]:
    """Return the checks with these names, or all for None. Raises UsageProblem for an unknown name."""
    offered = {check.name: check for check in (*CHECKS, *host.checks())}
    if names is None:
        return [check for check in offered.values() if full or not check.full]
    for name in names:
        if name not in offered:
            raise UsageProblem(
                f"unknown check {name!r}",
                did_you_mean(name, offered) or f"choose from: {', '.join(offered)}",
            )
    return [offered[name] for name in names]


def _repeat_command(request: SmokeRequest, check: Check) -> str:
    """Return the command that runs only this check; for a module that came from Python, the call."""
    if not request.spec.typed:
        return _repeat_call(request, check)
    options = []
    if request.device != "cpu":
        options += ["--device", request.device]
    if request.compiled:
        options.append("--compile")
    return request.spec.command("smoke-run", *options, "--check", check.name)


def _repeat_call(request: SmokeRequest, check: Check) -> str:
    """Return the call that runs only this check on a module; `inputs` are those that the caller passed."""
    spec = request.spec
    sizes = {name: size for name, size in spec.sizes.items() if size != spec.dims[name].default}
    options = {"checks": [check.name], "device": request.device, **sizes}
    options |= {"seed": spec.seed} if spec.seed else {}
    options |= {"dtype": spec.dtype} if spec.dtype != AS_BUILT else {}
    options |= {"compiled": True} if request.compiled else {}
    options |= own_declarations(spec.architecture)
    words = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"nnkit.smoke_run(module, inputs, {words})"


def _run_check(check: Check, subject: Subject) -> CheckResult:
    """Run a check. A fault that doesn't show with other weights and inputs was chance: a warning."""
    if reason := subject.spec.architecture.unsupported.get(check.name):
        return CheckResult(check.name, "skipped", reason)
    result = _look(check, subject)
    if result.status == "failed":
        again = _look(check, subject.reseeded())
        if again.status in ("passed", "skipped"):
            return CheckResult(check.name, "warned", f"{result.message} (not with a different seed)")
    return result


def _look(check: Check, subject: Subject) -> CheckResult:
    """Run a check; once more, on copies that share nothing, where forward has written to the weights.

    Where a check finds something, the weights themselves are compared too: a write that torch doesn't count,
    in this check or in one before, may be why.
    """
    shared = subject.original.shares
    result = _ask(check, subject)
    finds_something = result.status in ("failed", "warned")
    if not subject.original.is_intact(subject.original.checksums() if finds_something else ()):
        subject.original.part()
    return result if subject.original.shares == shared else _ask(check, subject)


def _ask(check: Check, subject: Subject) -> CheckResult:
    try:
        return CheckResult(check.name, "passed", load(check.run)(subject) or "")
    except Failed as fault:
        return CheckResult(check.name, "failed", str(fault))
    except Warned as doubt:
        return CheckResult(check.name, "warned", str(doubt))
    except Skipped as reason:
        return CheckResult(check.name, "skipped", str(reason))
    except Exception as error:
        return CheckResult(check.name, "failed", f"{type(error).__name__}: {first_line(error)}")
