"""What the executor should prove, by submitit's local mode."""

import time

import pytest
from nnkit_slurm import slurm

import nnkit

NAMES = ["vision/simple-cnn", "graph/gcn"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NNKIT_SLURM", "cluster=local folder=jobs cpus_per_task=1")


def test_two_models_run_and_are_kept(tmp_path):
    asked = {"checks": ["finite"], "executor": "slurm", "results": "out.jsonl"}
    report = nnkit.smoke_sweep(*NAMES, **asked)
    assert {model.name: model.status for model in report.models} == dict.fromkeys(NAMES, "passed")
    assert (tmp_path / "jobs").is_dir()
    assert nnkit.smoke_sweep(*NAMES, **asked).resumed == 2


def test_the_limits_become_those_of_the_jobs(monkeypatch):
    monkeypatch.setenv("NNKIT_SLURM", "cluster=debug slurm_partition=gpu gpus_per_node=2")
    request = nnkit.ExecuteRequest(function=dict, tasks=(), jobs=3, time_limit=600.0, memory_limit=8 * 10**9)
    parameters = slurm._make_executor(request).parameters
    assert (parameters["timeout_min"], parameters["mem_gb"], parameters["gpus_per_node"]) == (12, 9, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "Slurm is not available"),
        ("cluster=local gpus", "can't read 'gpus' in NNKIT_SLURM"),
        ("cluster=local gpu=1", "NNKIT_SLURM: "),
    ],
)
def test_what_is_wrong_is_told(monkeypatch, options, message):
    monkeypatch.setenv("NNKIT_SLURM", options)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(nnkit.NnkitError, match=message):
        nnkit.smoke_sweep(*NAMES, executor="slurm")


def test_what_has_not_ended_is_cancelled(monkeypatch):
    request = nnkit.ExecuteRequest(
        function=time.sleep,
        tasks=(0, 3600),
        jobs=None,
        time_limit=600.0,
        memory_limit=None,
    )
    cancelled = []
    kept = slurm.submitit.LocalJob.cancel
    monkeypatch.setattr(
        slurm.submitit.LocalJob, "cancel", lambda job, check: (cancelled.append(job), kept(job, check))
    )
    running = slurm.run(request)
    assert next(running) == (0, None)
    running.close()
    (job,) = cancelled
    assert "KeyboardInterrupt" in str(job.exception())
