"""Sound models of others: no check fails on them."""

import fnmatch
import warnings

import pytest

import nnkit

QUICK = (
    "torchvision/m*", "torchvision/resnet18", "timm/test_*", "timm/*_050", "timm/regnetx_002",
    "transformers/*",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pattern", QUICK)
def test_no_check_fails_on_a_sound_model(pattern):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        import clean

        chosen = [(name, spec) for name, spec in clean.models() if fnmatch.fnmatch(name, pattern)]
        reports = {name: nnkit.smoke_run(spec) for name, spec in chosen}
    failed = [
        f"{name} {check.name}: {check.message}"
        for name, report in reports.items()
        for check in report.checks
        if check.status == "failed"
    ]
    assert reports
    assert failed == []
