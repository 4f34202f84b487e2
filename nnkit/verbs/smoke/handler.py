"""SmokeRequest -> SmokeReport."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from nnkit.contract.loading import load
from nnkit.contract.requests import Check, Host, SmokeRequest
from nnkit.errors import NnkitError, UsageProblem, did_you_mean, first_line
from nnkit.models.devices import find_device
from nnkit.models.precision import count_dtypes
from nnkit.verbs.exporting.plan import run_declared
from nnkit.verbs.smoke.checklist import CHECKS
from nnkit.verbs.smoke.report import CheckResult, SmokeReport
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject, Warned


def smoke_run(request: SmokeRequest) -> SmokeReport:
    """Run the checks one after the other; a model that can't even be built raises its own error."""
    device = find_device(request.device, can_simulate=True)
    chosen = choose(request.checks, request.full, request.host)
    subject = Subject(request.spec, request.host, device, request.inputs, request.compiled)
    if request.compiled:
        _try_compiler(device)
    module = subject.fresh()
    if request.spec.plugin and not request.compiled:
        # One error that says what is wrong, in the place of every check failing for it.
        request.progress("running it once")
        run_declared(request.spec, module, subject.inputs())
    results = []
    for check in chosen:
        request.progress(f"checking {check.name}")
        results.append(replace(_run(check, subject), repeat=_repeat(request, check)))
    spec = request.spec.with_sizes(subject.sizes)
    dtypes = count_dtypes(module.parameters())
    return SmokeReport(spec, str(device), tuple(results), request.compiled, dtypes)


def _try_compiler(device: torch.device) -> None:
    """Raise where torch.compile doesn't work at all, so that no model is blamed for it."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except Exception as error:
        raise NnkitError(
            f"torch.compile doesn't work here: {first_line(error)}",
            "install a C++ compiler, or leave --compile out",
        ) from error


def choose(names: Iterable[str] | None, full: bool, host: Host) -> Iterable[Check]:
    """Return the checks of these names, or all for None; raises UsageProblem for one that isn't there."""
    offered = {check.name: check for check in (*CHECKS, *host.checks())}
    if names is None:
        return [check for check in offered.values() if full or not check.full]
    for name in names:
        if name not in offered:
            raise UsageProblem(
                f"there is no check {name!r}", did_you_mean(name, offered) or f"one of: {', '.join(offered)}"
            )
    return [offered[name] for name in names]


def _repeat(request: SmokeRequest, check: Check) -> str:
    """Return the command that runs a check alone; for a module that Python gave, the call."""
    if not request.spec.typed:
        more = ", compiled=True" if request.compiled else ""
        return f"nnkit.smoke_run(module, inputs, checks=[{check.name!r}], device={request.device!r}{more})"
    device = () if request.device == "cpu" else ("--device", request.device)
    how = ("--compile",) if request.compiled else ()
    return request.spec.command("smoke-run", *device, *how, "--check", check.name)


def _run(check: Check, subject: Subject) -> CheckResult:
    """Run a check; a fault that other weights and inputs don't show was chance, and is a warning."""
    if reason := subject.spec.architecture.unsupported.get(check.name):
        return CheckResult(check.name, "skipped", reason)
    result = _once(check, subject)
    if result.status == "failed":
        again = _once(check, subject.another())
        if again.status in ("passed", "skipped"):
            told = f"{result.message} (not so with another seed)"
            return CheckResult(check.name, "warned", told)
    return result


def _once(check: Check, subject: Subject) -> CheckResult:
    try:
        return CheckResult(check.name, "passed", load(check.run)(subject) or "")
    except Failed as fault:
        return CheckResult(check.name, "failed", str(fault))
    except Warned as doubt:
        return CheckResult(check.name, "warned", str(doubt))
    except Skipped as reason_not:
        return CheckResult(check.name, "skipped", str(reason_not))
    except Exception as error:
        return CheckResult(check.name, "failed", f"{type(error).__name__}: {first_line(error)}")
