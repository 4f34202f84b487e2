"""`nnkit smoke-run --nproc`: real processes, and what becomes of those that raise, die or hang."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import python
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

import nnkit
from nnkit.errors import UsageProblem
from nnkit.verbs.parallel.failures import make_error
from nnkit.verbs.parallel.world import World, world_around

TROUBLE = """
import os, signal, time
import torch
import torch.distributed as dist
from torch import nn


class Base(nn.Linear):
    def __init__(self):
        super().__init__(6, 4)

    def forward(self, x):
        if os.environ.get("RANK") == "1":
            self.trouble()
        return super().forward(x)


class Raises(Base):
    def trouble(self):
        raise RuntimeError("boom")


class Sleeps(Base):
    def trouble(self):
        print("asleep", flush=True)
        open(f"asleep-{os.getpid()}", "w").close()
        time.sleep(1000)


class WaitsAlone(Base):
    def trouble(self):
        dist.all_reduce(torch.zeros(1))


class Killed(Base):
    def trouble(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Crashes(Base):
    def trouble(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class Leaves(Base):
    def forward(self, x):
        raise SystemExit(0)


class ByRank(Base):
    def forward(self, x):
        return nn.Linear.forward(self, x) * (1 + int(os.environ.get("RANK", 0)))
"""
INPUT = ("--input", "x: float32[batch, 6]")


@pytest.fixture
def trouble(tmp_path):
    """Start `nnkit smoke-run trouble.py:NAME --nproc 2` with more words in a folder of its own."""
    (tmp_path / "trouble.py").write_text(TROUBLE)

    def run(name, *more):
        return python(
            "-m", "nnkit", "smoke-run", f"trouble.py:{name}", *INPUT, "--nproc", "2", *more, cwd=tmp_path
        )

    return run


@pytest.mark.slow
# torch's launcher leaves it to the collector to close the logs.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_model_of_the_zoo_and_the_words_that_repeat_it():
    report = nnkit.smoke_run("gcn", processes=2, parallel="tp", hidden_channels="8", seed=3)
    assert report.passed
    assert report.device == "cpu × 2 (tp)"
    assert [check.name for check in report.checks][:3] == ["launch", "weights", "loss"]
    assert {check.repeat for check in report.checks} == {
        "nnkit smoke-run graph/gcn --hidden-channels 8 --seed 3 --parallel tp --nproc 2"
    }
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "NNKIT_RANK_REPORT" not in os.environ


@pytest.mark.slow
def test_under_torchrun_one_rank_speaks_and_the_exit_code_tells(tmp_path):
    (tmp_path / "trouble.py").write_text(TROUBLE)
    torchrun = (
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "nnkit",
        "smoke-run",
    )
    sound = python(*torchrun, "lstm", "--parallel", "fsdp", cwd=tmp_path)
    assert sound.returncode == 0, sound.stderr
    assert sound.stdout.startswith("recurrent/lstm on cpu × 2 (fsdp) · batch=4")
    assert sound.stdout.count("gradients") == 1


@pytest.mark.slow
def test_a_fault_is_a_check_that_failed(trouble):
    ended = trouble("ByRank")
    assert ended.returncode == 4
    assert "failed   loss" in ended.stdout
    assert "again: nnkit smoke-run trouble.py:ByRank --input 'x: float32[batch, 6]'" in ended.stdout
    assert "checks failed: " in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("Raises", (), "rank 1 failed: RuntimeError: boom (trouble, trouble.py:20)"),
        ("Killed", (), "rank 1 was ended by the signal SIGKILL"),
        ("Crashes", (), "rank 1 was ended by the signal SIGSEGV (trouble, trouble.py:42)"),
        (
            "Leaves",
            (),
            "rank 0 ended with exit code 1: code of a model or a plugin ended the command: SystemExit: 0",
        ),
        ("WaitsAlone", ("--time-limit", "5", "-v"), "2 of 2 ranks took longer than 5 s: "),
    ],
)
def test_a_rank_in_trouble_is_named_with_its_place(trouble, name, more, told):
    ended = trouble(name, *more)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"Error: {told}" in ended.stderr
    if "--time-limit" in more:
        assert "rank 1 in trouble, trouble.py:" in ended.stderr
    assert ("(most recent call first)" in ended.stderr) == ("-v" in more)


def failure_of(rank, code, file, message=""):
    if message:
        trace = f'Traceback:\n  File "net.py", line {rank + 1}, in forward\n{message}\n'
        recorded = {"message": message, "extraInfo": {"py_callstack": trace, "timestamp": "0"}}
        file.write_text(json.dumps({"message": recorded}))
    return ProcessFailure(rank, 1, code, str(file))


@pytest.mark.parametrize(
    ("ends", "written", "told"),
    [  # what each rank ended with; a SIGTERM (15) is the launcher's
        ({0: (-15, ""), 1: (3, "")}, "", "rank 1 ended with exit code 3"),
        ({0: (1, "RuntimeError: connection closed"), 1: (-9, "")}, "", "rank 1 was ended by the signal SIGKILL"),
        ({0: (2, "")}, "Error: no such plugin\nhint: none\n", "rank 0 ended with exit code 2: no such plugin"),
        ({0: (-15, "")}, "", "rank 0 was ended by the signal SIGTERM"),
        (
            {1: (1, "ValueError: the cause\nmore"), 0: (1, "RuntimeError: connection closed")}, "",
            "rank 1 failed: ValueError: the cause (forward, net.py:2)",
        ),
    ],
)  # fmt: skip
def test_the_rank_that_failed_first_is_the_one_that_is_told(tmp_path, ends, written, told):
    logs, failures = {}, {}
    for rank, (code, message) in ends.items():
        logs[rank] = tmp_path / f"stderr-{rank}"
        logs[rank].write_text(written)
        failures[rank] = failure_of(rank, code, tmp_path / f"error-{rank}", message)
        if message:
            os.utime(failures[rank].error_file, ns=(0, 10 + len(failures)))
    error = make_error(failures, logs, 5)
    assert (error.message, error.exit_code) == (told, 1)


@pytest.mark.slow
def test_ctrl_c_leaves_nobody_behind(tmp_path):
    (tmp_path / "trouble.py").write_text(TROUBLE)
    command = [sys.executable, "-m", "nnkit", "smoke-run", "trouble.py:Sleeps", *INPUT, "--nproc", "2"]
    launcher = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (asleep := list(tmp_path.glob("asleep-*"))):
        assert launcher.poll() is None
        time.sleep(0.2)
    launcher.send_signal(signal.SIGINT)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert errors.splitlines()[0] == "Error: interrupted"
    rank = int(asleep[0].name.removeprefix("asleep-"))
    with pytest.raises(ProcessLookupError):
        os.kill(rank, 0)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--parallel", "ddp"], "--parallel ddp needs processes to run in", "add --nproc 2"),
        (["--nproc", "0"], "--nproc must be at least 1, got 0", "--nproc 2"),
        (["--nproc", "two"], "Invalid value for '--nproc': 'two' is not a valid integer.", "--help"),
        (["--nproc", "2", "--parallel", "fdsp"], "parallel: 'fdsp'", "did you mean fsdp?"),
        (["--nproc", "2", "--parallel", "pipeline"], "parallel: 'pipeline'", "choose from: ddp, fsdp, tp"),
        (["--nproc", "2", "--check", "finite"], "a run in many processes has its own checks", "--check, --full and --compile"),
        (["--nproc", "2", "--full"], "a run in many processes has its own checks", "--check, --full and --compile"),
        (["--nproc", "2", "--time-limit", "0"], "Invalid value for '--time-limit': 0.0 is not in the range x>0.", "--help"),
        (["--nproc", "2", "--device", "cuda"], "device 'cuda' is not available on this machine", "cpu"),
        (["--nproc", "2", "--device", "tpu"], "'tpu' is not a device", "cpu"),
        (["--time-limit", "9"], "--time-limit is for several models", "--all"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused(nnkit_command, words, message, hint):
    refused = nnkit_command("smoke-run", "gcn", *words)
    first, second = refused.err.splitlines()
    assert refused.code == 2
    assert refused.out == ""
    assert message in first
    assert hint in second


def test_a_rank_can_not_start_others(monkeypatch, nnkit_command):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    refused = nnkit_command("smoke-run", "gcn", "--nproc", "2")
    assert (refused.code, "this process is already one of 1" in refused.err) == (2, True)


def test_a_module_of_this_process_can_not_be_handed_over():
    with pytest.raises(UsageProblem, match="can't be sent to other processes"):
        nnkit.smoke_run(nn.Linear(2, 2), [torch.zeros(1, 2)], processes=2)


def test_the_world_is_what_torchrun_says():
    around = {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
        "LOCAL_RANK": "1",
    }
    assert world_around(around) == World(5, 8, 1)
    assert not World(5, 8, 1).leads
    assert world_around({"RANK": "0"}) is None
