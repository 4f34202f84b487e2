"""Seeded faults: each is caught by the check that is for it, and named."""

from dataclasses import replace

import pytest
import seeded

import nnkit
from nnkit.models.references import Reference
from nnkit.models.user_modules import architecture_of_code


def report_of(kind, full=False, checks=None, simulate=None):
    """Run the checks on a seeded module."""
    architecture = architecture_of_code(f"seeded:{kind.__name__}", kind.INPUTS)
    architecture = replace(architecture, causal=getattr(kind, "CAUSAL", ""))
    return nnkit.smoke_run(Reference(architecture, "").resolve(), full=full, checks=checks, simulate=simulate)


def failed(kind, full=False, checks=None, simulate=None):
    """Return what fails, check by check."""
    report = report_of(kind, full, checks, simulate)
    return {check.name: check.message for check in report.checks if check.status == "failed"}


@pytest.mark.parametrize("kind", [kind for kind in seeded.ALL if kind.CATCH], ids=lambda kind: kind.__name__)
def test_it_is_caught_by_the_check_that_is_for_it(kind):
    simulate = "cuda" if kind.CATCH == "placement" else None
    assert kind.CATCH in failed(kind, checks=[kind.CATCH], simulate=simulate)


@pytest.mark.slow
def test_a_sound_module_passes_every_check():
    assert failed(seeded.Base, full=True) == {}


def test_what_is_not_caught_is_known():
    assert {kind.__name__ for kind in seeded.ALL if kind.CATCH is None} == {
        "SoftmaxOverWrongAxis",
    }
    assert len(seeded.ALL) == 51
    assert len([kind for kind in seeded.MEASURED if kind.CATCH]) == len(seeded.MEASURED) - 1 == 28
