"""SmokeReport -> JUnit XML, which CI systems read. https://github.com/testmoapp/junitxml"""

from xml.etree import ElementTree

from nnkit.smoke.report import SmokeReport


def as_junit(report: SmokeReport) -> str:
    """Return a test suite with a case for each check; a warning is a case that passed, with its text."""
    statuses = [check.status for check in report.checks]
    suite = ElementTree.Element(
        "testsuite",
        name=f"nnkit smoke-run {report.spec.name} on {report.device}",
        tests=str(len(statuses)),
        failures=str(statuses.count("failed")),
        skipped=str(statuses.count("skipped")),
    )
    for check in report.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=report.spec.name, name=check.name)
        if check.status in ("failed", "skipped"):
            kind = "failure" if check.status == "failed" else "skipped"
            entry = ElementTree.SubElement(case, kind, message=check.message)
            if kind == "failure":
                entry.text = f"again: {check.repeat}"
        else:
            ElementTree.SubElement(case, "system-out").text = f"{check.status}: {check.message}"
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
