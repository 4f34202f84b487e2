"""Complex weights, inputs and outputs stay complex; ONNX holds them in reals, on a last axis of 2."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import nnkit
from nnkit.errors import VerificationFailed
from nnkit.models.references import look_up


class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, dtype=torch.complex64))

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=8)


class Product(nn.Module):
    """Takes and gives complex numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4, dtype=torch.complex64))

    def forward(self, z):
        return z @ self.weight


@pytest.fixture
def spec_of(tmp_path):
    def declared(factory, text):
        name = f"{__name__}:{factory.__name__}"
        return look_up(name, None, [text]).resolve()

    return declared


def test_an_onnx_file_has_the_imaginary_parts(spec_of, tmp_path):
    spec = spec_of(Spectrum, "x: float32[batch, 8]")
    report = nnkit.export(spec, tmp_path / "spectrum.onnx")
    assert report.verified
    assert report.proof.coverage.share == 1.0
    weight = nnkit.build(spec).weight.detach().numpy()
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(tmp_path / "spectrum.onnx").run(None, {"x": x})
    assert np.abs(found - np.fft.irfft(np.fft.rfft(x) * weight, n=8)).max() < 1e-5


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_complex_inputs_and_outputs_are_proven(spec_of, tmp_path, suffix):
    spec = spec_of(Product, "z: complex64[batch, 8]")
    file = tmp_path / f"product.{suffix}"
    assert nnkit.export(spec, file).verified
    if suffix == "onnx":
        generator = np.random.default_rng(0)
        z = (generator.standard_normal((3, 8)) + 1j * generator.standard_normal((3, 8))).astype(np.complex64)
        session = onnxruntime.InferenceSession(file)
        (found,) = session.run(None, {"z": z.view(np.float32).reshape(3, 8, 2)})
        expected = z @ nnkit.build(spec).weight.detach().numpy()
        assert np.abs(found[..., 0] + 1j * found[..., 1] - expected).max() < 1e-5


def test_a_file_without_the_imaginary_parts_is_refused(spec_of, tmp_path):
    spec, file = spec_of(Spectrum, "x: float32[batch, 8]"), tmp_path / "real.onnx"
    real = nnkit.build(spec)
    with torch.no_grad():
        real.weight.imag.zero_()
    nnkit.export(real, file, [torch.randn(2, 8)])
    with pytest.raises(VerificationFailed, match="weight"):
        nnkit.verify(file, spec)
