"""SmokeReport, SweepReport -> JUnit XML, which CI systems read. https://github.com/testmoapp/junitxml"""

from collections.abc import Sequence
from xml.etree import ElementTree

from nnkit.contract.visible import visible_lines
from nnkit.verbs.smoke.report import CheckResult, SmokeReport
from nnkit.verbs.sweep.report import NOT_RUN, ModelResult, SweepReport


def as_junit(report: SmokeReport) -> str:
    """Return a test suite with a case for each check; a warning is a case that passed, with its text."""
    suite = _suite(report.spec.name, report.device, report.checks)
    for name in report.not_run:
        case = ElementTree.SubElement(suite, "testcase", classname=report.spec.name, name=name)
        ElementTree.SubElement(case, "error", message="not run: interrupted")
    if report.not_run:
        suite.set("tests", str(len(report.checks) + len(report.not_run)))
        suite.set("errors", str(len(report.not_run)))
    return _text(suite)


def sweep_as_junit(report: SweepReport) -> str:
    """Return a test suite for each model; one that could not be run has a single case, which is an error."""
    suites = ElementTree.Element("testsuites", name=f"nnkit smoke-run on {report.device}")
    for model in report.models:
        suite = _suite(model.name, report.device, model.checks)
        if model.status in (*NOT_RUN, "skipped") and not model.checks:
            _add_run(suite, model)
        suites.append(suite)
    return _text(suites)


def _add_run(suite: ElementTree.Element, model: ModelResult) -> None:
    """Add a case for the run of the model as a whole."""
    tag, count = ("skipped", "skipped") if model.status == "skipped" else ("error", "errors")
    suite.set("tests", "1")
    suite.set(count, "1")
    case = ElementTree.SubElement(suite, "testcase", classname=model.name, name="run")
    message = model.message if tag == "skipped" else f"{model.status}: {model.message}"
    ElementTree.SubElement(case, tag, message=message).text = f"again: {model.command}"


def _suite(name: str, device: str, checks: Sequence[CheckResult]) -> ElementTree.Element:
    statuses = [check.status for check in checks]
    suite = ElementTree.Element(
        "testsuite",
        name=f"nnkit smoke-run {name} on {device}",
        tests=str(len(statuses)),
        failures=str(statuses.count("failed")),
        skipped=str(statuses.count("skipped")),
    )
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=check.name)
        if check.status in ("failed", "skipped"):
            tag = "failure" if check.status == "failed" else "skipped"
            entry = ElementTree.SubElement(case, tag, message=check.message)
            if tag == "failure":
                entry.text = f"again: {check.repeat}"
        else:
            ElementTree.SubElement(case, "system-out").text = f"{check.status}: {check.message}"
    return suite


def _text(element: ElementTree.Element) -> str:
    ElementTree.indent(element)
    text = ElementTree.tostring(element, encoding="unicode", xml_declaration=True)
    return visible_lines(text) + "\n"  # most control characters can't be in XML
