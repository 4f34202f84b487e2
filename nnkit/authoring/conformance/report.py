"""The reports of the conformance suite. Torch-free."""

from dataclasses import asdict, dataclass
from typing import Any

from nnkit.authoring.conformance.suite import VERSION
from nnkit.verbs.smoke.report import CheckResult


@dataclass(frozen=True)
class ReportCard:
    """The results for a plugin as a whole, or for one of its architectures.

    Attributes:
        name: `plugin` or `plugin/architecture`.
        distribution, version: where the plugin comes from.
        checks: what each check of the suite found.

    Example:

        from nnkit.authoring.conformance.report import ReportCard

        found = CheckResult("config", "passed", "2 options")
        assert ReportCard("mine/net", "nnkit-mine", "1.0", (found,)).passed
    """

    name: str
    distribution: str
    version: str
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not any(check.status == "failed" for check in self.checks)


@dataclass(frozen=True)
class ConformanceReport:
    """The cards of all plugins and architectures that were checked: `cards`.

    Example:

        from nnkit.authoring.conformance.report import ConformanceReport

        assert ConformanceReport(cards=()).to_dict()["suite"] >= 1
    """

    SCHEMA = "nnkit.plugins-check/1"

    cards: tuple[ReportCard, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(card.passed for card in self.cards)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "suite": VERSION,
            "passed": self.passed,
            "cards": [{**asdict(card), "passed": card.passed} for card in self.cards],
        }
