"""The lines beneath the table of a summary: totals, memory, what was not counted."""

from collections.abc import Iterator
from itertools import chain

from nnkit.contract.text import fold_names, format_bytes, shorten
from nnkit.render.assumed import assumed_lines
from nnkit.render.document import Line
from nnkit.render.summary_columns import format_argument, format_value
from nnkit.verbs.summary.report import (
    Failure,
    Fit,
    Memory,
    Sharded,
    SummaryReport,
    Totals,
    Variant,
    tensors_of,
)


def total_lines(report: SummaryReport) -> list[Line]:
    """Return the lines in order."""
    return [
        *(_failure_lines(report.failure) if report.failure else ()),
        *_count_lines(report.totals),
        *(_variant_line(report, variant) for variant in report.variants),
        *(_memory_lines(report.memory) if report.memory else ()),
        *(_sharded_lines(report.sharded) if report.sharded else ()),
        *(_fit_lines(report.fit) if report.fit else ()),
        *_omission_lines(report.totals),
        ("counted in", _method(report)),
        *(("assumed", line) for line in assumed_lines(report.spec)),
        *(("note", note) for note in _notes(report)),
    ]


def _failure_lines(failure: Failure) -> Iterator[Line]:
    given = [format_argument(batch=None, value=value, tensors_only=False) for value in failure.inputs]
    where = f"{failure.path or 'the model'} ({failure.type})"
    yield "failed", f"in {where}, given {', '.join(chain.from_iterable(given))}: {failure.error}"


def _count_lines(totals: Totals) -> Iterator[Line]:
    size = format_bytes(totals.parameter_bytes)
    trained = f"{totals.trainable:,} trainable, {totals.frozen:,} frozen"
    yield "parameters", f"{totals.parameters:,} ({size}), {trained}"
    yield "buffers", f"{totals.buffers:,} ({format_bytes(totals.buffer_bytes)})"
    yield "MACs", _multiply_adds(totals)
    if totals.training_flops:
        yield "training", f"{totals.training_flops:,} FLOPs, forward and backward"


def _multiply_adds(totals: Totals) -> str:
    if totals.missed and not totals.macs:
        return "unknown"
    figures = f"{totals.macs:,} ({totals.flops:,} FLOPs)"
    return f"at least {figures}" if totals.missed else figures


def _variant_line(report: SummaryReport, variant: Variant) -> Line:
    """Return what changes with or without an optional input: `without  mask: 14,400 MACs (−6.2 %)`."""
    sizes = " ".join(f"{name} {size:,}" for name, size in variant.sizes.items())
    what = f"{variant.input} ({sizes})" if sizes else variant.input
    parts = [variant.failure] if variant.macs is None else list(_changes(report, variant, variant.macs))
    return "with" if variant.given else "without", f"{what}: {'; '.join(parts)}"


def _changes(report: SummaryReport, variant: Variant, macs: int) -> Iterator[str]:
    totals = report.totals
    yield f"{macs:,} MACs" + (f" ({_percent(macs / totals.macs - 1)})" if totals.macs else "")
    if more := [name for name in variant.unused if name not in totals.unused]:
        yield f"doesn't use {shorten(more)}"
    if fewer := [name for name in totals.unused if name not in variant.unused]:
        yield f"also uses {shorten(fewer)}"
    before, after = (
        {name: format_value(report.batch, value) for name, value in outputs.items()}
        for outputs in (report.outputs, variant.outputs)
    )
    changed = fold_names({name: text for name, text in after.items() if before.get(name) != text})
    if changed:
        yield f"returns {shorten([f'{name} {text}' for name, text in changed.items()])}"
    if gone := fold_names({name: text for name, text in before.items() if name not in after}):
        yield f"doesn't return {shorten(list(gone))}"


def _percent(change: float) -> str:
    return f"{change:+.1%}".replace("-", "−").replace("%", " %") if change else "the same"


def _memory_lines(memory: Memory) -> Iterator[Line]:
    yield "inference", f"needs {format_bytes(memory.inference_peak)} on {memory.device}"
    if memory.training_peak:
        yield "training", f"needs {format_bytes(memory.training_peak)}: {_parts(memory)}, and the rest"
    if memory.note:
        yield "memory", memory.note


def _sharded_lines(sharded: Sharded) -> Iterator[Line]:
    memory = sharded.memory
    yield "sharded", f"by fully_shard over {sharded.ranks:,} ranks, in {_blocks(sharded.blocks)}"
    yield "per rank", f"inference needs {format_bytes(memory.inference_peak)} on {memory.device}"
    if memory.training_peak:
        parts = f"{_parts(memory)}, gathered at once {format_bytes(sharded.gathered)}, and the rest"
        yield "per rank", f"training needs {format_bytes(memory.training_peak)}: {parts}"
    if memory.note:
        yield "per rank", memory.note


def _blocks(names: tuple[str, ...]) -> str:
    if not names:
        return "one piece"
    shown = names if len(names) <= 3 else (*names[:2], "…", names[-1])
    return f"{len(names)} blocks ({', '.join(shown)}) and the rest"


def _parts(memory: Memory) -> str:
    return (
        f"parameters {format_bytes(memory.parameters)}, gradients {format_bytes(memory.gradients)}, "
        f"state of {memory.optimizer} {format_bytes(memory.optimizer_state)}, "
        f"saved for backward {format_bytes(memory.saved)}"
    )


def _fit_lines(fit: Fit) -> Iterator[Line]:
    training, inference = f"{fit.dim} {fit.training:,}", f"{fit.dim} {fit.inference:,}"
    yield "fits", f"into {fit.limit:,} bytes: training with {training}, inference with {inference}"


def _omission_lines(totals: Totals) -> Iterator[Line]:
    if totals.uncounted:
        operators = [f"{name.removeprefix('aten.')} ×{times}" for name, times in totals.uncounted.items()]
        yield "not counted", ", ".join(operators)
    if totals.unused:
        yield "not used", ", ".join(totals.unused)


def _method(report: SummaryReport) -> str:
    """Return the run that the counts come from, and the reason for it if one is known."""
    run = "a run without weights or data" if report.method == "meta" else f"a run on {_devices(report)}"
    return f"{run} ({report.reason})" if report.reason else run


def _devices(report: SummaryReport) -> str:
    """Return where the model ran, by the devices of its inputs."""
    devices = dict.fromkeys(tensor.device for tensor in tensors_of(report.rows[0].inputs))
    return " and ".join(device.replace("cpu", "the CPU") for device in devices) or "the CPU"


def _notes(report: SummaryReport) -> Iterator[str]:
    if report.batch is not None:
        yield f"shapes are of one sample, without the batch of {report.batch}"
    if any(not row.leaf for row in report.rows[1:]):
        yield "(n) sums the rows beneath"
