"""What lies in examples/ runs."""

import pytest
from conftest import ROOT, python

import nnkit

EXAMPLES = ROOT / "examples"


def test_the_tour_runs(tmp_path):
    done = python("-W", "error", str(EXAMPLES / "tour.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "25,557,032 parameters, 4,089,184,256 multiply-adds" in done.stdout
    assert "torch.Size([2, 10])" in done.stdout
    assert "passed gradients all 4 parameters" in done.stdout


@pytest.mark.parametrize(("name", "parameters"), [("resnet18-cifar10", 11_173_962), ("gcn-cora", 23_063)])
def test_the_spec_files_are_models(name, parameters):
    assert nnkit.summarize(str(EXAMPLES / "specs" / f"{name}.yaml")).totals.parameters == parameters
