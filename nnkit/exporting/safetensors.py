"""Module -> safetensors file with the ModelSpec in its metadata; and the file read back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_model
from torch import Tensor, nn

from nnkit import __version__, metadata
from nnkit.building import build_without_weights, load_weights
from nnkit.errors import NnkitError, VerificationFailed
from nnkit.exporting.report import Check
from nnkit.hookspecs import Host
from nnkit.spec import ModelSpec


def write_safetensors(module: nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write the state dict of `module`, tied tensors once."""
    text = metadata.encode({"nnkit": __version__, "spec": _told(spec)})
    try:
        save_model(module, str(path), metadata={metadata.KEY: text})
    except SafetensorError as error:  # what it says of a full disk
        raise NnkitError(f"can't write {path.name}: {error}", "what was there before is unchanged") from error


def _told(spec: ModelSpec) -> dict[str, Any]:
    """Return the spec as the file tells it: the weights are its own, wherever they came from."""
    return replace(spec, weights=None).to_dict()


def prove_safetensors(path: Path, module: nn.Module, spec: ModelSpec, host: Host) -> tuple[Check, ...]:
    """Read the file into a fresh module and compare every tensor, bit for bit."""
    if metadata.read(path)["spec"] != _told(spec):
        raise VerificationFailed(f"{path.name} lost its ModelSpec", "no file was written")
    fresh = build_without_weights(spec, host, limit=2**63)
    load_weights(fresh, path)
    read = fresh.state_dict()
    checks = tuple(_check(name, tensor, read[name]) for name, tensor in module.state_dict().items())
    wrong = [check.output for check in checks if not check.passed]
    if wrong:
        raise VerificationFailed(
            f"{path.name} has other values in {', '.join(wrong[:3])}", "no file was written"
        )
    return checks


def _check(name: str, tensor: Tensor, read: Tensor) -> Check:
    same = tensor.dtype == read.dtype and tensor.shape == read.shape
    same = same and torch.equal(_bits(tensor), _bits(read))
    return Check({}, name, 0.0 if same else float("inf"), 0.0, same, "" if same else "differs")


def _bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, so that NaN equals itself."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
