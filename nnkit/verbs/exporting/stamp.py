"""What every exported file says about itself: the ModelSpec, and the versions that wrote it."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnkit import __version__
from nnkit.contract.spec import ModelSpec
from nnkit.models.hub_names import names_hub

PACKAGES = ("torch", "onnx", "onnxscript", "safetensors")


def stamp(spec: ModelSpec) -> dict[str, Any]:
    """Return the stamp as plain data: the same for the same model, on every machine."""
    weights = spec.weights
    if weights is not None and not names_hub(weights):
        weights = Path(weights).name
    without_folder = replace(spec, weights=weights)
    return {
        "nnkit": __version__,
        "spec": without_folder.to_dict(),
        "versions": {package: version(package) for package in PACKAGES} | dict(spec.architecture.versions),
    }


def signature(inputs: Sequence[str], outputs: Sequence[str], dims: Sequence[str]) -> dict[str, Any]:
    """Return what an executable file declares: the names of its inputs, outputs and free dims."""
    return {"inputs": list(inputs), "outputs": list(outputs), "dims": list(dims)}
