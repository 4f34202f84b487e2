"""Weights in files: safetensors, whole or in shards, and `.pt` by `weights_only`; no code in them runs."""

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.contract.text import format_shape, shorten
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models import metadata

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
    if halves := _different_halves(module, state):
        raise UsageProblem(
            f"{halves[0]} and {halves[1]} are one tensor in the model, and have different values in {path}",
            "load a file in which they are equal, or untie them in the model",
        )
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        told = [
            f"{name} is {format_shape(each.shape)} in the file, {format_shape(own[name].shape)} in the model"
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
        return _state_dict(path)
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
    where, _ = metadata.read_index(path)
    tensors: dict[str, Tensor] = {}
    shards = dict.fromkeys(where.values())
    metadata.check_shards(path, shards)
    for shard in shards:
        tensors |= _read_safetensors(path.parent / shard)
    metadata.check_found(path, where, tensors)
    return tensors


def read_pickled(path: Path, device: str = "cpu") -> object:
    """Return what is in a file of torch.save: tensors and plain data. No code in it runs.

    Raises NnkitError for anything else, and for a damaged file.
    """
    _check_unpacked(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of TorchScript archives
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise NnkitError(
            f"{path} holds more than tensors and plain data, and was not run: {_reason(error)}",
            "save the state dict alone: torch.save(model.state_dict(), file), or convert it to safetensors",
        ) from error
    except Exception as error:  # torch has no class of its own for what it can't read
        raise metadata.damaged(path, _reason(error)) from error


def _check_unpacked(path: Path) -> None:
    """Raise NnkitError for an archive that unpacks to more than it takes, as none of torch.save does."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise metadata.damaged(path, error) from error
    if unpacked > path.stat().st_size:
        raise metadata.damaged(path, f"it unpacks to {unpacked:,} bytes, which torch.save never writes")


def _reason(error: Exception) -> str:
    """Return what torch says in a line, without its advice to trust the file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "GLOBAL" in line or "Unsupported" in line or "TorchScript" in line]
    return (told or lines or [type(error).__name__])[0]


def _state_dict(path: Path) -> dict[str, Tensor]:
    content = read_pickled(path)
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


def _different_halves(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return two names of one tensor of the module that have different values in a file, if there are any."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in state and isinstance(tensor, Tensor) and not is_lazy(tensor):
            other = first.setdefault(_identity(tensor), name)
            if not _equal(state[other], state[name]):
                return other, name
    return None


def _equal(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are the same bit for bit, NaN included."""
    if left is right:
        return True
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        return False
    one, other = (each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (left, right))
    return torch.equal(one, other)


def _identity(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.stride()


def _misfit(path: Path, faults: Mapping[str, list[str]]) -> UsageProblem:
    told = "; ".join(f"{kind}: {shorten(names, LISTED)}" for kind, names in faults.items() if names)
    return UsageProblem(
        f"the weights in {path} don't fit: {told}",
        "give the options that they were made with; --no-strict takes those that are in both",
    )
