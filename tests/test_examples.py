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


@pytest.mark.parametrize(("name", "parameters"), [("small", 9_853_440), ("large", 238_503_936)])
def test_the_tagger_has_the_parameters_of_its_layers(name, parameters):
    from nnkit.models.references import look_up
    from nnkit.verbs.core_handlers import plugin_manager

    words = ["words: int64[batch, time=20]"]
    report = nnkit.summarize(look_up(f"{EXAMPLES}/tagger.py:{name}", plugin_manager(), words).resolve())
    width, hidden, layers = {"small": (256, 704, 4), "large": (1024, 2816, 24)}[name]
    block = 3 * width * hidden + 2 * width + (3 + 1) * width
    assert report.totals.parameters == parameters == (30_000 + 17 + 1) * width + layers * block
