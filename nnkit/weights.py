"""Weights in files: safetensors, whole or in shards, and `.pt` by `weights_only`; no code in them runs."""

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nnkit import metadata
from nnkit.errors import NnkitError, UsageProblem

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
NESTED = ("state_dict", "model_state_dict", "model", "module")
LISTED = 8


def load_weights(module: nn.Module, path: Path, strict: bool = True) -> None:
    """Load a file of weights into `module`.

    strict: every tensor of the module must be in the file and the other way round; else those that are
    in both are loaded. Shapes must agree in any case.

    Raises UsageProblem with the names that are missing, left over or of another shape; NnkitError when
    the file is damaged.
    """
    state = read_weights(path)
    own = module.state_dict()
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        told = [
            f"{name} is {_shape(each)} in the file, {_shape(own[name])} in the model"
            for name, each in state.items()
            if name in own and own[name].shape != each.shape
        ]
        raise _misfit(path, {"other shapes": told or [" ".join(str(error).split())]}) from error
    missing = _not_tied(module, set(result.missing_keys))
    faults = {"missing": sorted(missing), "left over": sorted(result.unexpected_keys)}
    if strict and any(faults.values()):
        raise _misfit(path, faults)
    if len(result.missing_keys) == len(own):
        raise _misfit(path, {"missing": ["all of them"]})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file by name; in one that nnkit wrote, they are what was written.

    Raises UsageProblem for what is no file of weights, NnkitError for a damaged one.
    """
    if not path.is_file():
        raise UsageProblem(f"there is no weights file {path}", "name it: --weights FILE")
    if path.name.endswith(metadata.INDEX):
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return _read_pickled(path)
    kinds = ", ".join((".safetensors", metadata.INDEX, *PICKLED))
    raise UsageProblem(f"{path} is no file of weights by its name", f"one ends in {kinds}")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, dtypes, shapes and values, in the order of the names."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise metadata.damaged(path, error) from error
    if metadata.is_ours(path):
        wanted = metadata.read(path).get("sha256")
        if wanted is not None and digest(tensors) != wanted:
            raise metadata.damaged(path, "its values are not those that were written (sha256)")
    return tensors


def _read_shards(path: Path) -> dict[str, Tensor]:
    try:
        where = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise metadata.damaged(path, "it is no index: it has no weight_map") from error
    tensors: dict[str, Tensor] = {}
    for shard in dict.fromkeys(where.values()):
        if Path(shard).name != shard:
            raise metadata.damaged(path, f"it names {shard!r}, which is in another folder")
        if not (path.parent / shard).is_file():
            raise NnkitError(f"{path} names {shard}, which isn't there", "fetch it too, beside the index")
        tensors |= _read_safetensors(path.parent / shard)
    if lacking := [name for name in where if name not in tensors]:
        raise metadata.damaged(path, f"{', '.join(lacking[:3])} should be in {where[lacking[0]]} and isn't")
    return tensors


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of TorchScript archives
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NnkitError(
            f"{path} holds more than tensors and plain data, and was not run",
            "save the state dict alone: torch.save(model.state_dict(), file), or convert it to safetensors",
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, AttributeError, KeyError) as error:
        raise metadata.damaged(path, str(error).splitlines()[0] if str(error) else error) from error
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = content if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise UsageProblem(f"{path} holds no state dict", "torch.save(model.state_dict(), file) writes one")
    return dict(tensors)


def _not_tied(module: nn.Module, missing: set[str]) -> set[str]:
    """Return those of the missing names that are no second name of a tensor that is there."""
    state = module.state_dict(keep_vars=True)
    there = {_identity(each) for name, each in state.items() if name not in missing}
    return {name for name in missing if name not in state or _identity(state[name]) not in there}


def _identity(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr() if tensor.numel() else id(tensor), tuple(tensor.shape), tensor.stride()


def _misfit(path: Path, faults: Mapping[str, list[str]]) -> UsageProblem:
    told = "; ".join(f"{kind}: {_some(names)}" for kind, names in faults.items() if names)
    return UsageProblem(
        f"the weights in {path} don't fit: {told}",
        "give the options that they were made with; --no-strict takes those that are in both",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "1"
