"""What every exported file tells of itself: the ModelSpec, and the versions that made it."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnkit import __version__
from nnkit.contract.spec import ModelSpec

MAKERS = ("torch", "onnx", "onnxscript", "safetensors")


def stamp(spec: ModelSpec) -> dict[str, Any]:
    """Return it as plain data, the same for the same model; it says nothing of the machine it was made on."""
    # Of the weights' place the name alone.
    told = replace(spec, weights=spec.weights and Path(spec.weights).name)
    return {
        "nnkit": __version__,
        "spec": told.to_dict(),
        "versions": {maker: version(maker) for maker in MAKERS},
    }


def signature(inputs: Sequence[str], outputs: Sequence[str], dims: Sequence[str]) -> dict[str, Any]:
    """Return what a file that runs declares: the names of its inputs and outputs, and of its free dims."""
    return {"inputs": list(inputs), "outputs": list(outputs), "dims": list(dims)}
