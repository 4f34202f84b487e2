"""BenchReport -> text, and HTML with a plot of the samples."""

from collections.abc import Iterator, Mapping

from nnkit.contract.text import format_bytes, format_count, format_percent, format_sizes, plural
from nnkit.render.assumed import assumed_lines
from nnkit.render.dtypes import describe_dtypes
from nnkit.render.durations import format_time, three_digits
from nnkit.render.samples_plot import Series, plot_samples
from nnkit.render.table import Table, paragraph, to_html, to_plain, to_terminal
from nnkit.verbs.benchmarking.report import TITLES, BenchModel, BenchReport, Measurement, Probe, Ratio

UNKNOWN = "-"


def as_text(report: BenchReport, terminal: bool = False, color: bool = False) -> str:
    """Return the figures: for one model its modes side by side, for two the models, mode by mode."""
    tables = [to_terminal(table, color) if terminal else to_plain(table) for table in _tables(report)]
    notes = "\n".join(paragraph(label, text, terminal) for label, text in _notes(report))
    return "\n\n".join([_title(report), *tables, notes])


def as_html(report: BenchReport) -> str:
    """Return the figures and a plot of the samples of each mode, in HTML that needs nothing else.

    It can stand in a page or notebook, and is a page by itself.
    """
    parts = ['<!doctype html><meta charset="utf-8">']  # for a browser that opens it as a file
    for mode, title in TITLES.items():
        series = [
            Series(label, measurement.samples.order, measurement.samples.times)
            for label, model in zip(report.labels, report.models, strict=True)
            for measurement in model.measurements
            if measurement.mode == mode
        ]
        if series:
            parts.append(f"<figure>\n{plot_samples(title, series)}\n</figure>")
    *tables, last = _tables(report)
    parts += [to_html(table, _title(report), []) for table in tables]
    parts.append(to_html(last, _title(report), list(_notes(report))))
    return "\n".join(parts)


def _title(report: BenchReport) -> str:
    where = report.environment
    title = [
        f"{' and '.join(report.labels)} on {where.device}",
        where.device_name,
        plural(where.threads, "thread"),
        *dict.fromkeys(format_sizes(model.spec.sizes) for model in report.models),
        *filter(None, dict.fromkeys(describe_dtypes(model.spec, model.dtypes) for model in report.models)),
        *(["compiled"] if report.compiled else []),
    ]
    return " · ".join(title)


def _tables(report: BenchReport) -> Iterator[Table]:
    if len(report.models) == 1:
        model = report.models[0]
        yield _table(
            "", {TITLES[measurement.mode]: (model, measurement) for measurement in model.measurements}
        )
        return
    for mode, title in TITLES.items():
        columns = {
            label: (model, measurement)
            for label, model in zip(report.labels, report.models, strict=True)
            for measurement in model.measurements
            if measurement.mode == mode
        }
        if columns:
            yield _table(title, columns)


def _table(title: str, columns: Mapping[str, tuple[BenchModel, Measurement]]) -> Table:
    figures = [_figures(model, measurement) for model, measurement in columns.values()]
    rows = [(label, *(column[label] for column in figures)) for label in figures[0]]
    return Table((title, *columns), rows, frozenset(columns))


def _figures(model: BenchModel, measured: Measurement) -> dict[str, str]:
    latency, samples = measured.latency, measured.samples
    loops = f" of {samples.loops} runs" if samples.loops > 1 else ""
    unit = "runs" if model.batch is None else "samples"
    return {
        "median": _time(latency.median),
        "p90": _time(latency.p90),
        "p99": _time(latency.p99),
        "minimum": _time(latency.minimum),
        "measured": f"{len(samples.nanoseconds):,} times{loops}",
        "throughput": f"{three_digits(measured.throughput)} {unit}/s",
        "FLOPs": UNKNOWN if measured.flops is None else format_count(measured.flops),
        "of peak FLOP/s": _share(measured.mfu),
        "of peak bytes/s": _share(measured.mbu),
        "peak memory": _size(measured.peak),
        "estimated": _size(measured.estimate),
    }


def _time(nanoseconds: float | None) -> str:
    return UNKNOWN if nanoseconds is None else format_time(nanoseconds)


def _share(share: float | None) -> str:
    return UNKNOWN if share is None else format_percent(share)


def _size(size: int | None) -> str:
    return UNKNOWN if size is None else format_bytes(size)


def _notes(report: BenchReport) -> Iterator[tuple[str, str]]:
    for ratio in report.ratios:
        yield "ratio", f"{TITLES[ratio.mode]} {_verdict(report, ratio)}"
    for label, model in zip(report.labels, report.models, strict=True):
        for line in assumed_lines(model.spec):
            yield "assumed", f"{label}: {line}" if len(report.models) > 1 else line
        if model.untrained:
            yield "not trained", f"{label}: {model.untrained}"
    yield "machine", f"{_probe(report.before)} before; {_probe(report.after)} after"
    for warning in report.warnings:
        yield "warning", warning


def _verdict(report: BenchReport, ratio: Ratio) -> str:
    interval = (
        f"{ratio.confidence * 100:.4g}% interval {ratio.low:.3f} to {ratio.high:.3f} of {ratio.pairs} pairs"
    )
    seen = ratio.verdict != "no difference seen"
    verdict = f"{report.labels[1]} is {ratio.verdict}" if seen else ratio.verdict
    return f"{ratio.ratio:.3f} ({interval}): {verdict}"


def _probe(probe: Probe) -> str:
    rates = [f"{rate / 1e9:.1f} GFLOP/s in {dtype}" for dtype, rate in probe.flops_per_second.items()]
    return ", ".join([*rates, f"copies {probe.bytes_per_second / 1e9:.1f} GB/s"])
