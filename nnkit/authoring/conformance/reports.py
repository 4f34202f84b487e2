"""Checks of the reports of the verbs, and of what an architecture declares as unsupported."""

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nnkit import api, schemas
from nnkit.authoring.conformance.candidate import ArchitectureCandidate
from nnkit.authoring.conformance.suite import ARCHITECTURE_CHECKS, NotApplicable, Unmet
from nnkit.contract.requests import SmokeRequest
from nnkit.errors import NnkitError, did_you_mean
from nnkit.models.building import build_module
from nnkit.verbs.smoke.checklist import CHECKS
from nnkit.verbs.smoke.handler import smoke_run as run_checks

TESTING = "pip install 'nnkit[testing]'"


def valid_reports(candidate: ArchitectureCandidate) -> str:
    """The reports of summary, export and smoke-run match their JSON schemas."""
    try:
        import jsonschema
    except ImportError as error:
        raise NotApplicable(f"it needs the package jsonschema: {TESTING}") from error
    matched = []
    for verb, make_report in _reports(candidate).items():
        try:
            report = make_report()
        except NnkitError:
            continue  # it is declared unsupported, or the check of that verb says why
        try:
            data = json.loads(json.dumps(report.to_dict()))
        except (TypeError, ValueError) as error:
            raise Unmet(f"the report of {verb} can't be written as JSON: {error}") from error
        try:
            jsonschema.validate(data, schemas.schema_of(data), cls=jsonschema.Draft202012Validator)
        except jsonschema.ValidationError as error:
            raise Unmet(f"the report of {verb} at {error.json_path}: {error.message}") from error
        matched.append(verb)
    return f"{', '.join(matched) or 'no report'}: valid against their schemas"


def _reports(candidate: ArchitectureCandidate) -> Mapping[str, Callable[[], Any]]:
    return {
        "summary": lambda: api.summarize(candidate.small, manager=candidate.host),
        "export": lambda: candidate.onnx_report,
        "smoke-run": lambda: candidate.smoke_report,
    }


def unsupported(candidate: ArchitectureCandidate) -> str:
    """Whatever else is declared unsupported really is."""
    covered = {name for check in ARCHITECTURE_CHECKS for name in check.declared_by}
    trials = _trials(candidate.undeclared())
    for name, reason in candidate.unsupported.items():
        if name in covered:
            continue
        if name not in trials:
            suggestion = did_you_mean(name, [*covered, *trials])
            raise Unmet(f"{name!r} is declared unsupported, but nothing has that name", suggestion)
        if _succeeds(trials[name]):
            raise Unmet(
                f"{name} works, but is declared unsupported: {reason}", "remove it from `unsupported`"
            )
    return ", ".join(candidate.unsupported) or "nothing is declared"


def _trials(candidate: ArchitectureCandidate) -> dict[str, Callable[[], bool]]:
    """Return functions that try what has no check of its own, by name; each returns whether it works."""
    spec, host = candidate.small, candidate.host

    def exports(format: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"model{api.suffix_of(format, host)}")
            return api.export(spec, path, format=format, manager=host) is not None

    def passes(check: str) -> bool:
        request = SmokeRequest(spec=spec, host=host, checks=(check,))
        return run_checks(request).checks[0].status == "passed"

    return {
        **{check.name: partial(passes, check.name) for check in (*CHECKS, *host.checks())},
        **{format: partial(exports, format) for format in api.formats_of(host)},
        "build": lambda: build_module(spec, host) is not None,
        "summary": lambda: api.summarize(spec, manager=host) is not None,
    }


def _succeeds(trial: Callable[[], bool]) -> bool:
    try:
        return trial()
    except Exception:
        return False
