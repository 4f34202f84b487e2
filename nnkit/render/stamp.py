"""The record that nnkit writes into a file about its making -> lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from nnkit.contract.text import format_percent, format_sizes


def lines(stamp: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (what, text): who made the file, of which model, and what proved it."""
    versions = ", ".join(f"{name} {version}" for name, version in stamp.get("versions", {}).items())
    yield "made by", f"nnkit {stamp['nnkit']}{versions and f' with {versions}'}"
    spec = stamp["spec"]
    options = " ".join(f"{name}={value}" for name, value in spec["config"].items())
    weights = spec["weights"] or f"seed {spec['seed']}"
    yield "model", f"{spec['architecture']} {options}".rstrip() + f", {spec['dtype']}, weights from {weights}"
    if "sha256" in stamp:
        yield "sha256", f"{stamp['sha256']} (of the weights)"
    if "proof" in stamp:
        yield "proof", _proof(stamp["proof"])


def _proof(proof: Mapping[str, Any] | None) -> str:
    if not proof:
        return "none: it was not proven when it was written"
    if not proof["outputs"]:
        return f"read back when it was written, {proof['equal'][0]} tensors equal bit for bit"
    worst = max((output["max_abs_diff"] / (output["scale"] or 1) for output in proof["outputs"]), default=0.0)
    at = "; ".join(format_sizes(sizes) for sizes in proof["sizes"])
    share = (proof["coverage"] or {}).get("share")
    parameters = "" if share is None else f", {format_percent(share)} of the parameters"
    return f"in {proof['runner']} at {at}: differences up to {worst:.1g} of the spread{parameters}"
