"""The checks of the suite, and how one of them is held against a candidate. Torch-free.

`nnkit.testing` and `nnkit plugins check` run these very checks.
"""

from dataclasses import dataclass

from nnkit.authoring.conformance.candidate import Candidate
from nnkit.contract.loading import load
from nnkit.errors import NnkitError, first_line

VERSION = 1


class Unmet(AssertionError):
    """A check does not hold; `message` says what is wrong, `hint` what its author can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class Doubtful(Exception):
    """A check holds, and something may still be wrong."""


class NotApplicable(Exception):
    """A check has nothing to look at, or the architecture declares that it can't hold, and it doesn't."""


@dataclass(frozen=True)
class SuiteCheck:
    """A check of the suite.

    run: `module:function`, called with the candidate; returns what it saw, or raises one of the above.
    hint: what to do where it doesn't hold. since: the version of the suite that it came with.
    declared_by: the keys of `Architecture.unsupported` that say that it can't hold. It is tried all the
    same: where it holds, the declaration is what is wrong.
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
        "name code as `module:function`, so that it is imported when it is needed",
    ),
)

ARCHITECTURE_CHECKS = (
    SuiteCheck(
        "config",
        "nnkit.authoring.conformance.declared:config",
        "a config is a frozen, keyword-only dataclass of plain values: numbers, text, tuples, Literal, None",
    ),
    SuiteCheck(
        "help",
        "nnkit.authoring.conformance.declared:help_text",
        "a field is explained by Annotated[…, Meta(description=…)], a dim by Dim(description=…)",
    ),
    SuiteCheck(
        "meta",
        "nnkit.authoring.conformance.built:meta",
        "a constructor should not look at the values of its weights",
        declared_by=("meta",),
    ),
    SuiteCheck(
        "shapes",
        "nnkit.authoring.conformance.built:shapes",
        "mend `outputs`, or the limits of the dim: Dim(min=…, max=…, multiple_of=…)",
        declared_by=("shapes",),
    ),
    SuiteCheck(
        "determinism",
        "nnkit.authoring.conformance.built:determinism",
        "draw weights with torch's own generator, which nnkit seeds, and nothing at random in eval mode",
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
        "keep all that the model is in parameters and buffers",
        declared_by=("safetensors", "export"),
    ),
    SuiteCheck(
        "onnx",
        "nnkit.authoring.conformance.built:onnx",
        'see more: nnkit export ARCH --onnx -v; what can\'t be is declared: unsupported={"onnx": "why"}',
        declared_by=("onnx", "export"),
    ),
    SuiteCheck(
        "smoke-run",
        "nnkit.authoring.conformance.built:smoke_run",
        "see each check alone: nnkit smoke-run ARCH --check NAME",
        declared_by=("smoke-run",),
    ),
    SuiteCheck(
        "schemas",
        "nnkit.authoring.conformance.reports:valid_reports",
        "a handler of your own returns the report that core's does, with plain values in it",
    ),
    SuiteCheck(
        "unsupported",
        "nnkit.authoring.conformance.reports:unsupported",
        "declare only what is so: a verb, an export format, a check of smoke-run or of this suite",
    ),
)


def meet(check: SuiteCheck, candidate: Candidate) -> str:
    """Return what a check saw; raises Unmet, Doubtful or NotApplicable."""
    reason = next(filter(None, map(candidate.unsupported.get, check.declared_by)), None)
    if reason is None:
        return _run(check, candidate)
    try:
        _run(check, candidate.undeclared())
    except (Unmet, Doubtful, NotApplicable) as fault:
        raise NotApplicable(f"declared unsupported: {reason}") from fault
    raise Unmet(f"it holds, but is declared unsupported: {reason}", "drop it from `unsupported`")


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
