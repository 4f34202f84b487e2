"""The executor `dask`, on workers of this machine."""

import pytest

import nnkit

pytest.importorskip("distributed")
NAMES = ["vision/simple-cnn", "graph/gcn"]


@pytest.mark.slow
def test_two_models_run_and_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"checks": ["finite"], "executor": "dask", "results": "out.jsonl", "jobs": 2}
    report = nnkit.smoke_sweep(*NAMES, **asked)
    assert {model.name: model.status for model in report.models} == dict.fromkeys(NAMES, "passed")
    assert nnkit.smoke_sweep(*NAMES, **asked).resumed == 2


def test_a_cluster_that_is_there_is_used(monkeypatch):
    from distributed import LocalCluster

    from nnkit_dask.cluster import run

    with LocalCluster(n_workers=1, processes=False, threads_per_worker=1, dashboard_address=":0") as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        request = nnkit.ExecuteRequest(
            function=_invert, tasks=({"x": 2}, {"x": 0}), jobs=None, time_limit=600.0, memory_limit=None
        )
        found = {task["x"]: outcome for task, outcome in run(request)}
        assert found[2] == {"y": 0.5}
        assert isinstance(found[0], ZeroDivisionError)


def test_a_scheduler_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.setattr("nnkit_dask.cluster.TIMEOUT", "0.1s")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")
    with pytest.raises(nnkit.NnkitError, match="no Dask scheduler answers at tcp:"):
        nnkit.smoke_sweep(*NAMES, executor="dask")


def _invert(task):
    return {"y": 1 / task["x"]}
