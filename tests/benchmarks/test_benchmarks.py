"""Every benchmark still runs; what it measures is for people to judge."""

import pytest
from conftest import ROOT, python

BENCHMARKS = {
    "bench_bench.py": ["--quick"],
    "bench_startup.py": ["--rounds", "1"],
    "bench_export.py": ["--quick"],
    "bench_counts.py": ["--quick"],
    "bench_sizes.py": ["--quick"],
    "bench_smoke.py": ["--quick"],
    "bench_summary.py": ["--quick"],
    "bench_sweep.py": ["--quick"],
    "bench_rows.py": ["--quick"],
    "bench_memory.py": ["--quick"],
    "bench_vision.py": ["--quick"],
    "bench_modern.py": ["--quick"],
    "bench_recurrent.py": ["--quick"],
    "bench_graph.py": ["--quick"],
    "bench_edges.py": ["--quick"],
    "bench_layout.py": ["--quick"],
    "bench_viewer.py": ["--quick"],
    "bench_zoos.py": ["--rounds", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_and_prints_ratios(name, monkeypatch):
    if name == "bench_zoos.py":  # imports the zoos in processes of their own
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "operators"))
    if name == "bench_viewer.py":
        pytest.importorskip("playwright")
    done = python(str(ROOT / "tests" / "benchmarks" / name), *BENCHMARKS[name])
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout or "×" in done.stdout


def test_none_is_left_out():
    assert {file.name for file in (ROOT / "tests" / "benchmarks").glob("bench_*.py")} == set(BENCHMARKS)
