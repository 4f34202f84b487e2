"""What a plugin should prove: its numbers, and that it keeps to what nnkit expects of every plugin."""

import nnkit
from nnkit.testing import ArchitectureSuite


class TestPerceptron(ArchitectureSuite):
    """The conformance suite: shapes, gradients, files, reports, behavior."""

    plugin = "perceptron"


def test_parameters_and_multiply_adds_of_the_mnist_preset():
    totals = nnkit.summarize("perceptron", preset="mnist").totals
    assert totals.macs == 784 * 512 + 512 * 512 + 512 * 10
    assert totals.parameters == totals.macs + 512 + 512 + 10
