"""BenchReport -> the JSON of google-benchmark, which its tools/compare.py reads.

https://github.com/google/benchmark/blob/main/docs/user_guide.md#output-formats
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nnkit.contract.json_text import json_text
from nnkit.verbs.benchmarking.report import BenchReport, Measurement

Aggregate = Callable[[Sequence[float]], float]


def as_google_benchmark(report: BenchReport) -> str:
    """Return each sample as a repetition of `MODEL/MODE`, in nanoseconds of one run, and their aggregates."""
    where = report.environment
    measured = [
        (f"{label}/{measurement.mode}", measurement)
        for label, model in zip(report.labels, report.models, strict=True)
        for measurement in model.measurements
    ]
    data = {
        "context": {
            "date": report.date,
            "host_name": where.host,
            "executable": "nnkit bench",
            "num_cpus": where.processors,
            "library_version": f"nnkit {where.versions['nnkit']}",
            "library_build_type": "release",
            "json_schema_version": 1,
            "device": where.device_name,
            "torch": where.versions["torch"],
            "torch_threads": str(where.threads),
        },
        "benchmarks": [
            entry
            for index, (name, measurement) in enumerate(measured)
            for entry in _entries(index, name, measurement)
        ],
    }
    return json_text(data, indent=2)


def _entries(family: int, name: str, measured: Measurement) -> Iterator[dict[str, Any]]:
    samples = measured.samples
    count = len(samples.nanoseconds)
    real, cpu = (
        [duration / samples.loops for duration in times]
        for times in (samples.nanoseconds, samples.cpu_nanoseconds)
    )
    shared = {
        "family_index": family,
        "per_family_instance_index": 0,
        "run_name": name,
        "repetitions": count,
        "threads": 1,
        "time_unit": "ns",
    }
    for index in range(count):
        yield {
            "name": name,
            **shared,
            "run_type": "iteration",
            "repetition_index": index,
            "iterations": samples.loops,
            "real_time": real[index],
            "cpu_time": cpu[index],
        }
    aggregates: dict[str, Aggregate] = {"mean": statistics.fmean, "median": statistics.median}
    if count > 1:
        aggregates["stddev"] = statistics.stdev
    for aggregate, compute in aggregates.items():
        yield {
            "name": f"{name}_{aggregate}",
            **shared,
            "run_type": "aggregate",
            "aggregate_name": aggregate,
            "aggregate_unit": "time",
            "iterations": count,
            "real_time": compute(real),
            "cpu_time": compute(cpu),
        }
