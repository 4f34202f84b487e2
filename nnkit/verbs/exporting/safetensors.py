"""Module -> safetensors, in one file or in shards, with the ModelSpec in it; and read back.

The ModelSpec, the digest and everything else about the file are stored under one key, because the format
writes several keys in random order.
"""

import json
from collections import Counter
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
    """Write the state dict of `module`, tied tensors once; return the file to load.

    verify: whether it will be read back, which the file records. max_shard_size: the largest size of a file,
    like `5GB`. Larger weights are written to several files `NAME-00001-of-00002.safetensors` and an index,
    which is returned.

    Raises UsageProblem for tensors that the format doesn't support.
    """
    tensors = _make_writable(module.state_dict(keep_vars=True))
    shards = (
        _split_into_shards(tensors, path, max_shard_size) if max_shard_size else {path.name: list(tensors)}
    )
    if len(shards) == 1:
        _write(tensors, spec, path, verify)
        return path
    stamp_of_all = _encode_stamp(spec, tensors, verify)
    digest_of_all = json.loads(stamp_of_all)["sha256"]
    for shard, names in shards.items():
        in_shard = {name: tensors[name] for name in names}
        _write(in_shard, spec, path.with_name(shard), verify, digest_of_all)
    index = path.with_name(path.name.removesuffix(".safetensors") + metadata.INDEX)
    content = {
        "metadata": {
            metadata.KEY: stamp_of_all,
            "total_size": sum(tensor.nbytes for tensor in tensors.values()),
        },
        "weight_map": {name: shard for shard, names in shards.items() for name in names},
    }
    index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return index


def _write(
    tensors: Mapping[str, Tensor],
    spec: ModelSpec,
    path: Path,
    verify: bool,
    digest_of_all: str | None = None,
) -> None:
    text = _encode_stamp(spec, tensors, verify, digest_of_all)
    try:
        save_file(dict(tensors), path, metadata={metadata.KEY: text})
    except SafetensorError as error:  # a full disk, for example
        raise NnkitError(f"can't write {path.name}: {error}", "what was there before is unchanged") from error


def _encode_stamp(
    spec: ModelSpec, tensors: Mapping[str, Tensor], verify: bool, digest_of_all: str | None = None
) -> str:
    """Return what a file says about itself. digest_of_all: in a shard, the digest of the tensors of all."""
    # The proof is written before it is made, because it covers the whole file. If it fails, no file is left.
    proof = Proof("reading back", (), equal=(len(tensors), len(tensors))).to_dict() if verify else None
    # The weights are those of the file itself, wherever they came from.
    content = {**stamp(replace(spec, weights=None, strict=True)), "sha256": digest(tensors)}
    if digest_of_all is not None:
        content[metadata.WHOLE] = digest_of_all
    return metadata.encode({**content, "proof": proof})


def _make_writable(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return each tensor once, contiguous, and with memory of its own."""
    _check_supported(state)
    first_names: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        view = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        first_names.setdefault(view if tensor.numel() else (name,), name)
    tensors = {name: state[name].detach() for name in first_names.values()}
    uses = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    for name, tensor in tensors.items():
        # Views that share part of a storage are copied: the format has no overlaps.
        if uses[tensor.untyped_storage().data_ptr()] > 1 or not tensor.is_contiguous():
            tensors[name] = tensor.clone(memory_format=torch.contiguous_format)
    return tensors


def _check_supported(state: Mapping[str, Any]) -> None:
    unsupported = [
        name
        for name, tensor in state.items()
        if not isinstance(tensor, Tensor)
        or tensor.is_sparse
        or tensor.is_quantized
        or tensor.is_meta
        or name == RESERVED
    ]
    if unsupported:
        raise UsageProblem(
            f"safetensors can't store {', '.join(unsupported[:5])}: a sparse, quantized or missing tensor, "
            "or the reserved name __metadata__",
            "make it a plain tensor, or leave it out of the state dict",
        )


def _split_into_shards(tensors: dict[str, Tensor], path: Path, max_shard_size: str) -> dict[str, list[str]]:
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
        raise UsageProblem(f"{max_shard_size!r} is not a size: {error}", "examples: 500MB, 5GB") from error
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
    """Return the proof that tensors are equal bit for bit; raises VerificationFailed where one differs."""
    checks = tuple(_compare_tensor(key, tensor, read[key]) for key, tensor in expected.items())
    if different := [check.output for check in checks if not check.passed]:
        raise VerificationFailed(f"{name} has other values in {', '.join(different[:3])}")
    return Proof("safetensors", checks, equal=(len(checks), len(checks)))


def _compare_tensor(name: str, tensor: Tensor, read: Tensor) -> Check:
    same_type = tensor.dtype == read.dtype and tensor.shape == read.shape
    same = same_type and torch.equal(_bits(tensor), _bits(read))
    return Check({}, name, 0.0 if same else float("inf"), 0.0, same, "" if same else "differs")


def _bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, so that NaN equals itself."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
