"""The checks of the suite, and how a check is applied to a candidate. Torch-free.

`nnkit.testing` and `nnkit plugins check` both run these checks.
"""

from dataclasses import dataclass

from nnkit.authoring.conformance.candidate import Candidate
from nnkit.contract.loading import load
from nnkit.errors import NnkitError, first_line

VERSION = 2


class Unmet(AssertionError):
    """A check failed: `message` says what is wrong, `hint` what the author of the plugin can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class Doubtful(Exception):
    """A check passed, but something may still be wrong."""


class NotApplicable(Exception):
    """A check has nothing to examine, or it fails as the architecture declares."""


@dataclass(frozen=True)
class SuiteCheck:
    """A check of the suite.

    Attributes:
        name: of the check.
        run: `module:function`, called with the candidate; it returns what it saw, or raises one of the above.
        hint: what to do when it fails.
        since: the version of the suite that introduced it.
        declared_by: the keys of `Architecture.unsupported` that declare that it fails. The check is run
            anyway: if it passes, the declaration is wrong.
    """

    name: str
    run: str
    hint: str
    since: int = 1
    declared_by: tuple[str, ...] = ()


PLUGIN_CHECKS = (
    SuiteCheck(
        "import",
        "nnkit.authoring.conformance.declared:imports",
        "name code as `module:function`, so that it is imported only when it is needed",
    ),
)

ARCHITECTURE_CHECKS = (
    SuiteCheck(
        "config",
        "nnkit.authoring.conformance.declared:config",
        "make it a frozen, keyword-only dataclass of plain values: numbers, text, tuples, Literal, None",
    ),
    SuiteCheck(
        "help",
        "nnkit.authoring.conformance.declared:help_text",
        "describe a field with Annotated[…, Meta(description=…)], and a dim with Dim(description=…)",
    ),
    SuiteCheck(
        "meta",
        "nnkit.authoring.conformance.built:meta",
        "a constructor must not depend on the values of its weights",
        declared_by=("meta",),
    ),
    SuiteCheck(
        "signature",
        "nnkit.authoring.conformance.signature:signature",
        "declare the parameters of forward by name; what one holds, with dots: cache.0.key",
        since=2,
        declared_by=("signature",),
    ),
    SuiteCheck(
        "shapes",
        "nnkit.authoring.conformance.shapes:shapes",
        "correct `outputs`, or the limits of the dim: Dim(min=…, max=…, multiple_of=…)",
        declared_by=("shapes",),
    ),
    SuiteCheck(
        "bounds",
        "nnkit.authoring.conformance.shapes:bounds",
        'let a bound follow the option: Dim(multiple_of="2**levels"); or add to `constraints`',
        since=2,
        declared_by=("bounds",),
    ),
    SuiteCheck(
        "determinism",
        "nnkit.authoring.conformance.built:determinism",
        "draw weights from torch's default generator, which nnkit seeds, and nothing random in eval mode",
        declared_by=("determinism",),
    ),
    SuiteCheck(
        "gradients",
        "nnkit.authoring.conformance.built:gradients",
        "use every parameter in forward, or set its requires_grad to False",
        declared_by=("gradients",),
    ),
    SuiteCheck(
        "safetensors",
        "nnkit.authoring.conformance.built:safetensors",
        "keep all state of the model in parameters and buffers",
        declared_by=("safetensors", "export"),
    ),
    SuiteCheck(
        "onnx",
        "nnkit.authoring.conformance.built:onnx",
        'see more: nnkit export ARCH --onnx -v; if unsupported, declare it: unsupported={"onnx": "why"}',
        declared_by=("onnx", "export"),
    ),
    SuiteCheck(
        "smoke-run",
        "nnkit.authoring.conformance.built:smoke_run",
        "run a single check: nnkit smoke-run ARCH --check NAME",
        declared_by=("smoke-run",),
    ),
    SuiteCheck(
        "schemas",
        "nnkit.authoring.conformance.reports:valid_reports",
        "your own handler must return the same report as core's, with plain values",
    ),
    SuiteCheck(
        "unsupported",
        "nnkit.authoring.conformance.reports:unsupported",
        "declare only what really fails: a verb, an export format, a check of smoke-run or of this suite",
    ),
)


def meet(check: SuiteCheck, candidate: Candidate) -> str:
    """Return what a check saw; raises Unmet, Doubtful or NotApplicable."""
    reasons = [candidate.unsupported[key] for key in check.declared_by if candidate.unsupported.get(key)]
    if not reasons:
        return _run(check, candidate)
    try:
        _run(check, candidate.undeclared())
    except (Unmet, Doubtful, NotApplicable) as fault:
        raise NotApplicable(f"declared unsupported: {reasons[0]}") from fault
    raise Unmet(f"it passes, but is declared unsupported: {reasons[0]}", "remove it from `unsupported`")


def _run(check: SuiteCheck, candidate: Candidate) -> str:
    try:
        saw: str = load(check.run)(candidate)
        return saw
    except (Doubtful, NotApplicable):
        raise
    except Unmet as fault:
        fault.hint = fault.hint or check.hint
        raise
    except NnkitError as error:
        raise Unmet(error.message, check.hint) from error
    except Exception as error:
        raise Unmet(f"{type(error).__name__}: {first_line(error)}", check.hint) from error
