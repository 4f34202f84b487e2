"""Read weights: safetensors, whole or in shards, and `.pt` with `weights_only`; no code in files runs."""

import argparse
import hashlib
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.contract.text import format_shape, shorten
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models import hub, metadata
from nnkit.models.checkpoints import FOUND, Part, StateDict, choose, rename, report, unwrap
from nnkit.models.hub_headers import read_headers
from nnkit.models.hub_names import names_hub, parse
from nnkit.models.safetensors_header import Entry, read_header
from nnkit.models.weight_files import PICKLED, PICKLED_INDEX, SUFFIXES

LISTED = 8
LOG = logging.getLogger("nnkit")
# As torch reports it, by the names of the model, which may rename those in the file before it loads them.
SIZE_MISMATCH = re.compile(r"size mismatch for (\S+): .*?Size\(\[(.*?)\]\).*?Size\(\[(.*?)\]\)")


def load_weights(module: nn.Module, path: Path, strict: bool = True, part: Part = FOUND) -> None:
    """Load a file of weights into `module`.

    strict: the file must have exactly the tensors of the module; otherwise the tensors in both are loaded.
    Shapes must always match. part: what of the file; see checkpoints.py.

    Raises UsageProblem with the names that are missing, left over or of a different shape; NnkitError when
    the file is damaged.
    """
    state = _read_for(module, path, part, "cpu")
    if untied := _find_untied(module, state):
        first, second = untied
        raise UsageProblem(
            f"{first} and {second} are one tensor in the model, but have different values in {path}",
            "load a file in which they are equal, or untie them in the model",
        )
    _load(module, state, path, strict)


def check_weights(module: nn.Module, path: Path, strict: bool = True, part: Part = FOUND) -> None:
    """Check names and shapes as `load_weights` does, for a module on the meta device; no value is read."""
    if _is_unread(path):
        LOG.info("%s is not safetensors, so its names and shapes are not compared", path)
        return
    _load(module, _read_for(module, path, part, "meta"), path, strict)


def _read_for(
    module: nn.Module, path: Path, part: Part, device: Literal["cpu", "meta"]
) -> Mapping[str, Tensor]:
    """Return the tensors of a file by the names of the module, and log what was found in the file."""
    state = read_state_dict(path, device, part.key)
    if part.prefix is None and _knows_other_names(module):
        renamed = unwrap(state.tensors, path)
    else:
        renamed = rename(state.tensors, module.state_dict().keys(), path, part.prefix)
    report(path, part, state, renamed)
    return renamed.tensors


def _knows_other_names(module: nn.Module) -> bool:
    """Whether a module loads tensors under further names itself, as those of some zoos do."""
    overrides = type(module).load_state_dict is not nn.Module.load_state_dict
    return overrides or bool(module._load_state_dict_pre_hooks)


def _is_unread(path: Path) -> bool:
    """Whether only a download could show which tensors a file has."""
    if not names_hub(str(path)):
        return False
    name = parse(str(path))
    return name.file.endswith((*PICKLED, PICKLED_INDEX)) and not hub.find_cached_weights(name)


def _load(module: nn.Module, state: Mapping[str, Tensor], path: Path, strict: bool) -> None:
    own = module.state_dict()
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        mismatches = [
            f"{name} is {_shape(theirs)} in the file, {_shape(ours)} in the model"
            for name, theirs, ours in SIZE_MISMATCH.findall(str(error))
        ]
        raise _misfit(path, {"other shapes": mismatches or [" ".join(str(error).split())]}) from error
    missing = _find_untied_missing(module, set(result.missing_keys))
    faults = {"missing": sorted(missing), "left over": sorted(result.unexpected_keys)}
    if strict and any(faults.values()):
        raise _misfit(path, faults)
    if len(result.missing_keys) == len(own):
        raise _misfit(path, {"missing": ["all of them"]})


def read_weights(path: Path, device: Literal["cpu", "meta"] = "cpu") -> dict[str, Tensor]:
    """Return the tensors in a file by name; see read_state_dict."""
    return dict(read_state_dict(path, device).tensors)


def read_state_dict(path: Path, device: Literal["cpu", "meta"] = "cpu", key: str | None = None) -> StateDict:
    """Return the state dict in a file; if nnkit wrote it, it is checked against its digest.

    path: of a file, or its name on the hub, from where it is downloaded. device: `meta` reads only names,
    dtypes and shapes, and downloads no values. key: where in the file it is.

    Raises UsageProblem for a file that can't hold weights, NnkitError for a damaged one.
    """
    if names_hub(str(path)):
        name = parse(str(path))
        if not name.file:
            raise NnkitError(
                f"no cache of this machine has the weights of {name.shown}, and the hub can't be asked",
                "connect to it, or leave the weights random: --weights random",
            )
        if device == "meta" and not name.file.endswith((*PICKLED, PICKLED_INDEX)):
            _refuse_key(path, key)
            entries = (entry for header in read_headers(name) for entry in header.entries)
            return StateDict("", {entry.name: _on_meta(entry) for entry in entries})
        path = hub.fetch_weights(name)
    if not path.is_file():
        raise UsageProblem(f"weights file {path} does not exist", "check the path: --weights FILE")
    if path.suffix in PICKLED:
        return choose(read_pickled(path, device), path, key)
    if path.suffix == ".safetensors" or path.name.endswith((metadata.INDEX, PICKLED_INDEX)):
        _refuse_key(path, key)
        read = _read_safetensors if path.suffix == ".safetensors" else _read_shards
        return StateDict("", read(path, device))
    suffixes = ", ".join(SUFFIXES)
    raise UsageProblem(
        f"the name of {path} doesn't end like that of a weights file", f"known endings: {suffixes}"
    )


def _refuse_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise UsageProblem(
            f"{path} has no keys: safetensors holds only tensors",
            "leave out --key; --strip-prefix takes those whose names begin alike",
        )


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, dtypes, shapes and values, in the order of the names."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def _read_safetensors(path: Path, device: str) -> dict[str, Tensor]:
    if device == "meta":
        return {entry.name: _on_meta(entry) for entry in read_header(path).entries}
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise metadata.damaged(path, error) from error
    if metadata.is_ours(path):
        expected = metadata.read(path).get("sha256")
        if expected is not None and digest(tensors) != expected:
            raise metadata.damaged(path, "its values have changed since it was written (sha256)")
    return tensors


def _on_meta(entry: Entry) -> Tensor:
    return torch.empty(entry.shape, dtype=getattr(torch, entry.dtype, torch.uint8), device="meta")


def _read_shards(path: Path, device: str) -> dict[str, Tensor]:
    shard_of, _ = metadata.read_index(path)
    tensors: dict[str, Tensor] = {}
    shards = dict.fromkeys(shard_of.values())
    if path.name.endswith(PICKLED_INDEX):
        for file in (path.parent / shard for shard in shards):
            tensors |= choose(read_pickled(file, device), file, key=None).tensors
    else:
        metadata.check_shards(path, shards)
        for shard in shards:
            tensors |= _read_safetensors(path.parent / shard, device)
    metadata.check_found(path, shard_of, tensors)
    return tensors


def read_pickled(path: Path, device: str = "cpu") -> object:
    """Return the content of a file of torch.save: tensors and plain data. No code in it runs.

    Raises NnkitError for anything else, and for a damaged file.
    """
    _check_unpacked(path)
    try:
        # Many scripts save their options beside the weights, as argparse returns them: attributes, no code.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # torch's, about TorchScript archives
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise NnkitError(
            f"{path} holds more than tensors and plain data, and was not run: {_reason(error)}",
            "save only the state dict: torch.save(model.state_dict(), file), or convert it to safetensors",
        ) from error
    except Exception as error:  # torch has no exception class of its own for this
        raise metadata.damaged(path, _reason(error)) from error


def _check_unpacked(path: Path) -> None:
    """Raise NnkitError for an archive that unpacks to more than its size; torch.save writes none."""
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
    """Return torch's reason in one line, without its advice to trust the file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if "GLOBAL" in line or "Unsupported" in line or "TorchScript" in line]
    return next(iter(reasons or lines), type(error).__name__)


def _find_untied_missing(module: nn.Module, missing: set[str]) -> set[str]:
    """Return those of the missing names whose tensor isn't tied to one that is present."""
    state = module.state_dict(keep_vars=True)
    present = {_identity(tensor) for name, tensor in state.items() if name not in missing}
    return {name for name in missing if name not in state or _identity(state[name]) not in present}


def _find_untied(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return two names of one tied tensor that have different values in a file, or None."""
    first_names: dict[tuple[object, ...], str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in state and isinstance(tensor, Tensor) and not is_lazy(tensor):
            first_name = first_names.setdefault(_identity(tensor), name)
            if not _equal(state[first_name], state[name]):
                return first_name, name
    return None


def _equal(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are the same bit for bit, NaN included."""
    if left is right:
        return True
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        return False
    return torch.equal(_bytes(left), _bytes(right))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _identity(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.stride()


def _shape(text: str) -> str:
    """Return `64×10` for `64, 10`."""
    return format_shape([int(size) for size in text.split(",") if size])


def _misfit(path: Path, faults: Mapping[str, list[str]]) -> UsageProblem:
    problems = "; ".join(f"{problem}: {shorten(names, LISTED)}" for problem, names in faults.items() if names)
    return UsageProblem(
        f"the weights in {path} don't fit: {problems}",
        "give the options that they were made with; --no-strict loads the tensors that are in both, and "
        "--weights random none",
    )
