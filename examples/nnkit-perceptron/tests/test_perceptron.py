"""What a plugin should prove: its numbers, its file, its behaviour."""

import nnkit


def test_parameters_and_multiply_adds_of_the_mnist_preset():
    totals = nnkit.summarize("perceptron", preset="mnist").totals
    assert totals.macs == 784 * 512 + 512 * 512 + 512 * 10
    assert totals.parameters == totals.macs + 512 + 512 + 10


def test_export_is_proven(tmp_path):
    report = nnkit.export("perceptron", tmp_path / "perceptron.onnx")
    assert report.verified
    assert {check.sizes["batch"] for check in report.checks} >= {1, 2, 3}


def test_smoke_run_passes():
    assert nnkit.smoke_run("perceptron").passed
