"""Module -> safetensors, in one file or in shards, with the ModelSpec in it; and read back.

The ModelSpec, the digest and whatever else is told stand under one key, because the format writes
several in random order.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, VerificationFailed
from nnkit.models import metadata
from nnkit.models.building import build_to_load
from nnkit.models.weights import digest, load_weights
from nnkit.verbs.exporting.report import Check, Proof
from nnkit.verbs.exporting.stamp import stamp

RESERVED = "__metadata__"
INSTALL_HUB = "pip install 'nnkit[hub]'"


def write_safetensors(
    module: nn.Module, spec: ModelSpec, path: Path, verify: bool = True, max_shard_size: str | None = None
) -> Path:
    """Write the state dict of `module`, tied tensors once; return the file that stands for all of it.

    verify: whether it will be read back; the file says so. max_shard_size: like `5GB`: where the weights
    take more, they are written in several files `NAME-00001-of-00002.safetensors` and an index, which is
    what is returned.

    Raises UsageProblem for tensors that the format doesn't have.
    """
    tensors = _writable(module.state_dict(keep_vars=True))
    shards = _split(tensors, path, max_shard_size) if max_shard_size else {path.name: list(tensors)}
    if len(shards) == 1:
        _write(tensors, spec, path, verify)
        return path
    told = _told(spec, tensors, verify)
    whole = json.loads(told)["sha256"]
    for name, members in shards.items():
        _write({each: tensors[each] for each in members}, spec, path.with_name(name), verify, whole)
    index = path.with_name(path.name.removesuffix(".safetensors") + metadata.INDEX)
    content = {
        "metadata": {
            metadata.KEY: told,
            "total_size": sum(each.nbytes for each in tensors.values()),
        },
        "weight_map": {each: name for name, members in shards.items() for each in members},
    }
    index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return index


def _write(
    tensors: Mapping[str, Tensor], spec: ModelSpec, path: Path, verify: bool, whole: str | None = None
) -> None:
    try:
        save_file(dict(tensors), path, metadata={metadata.KEY: _told(spec, tensors, verify, whole)})
    except SafetensorError as error:  # what it says of a full disk
        raise NnkitError(f"can't write {path.name}: {error}", "what was there before is unchanged") from error


def _told(spec: ModelSpec, tensors: Mapping[str, Tensor], verify: bool, whole: str | None = None) -> str:
    """Return what a file says of itself. whole: of one of several files, the digest of all their tensors."""
    # The weights are the file's own, wherever they came from. The proof is told before it is made, because
    # it is of the whole file: one that doesn't hold leaves none.
    proof = Proof("reading back", (), equal=(len(tensors), len(tensors))).to_dict() if verify else None
    told = stamp(replace(spec, weights=None, strict=True))
    of_all = {} if whole is None else {metadata.WHOLE: whole}
    return metadata.encode({**told, "sha256": digest(tensors), **of_all, "proof": proof})


def _writable(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return each tensor once, contiguous, and with memory of its own."""
    bad = [
        name
        for name, each in state.items()
        if not isinstance(each, Tensor)
        or each.is_sparse
        or each.is_quantized
        or each.is_meta
        or name == RESERVED
    ]
    if bad:
        raise UsageProblem(
            f"safetensors has no place for {', '.join(bad[:5])}: a sparse, quantized or missing tensor, "
            "or the reserved name __metadata__",
            "make it a plain tensor, or leave it out of the state dict",
        )
    once: dict[tuple[Any, ...], str] = {}
    for name, each in state.items():
        view = (each.data_ptr(), each.shape, each.stride(), each.dtype) if each.numel() else (name,)
        once.setdefault(view, name)
    places = [state[name].untyped_storage().data_ptr() for name in once.values()]
    # Views that share part of a storage are copied: the format has no overlaps.
    return {
        name: state[name].detach().clone(memory_format=torch.contiguous_format)
        if places.count(place) > 1 or not state[name].is_contiguous()
        else state[name].detach()
        for name, place in zip(once.values(), places, strict=True)
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and not (
        value.layout != torch.strided or value.is_quantized or value.is_meta
    )


def _split(tensors: dict[str, Tensor], path: Path, max_shard_size: str) -> dict[str, list[str]]:
    try:
        from huggingface_hub import split_torch_state_dict_into_shards
    except ImportError as error:
        raise PluginProblem("--max-shard-size needs the package huggingface_hub", INSTALL_HUB) from error
    pattern = path.name.removesuffix(".safetensors") + "{suffix}.safetensors"
    try:
        split = split_torch_state_dict_into_shards(
            tensors, filename_pattern=pattern, max_shard_size=max_shard_size
        )
    except ValueError as error:
        raise UsageProblem(f"{max_shard_size!r} is no size: {error}", "for example: 500MB, 5GB") from error
    return dict(split.filename_to_tensors)


def prove_safetensors(path: Path, module: nn.Module, spec: ModelSpec, host: Host) -> Proof:
    """Read the file into a fresh module and compare every tensor, bit for bit."""
    if metadata.read(path)["spec"] != replace(spec, weights=None, strict=True).to_dict():
        raise VerificationFailed(f"{path.name} lost its ModelSpec")
    fresh = build_to_load(replace(spec, strict=True), host)
    try:
        load_weights(fresh, path)
    except NnkitError as error:
        raise VerificationFailed(f"{path.name} can't be read back: {error.message}") from error
    return compare_states(path.name, module.state_dict(), fresh.state_dict())


def compare_states(name: str, expected: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> Proof:
    """Return the proof that tensors are equal bit for bit; raises VerificationFailed where one isn't."""
    checks = tuple(_check(key, tensor, read[key]) for key, tensor in expected.items())
    if wrong := [check.output for check in checks if not check.passed]:
        raise VerificationFailed(f"{name} has other values in {', '.join(wrong[:3])}")
    return Proof("safetensors", checks, equal=(len(checks), len(checks)))


def _check(name: str, tensor: Tensor, read: Tensor) -> Check:
    same = tensor.dtype == read.dtype and tensor.shape == read.shape
    same = same and torch.equal(_bits(tensor), _bits(read))
    return Check({}, name, 0.0 if same else float("inf"), 0.0, same, "" if same else "differs")


def _bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, so that NaN equals itself."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
