"""Declares the perceptron to nnkit. Doesn't import torch."""

from dataclasses import dataclass
from typing import Annotated

from nnkit import Architecture, Dim, Meta, Preset, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.1"


@dataclass(frozen=True, kw_only=True)
class PerceptronConfig:
    """Options of the perceptron."""

    in_features: Annotated[int, Meta(ge=1, description="features per sample")] = 784
    hidden_sizes: Annotated[tuple[int, ...], Meta(description="sizes of the hidden layers")] = (128,)
    num_classes: Annotated[int, Meta(ge=1, description="number of classes")] = 10


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the perceptron."""
    return [
        Architecture(
            name="perceptron",
            family="perceptron",
            summary="Linear layers with ReLU between them",
            build="nnkit_perceptron.perceptron:Perceptron",
            config=PerceptronConfig,
            inputs=[TensorSpec("x", ("batch", "in_features"))],
            outputs=[TensorSpec("logits", ("batch", "num_classes"))],
            dims={"batch": Dim(default=1, description="samples in a batch")},
            presets={"mnist": Preset(config={"hidden_sizes": (512, 512)}, description="two layers of 512")},
            paper="Rosenblatt 1958, The Perceptron, https://doi.org/10.1037/h0042519",
            equation="hₖ = relu(Wₖ hₖ₋₁ + bₖ),  h₀ = x,  logits = W h + b",
        )
    ]
