"""The executor `slurm`, by submitit's local mode."""

import time

import pytest

import nnkit

pytest.importorskip("submitit")
from nnkit_slurm import slurm

NAMES = ["vision/simple-cnn", "graph/gcn"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NNKIT_SLURM", "cluster=local folder=jobs cpus_per_task=1")


@pytest.mark.slow
def test_two_models_run_and_are_kept(tmp_path):
    asked = {"checks": ["finite"], "executor": "slurm", "results": "out.jsonl"}
    report = nnkit.smoke_sweep(*NAMES, **asked)
    assert {model.name: model.status for model in report.models} == dict.fromkeys(NAMES, "passed")
    assert (tmp_path / "jobs").is_dir()
    assert nnkit.smoke_sweep(*NAMES, **asked).resumed == 2


def request(tasks=(), function=dict, jobs=None, memory_limit=None):
    return nnkit.ExecuteRequest(
        function=function, tasks=tuple(tasks), jobs=jobs, time_limit=600.0, memory_limit=memory_limit
    )


def test_the_limits_become_those_of_the_jobs(monkeypatch):
    monkeypatch.setenv("NNKIT_SLURM", "cluster=debug slurm_partition=gpu gpus_per_node=2")
    asked = request(jobs=3, memory_limit=8 * 10**9)
    for size, minutes in ((1, 12), (4, 42)):
        parameters = slurm._make_executor(asked, slurm._read_options(), size).parameters
        assert (parameters["timeout_min"], parameters["mem_gb"], parameters["gpus_per_node"]) == (
            minutes,
            9,
            2,
        )


@pytest.mark.parametrize(
    ("options", "jobs", "sizes"),
    [
        ("", None, [1] * 20),
        ("", 16, [2] * 10),
        ("", 3, [7, 7, 6]),
        ("", 1, [8, 8, 4]),
        ("models_per_job=15", None, [15, 5]),
        ("models_per_job=1", 1, [1] * 20),
    ],
)
def test_a_job_has_several_models_where_few_jobs_run_at_once(monkeypatch, options, jobs, sizes):
    monkeypatch.setenv("NNKIT_SLURM", f"cluster=debug {options}")
    submitted = []
    monkeypatch.setattr(
        slurm.submitit.AutoExecutor,
        "map_array",
        lambda executor, function, shares: submitted.extend(shares) or [],
    )
    with pytest.raises(ValueError, match="zip"):  # for there are no jobs
        list(slurm.run(request(range(20), jobs=jobs)))
    assert list(map(len, submitted)) == sizes
    assert [task for share in submitted for task in share] == list(range(20))


def test_one_that_raises_costs_the_others_of_its_job_nothing():
    first, second, third = slurm.run_share(lambda x: 1 / x, [2, 0, 4])
    assert (first, third) == (0.5, 0.25)
    assert isinstance(second, ZeroDivisionError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "Slurm is not available"),
        ("cluster=local gpus", "can't read 'gpus' in NNKIT_SLURM"),
        ("cluster=local gpu=1", "NNKIT_SLURM: "),
        ("cluster=local models_per_job=few", "can't read models_per_job=few in NNKIT_SLURM"),
        ("cluster=local models_per_job=0", "can't read models_per_job=0 in NNKIT_SLURM"),
    ],
)
def test_what_is_wrong_is_told(monkeypatch, options, message):
    monkeypatch.setenv("NNKIT_SLURM", options)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(nnkit.NnkitError, match=message):
        nnkit.smoke_sweep(*NAMES, executor="slurm")


@pytest.mark.slow
def test_what_has_not_ended_is_cancelled(monkeypatch):
    cancelled = []
    kept = slurm.submitit.LocalJob.cancel
    monkeypatch.setattr(
        slurm.submitit.LocalJob, "cancel", lambda job, check: (cancelled.append(job), kept(job, check))
    )
    running = slurm.run(request([0, 3600], time.sleep))
    assert next(running) == (0, None)
    running.close()
    (job,) = cancelled
    assert "KeyboardInterrupt" in str(job.exception())
