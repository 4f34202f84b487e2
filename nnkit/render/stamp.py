"""What nnkit wrote into a file about itself -> lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from nnkit.contract.text import format_percent, format_sizes


def lines(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (what, text): who made the file, of which model, and what proved it."""
    versions = ", ".join(f"{name} {version}" for name, version in told.get("versions", {}).items())
    yield "made by", f"nnkit {told['nnkit']}{versions and f' with {versions}'}"
    spec = told["spec"]
    options = " ".join(f"{name}={value}" for name, value in spec["config"].items())
    weights = spec["weights"] or f"seed {spec['seed']}"
    yield "model", f"{spec['architecture']} {options}".rstrip() + f", {spec['dtype']}, weights from {weights}"
    if "sha256" in told:
        yield "sha256", f"{told['sha256']} (of the weights)"
    if "proof" in told:
        yield "proof", _proof(told["proof"])


def _proof(told: Mapping[str, Any] | None) -> str:
    if not told:
        return "none: it was not proven when it was written"
    if not told["outputs"]:
        return f"read back when it was written, {told['equal'][0]} tensors equal bit for bit"
    worst = max((each["max_abs_diff"] / (each["scale"] or 1) for each in told["outputs"]), default=0.0)
    where = "; ".join(format_sizes(each) for each in told["sizes"])
    share = (told["coverage"] or {}).get("share")
    parameters = "" if share is None else f", {format_percent(share)} of the parameters"
    return f"in {told['runner']} at {where}: differences up to {worst:.1g} of the spread{parameters}"
