"""Many models: each of the seeded misfortunes is told truly and harms no other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
import referencing
import sweep_executors
from conftest import ROOT, python

import nnkit

SCHEMAS = ROOT / "nnkit" / "schemas"


@pytest.fixture
def seeds(tmp_path, monkeypatch, fresh_plugins):
    """Install the plugins seeds and instant, and no others."""
    info = tmp_path / "site" / "nnkit_seeds-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nnkit-seeds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit]\nseeds = sweep_seeds\ninstant = sweep_executors\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setenv("NNKIT_PLUGINS", "seeds instant")
    monkeypatch.setattr(sweep_executors, "CALLS", [])
    return info


@pytest.fixture(params=["new", "forked"])
def both_ways(request, monkeypatch):
    """Let each model import everything itself, or let a server fork all of them."""
    from nnkit.verbs.sweep import executors

    monkeypatch.setattr(executors, "WORTHWHILE", 1 if request.param == "forked" else 10**9)
    return request.param


def held(data):
    """Hold data against the schema that it names; return it."""
    name = data["schema"].removeprefix("nnkit.").partition("/")[0]
    schema, of_one = (json.loads((SCHEMAS / f"{each}.json").read_text()) for each in (name, "smoke-run"))
    registry = referencing.Registry().with_resource(
        "smoke-run.json", referencing.Resource.from_contents(of_one)
    )
    jsonschema.Draft202012Validator(schema, registry=registry).validate(data)
    return data


def test_one_that_aborts_takes_nothing_else_down(nnkit_command, seeds, both_ways):
    done = nnkit_command(
        "smoke-run", "sound", "aborts", "fails", "--check", "batch-independence", "--jobs", "3"
    )
    assert done.code == 1
    assert [line.split()[:2] for line in done.out.splitlines()[1:4]] == [
        ["died", "seeds/aborts"], ["failed", "seeds/fails"], ["passed", "seeds/sound"]
    ]  # fmt: skip
    assert done.out.endswith("\n\n3 models on cpu: 1 died, 1 failed, 1 passed\n")


def test_the_peak_of_a_model_is_its_own(seeds, both_ways):
    """The kernel lets what getrusage tells of a process begin with the peak of the one that started it."""
    large = b"\1" * (2 * 10**9)
    del large
    (result,) = nnkit.smoke_sweep("seeds/sound", checks=["determinism"]).models
    assert result.status == "passed"
    assert 10**8 < result.peak_memory < 10**9


@pytest.mark.slow
def test_every_misfortune_is_told_and_the_others_are_unharmed(nnkit_command, seeds, both_ways, monkeypatch):
    monkeypatch.setenv("SEEDS_SLEEP", "0")
    check = "batch-independence"
    done = nnkit_command(
        "smoke-run", "--all", "--check", check, "--memory-limit", "1GB", "--jobs", "2", "--batch", "1",
        "--results", "out.jsonl", "--junit", "out.xml", "--json",
    )  # fmt: skip
    data = held(json.loads(done.out))
    told = {each["name"].removeprefix("seeds/"): (each["status"], each["message"]) for each in data["models"]}
    assert told == {
        "aborts": ("died", "signal 6 (aborted) while running the model once: about to abort"),
        "hungry": ("out of memory", "it took more than 1 GB while running the model once"),
        "leaves": ("error", "exit code 3 while running the model once"),
        "silent-end": ("error", "exit code 0 while running the model once"),
        "raises": (
            "error",
            "building seeds/raises failed: ValueError: no such layer (module at sweep_seeds.py:72)",
        ),
        "fails": ("failed", f"{check}: sample 0 of output y differs by 7.4× its spread when run alone"),
        "sound": ("passed", "1 check"),
        "chatty": ("passed", "1 check"),
        "unready": ("skipped", "it needs the package not_there: pip install not-there"),
        "declined": ("skipped", "it talks to a robot"),
        "slow": ("skipped", "size --batch of slow must be at least 2, got 1"),
    }
    order = ["died", "out of memory", "error", "failed", "passed", "skipped"]
    assert list(dict.fromkeys(each["status"] for each in data["models"])) == order
    peaks = {each["name"]: each["peak_memory"] for each in data["models"]}
    assert 10**9 < peaks["seeds/hungry"] < 2 * 10**9
    assert 10**8 < peaks["seeds/sound"] < 10**9
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        "Error: 5 of 11 models could not be run, 1 of 11 models failed a check",
        f"hint: rerun one: nnkit smoke-run seeds/aborts --batch 1 --check {check}",
    ]
    assert sorted(line.partition("]")[0] for line in done.err.splitlines()[:-2]) == [
        f"[{number:2}/11" for number in range(4, 12)
    ]
    lines = [held(json.loads(line)) for line in Path("out.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} == {each["name"] for each in data["models"] if each["seconds"]}
    cases = {
        case.get("classname"): [each.tag for each in case]
        for case in ElementTree.parse("out.xml").iter("testcase")
    }
    assert cases["seeds/aborts"] == cases["seeds/hungry"] == ["error"]
    assert (cases["seeds/fails"], cases["seeds/unready"]) == (["failure"], ["skipped"])
    again = nnkit_command(
        "smoke-run", "seeds/sound", "fails", "--batch", "1", "--check", check, "--results", "out.jsonl",
        "--memory-limit", "2GB", "--time-limit", "1",
    )  # fmt: skip
    assert again.code == 4
    assert again.out.splitlines()[1].startswith("failed  seeds/fails")
    assert again.out.endswith("2 models on cpu: 1 failed, 1 passed; 2 from an earlier run\n")
    assert again.err.splitlines()[0] == "Error: 1 of 2 models failed a check"


def test_one_that_hangs_is_ended(nnkit_command, seeds, both_ways):
    done = nnkit_command("smoke-run", "slo*", "--time-limit", "0.5", "--results", "out.jsonl")
    assert done.code == 1
    assert done.out.splitlines()[1].startswith("timed out  seeds/slow")
    assert "after 0.5 s while" in done.out


def run(nnkit_command, *args, executor="instant"):
    """Run a sweep whose executor starts no process; return what was done and which models it was given."""
    sweep_executors.CALLS.clear()
    done = nnkit_command("smoke-run", *args, "--executor", executor)
    return done, [name.removeprefix("seeds/") for name in sweep_executors.CALLS]


EIGHT = ["sound", "aborts", "hungry", "chatty", "leaves", "silent-end", "fails", "raises"]


def test_patterns_and_names(nnkit_command, seeds):
    for args, names in {
        ("--all",): [*EIGHT, "slow"],
        ("s*",): ["sound", "silent-end", "slow"],
        ("seeds/s[ol]*",): ["sound", "slow"],
        ("*/s*", "hungry", "sound"): ["sound", "hungry", "silent-end", "slow"],
        ("sound", "seeds/hungry"): ["sound", "hungry"],
        ("--batch", "3", "hungr?"): ["hungry"],
    }.items():
        done, called = run(nnkit_command, *args)
        assert (done.code, called) == (0, names), args


def test_shards_are_all_of_it_and_no_model_is_in_two(nnkit_command, seeds):
    parts = [run(nnkit_command, "--all", "--shard", f"{part}/3") for part in (1, 2, 3)]
    assert sorted(name for _, called in parts for name in called) == sorted([*EIGHT, "slow"])
    planned = [done.out.splitlines()[-1].partition(" models")[0] for done, _ in parts]
    assert planned == ["4", "4", "3"]
    done, called = run(nnkit_command, "sound", "fails", "--shard", "3/3", "--batch", "3")
    assert (done.code, called, done.out.splitlines()[-1]) == (0, [], "0 models on cpu")


def test_what_is_asked_of_each_model(nnkit_command, seeds):
    run(
        nnkit_command, "sound", "slow", "--dtype", "float64", "--seed", "7", "--batch", "3", "--check", "finite",
        "--full", "--compile", "--device", "cuda", "--results", "out.jsonl", "--memory-limit", "3GB", "--time-limit", "9",
    )  # fmt: skip
    line = json.loads(Path("out.jsonl").read_text().splitlines()[0])
    task = line["task"]
    assert (task["spec"]["dtype"], task["spec"]["seed"], task["spec"]["sizes"]) == (
        "float64",
        7,
        {"batch": 3},
    )
    assert (task["device"], task["checks"], task["full"], task["compiled"]) == (
        "cuda",
        ["finite"],
        True,
        True,
    )
    assert (task["memory_limit"], task["time_limit"]) == (3 * 10**9, 9)
    assert set(task["versions"]) == {"nnkit", "torch", "nnkit-seeds"}
    assert line["command"] == (
        "nnkit smoke-run seeds/sound --batch 3 --seed 7 --dtype float64 --device cuda --check finite --full --compile"
    )


def test_a_rerun_does_what_is_left(nnkit_command, seeds):
    to_file = ("--results", "out.jsonl")
    done, called = run(nnkit_command, "s*", *to_file, executor="two-then-stop")
    assert called == ["sound", "silent-end", "slow", "closed"]
    assert (done.code, done.err.splitlines()[-2:]) == (
        1, ["Error: interrupted; 2 of 3 done", "hint: repeat the command to continue"]
    )  # fmt: skip
    assert done.out.endswith("3 models on cpu: 2 passed; 1 not run\n")
    done, called = run(nnkit_command, "--all", *to_file)
    assert called == [name for name in [*EIGHT, "slow"] if name not in ("sound", "silent-end")]
    assert done.err.startswith("[ 5/11] passed")  # two from before, two that are skipped
    assert run(nnkit_command, "--all", *to_file)[1] == []
    assert len(Path("out.jsonl").read_text().splitlines()) == 9


@pytest.mark.parametrize("other", [["--seed", "1"], ["--batch", "2"], ["--check", "finite"], ["--full"], ["--compile"],
                                   ["--dtype", "float64"], ["--device", "cuda"]])  # fmt: skip
def test_results_of_other_options_do_not_count(nnkit_command, seeds, other):
    run(nnkit_command, "s*", "--results", "out.jsonl")
    assert len(run(nnkit_command, "s*", "--results", "out.jsonl", *other)[1]) == 3
    assert len(run(nnkit_command, "s*", "--results", "out.jsonl", *other)[1]) == 0


def test_results_of_another_version_do_not_count(nnkit_command, seeds):
    run(nnkit_command, "s*", "--results", "out.jsonl")
    text = Path("out.jsonl").read_text()
    for name in ("nnkit", "torch", "nnkit-seeds"):
        lines = [json.loads(line) for line in text.splitlines()]
        lines[1]["task"]["versions"][name] = "0.0.1"
        Path("out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert run(nnkit_command, "s*", "--results", "out.jsonl")[1] == ["silent-end"]


def test_what_a_limit_has_ended_is_run_again_under_another(nnkit_command, seeds):
    to_file = ("--results", "out.jsonl", "--time-limit")
    assert len(run(nnkit_command, "s*", *to_file, "1", executor="limits")[1]) == 3
    assert len(run(nnkit_command, "s*", *to_file, "1")[1]) == 0
    assert len(run(nnkit_command, "s*", *to_file, "2")[1]) == 3
    assert len(run(nnkit_command, "s*", *to_file, "3")[1]) == 0


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_a_crash_has_cut_short_is_dropped(nnkit_command, seeds, cut):
    run(nnkit_command, "s*", "--results", "out.jsonl")
    whole = Path("out.jsonl").read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    Path("out.jsonl").write_bytes(first + second + third[:cut])
    assert run(nnkit_command, "s*", "--results", "out.jsonl")[1] == ["slow"]
    assert Path("out.jsonl").read_bytes() == whole
    Path("out.jsonl").write_bytes(first[:cut])
    assert len(run(nnkit_command, "s*", "--results", "out.jsonl")[1]) == 3


@pytest.mark.parametrize("text", ["mine", "mine\n", '{"schema": 1}\n', "[1]\n", '{"schema": "nnkit.list/1"'])
def test_a_file_that_holds_anything_else_is_left_alone(nnkit_command, seeds, text):
    Path("out.jsonl").write_text(text)
    done, called = run(nnkit_command, "s*", "--results", "out.jsonl")
    assert (done.code, called, Path("out.jsonl").read_text()) == (2, [], text)
    assert done.err.splitlines() == [
        "Error: line 1 of out.jsonl is not a result of a sweep",
        "hint: choose a different file: --results FILE",
    ]


def test_two_runs_do_not_write_one_file(nnkit_command, seeds):
    from nnkit.verbs.sweep.results import results_in

    with results_in(Path("out.jsonl")):
        done, called = run(nnkit_command, "s*", "--results", "out.jsonl")
    assert (done.code, called) == (2, [])
    assert done.err.startswith("Error: another run is writing out.jsonl")


def test_a_disk_that_is_full_stops_it(nnkit_command, seeds):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        done, _ = run(nnkit_command, "s*", "--results", "out.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.code == 1
    assert "can't write the result of seeds/" in done.err
    assert "passed  seeds/sound" in done.out
    assert run(nnkit_command, "s*", "--results", "out.jsonl")[0].code == 0  # what was cut short is dropped


def test_an_executor_that_fails_or_loses_models(nnkit_command, seeds):
    to_file = ("--results", "out.jsonl")
    done, _ = run(nnkit_command, "s*", *to_file, executor="loses")
    assert done.code == 1
    assert done.out.count("executor loses: RuntimeError: node down") == 3
    assert (
        run(nnkit_command, "s*", *to_file, executor="says-nothing")[0].out.count(
            "it ended without returning an outcome"
        )
        == 3
    )
    assert Path("out.jsonl").read_text() == ""
    done, _ = run(nnkit_command, "s*", *to_file, executor="two-then-raise")
    assert (done.code, done.err.splitlines()[-2]) == (
        3, "Error: executor two-then-raise failed: OSError: the cluster"
    )  # fmt: skip
    assert done.out.endswith("3 models on cpu: 2 passed; 1 not run\n")
    done, _ = run(nnkit_command, "s*", executor="refuses")
    assert (done.code, done.out, done.err) == (2, "", "Error: no device\nhint: buy one\n")
    done, _ = run(nnkit_command, "s*", executor="two-then-stop")
    assert done.err.splitlines()[-1] == "hint: to keep finished results, add --results FILE"


ERRORS = {
    "no match": (["soundd*"], 2, "no architecture matches 'soundd*'", "did you mean sound?"),
    "no match of a plugin": (["vision/*"], 2, "no architecture matches 'vision/*'", "nnkit list"),
    "an unknown name": (["sound", "hungri"], 2, "unknown architecture 'hungri'", "did you mean hungry?"),
    "a file": (["s*", "net.yaml"], 2, "architectures and patterns, not net.yaml", "nnkit smoke-run net.yaml"),
    "code": (["sound", "net.py:Net"], 2, "architectures and patterns, not net.py:Net", "run it on its own"),
    "all and a name": (["sound", "--all"], 2, "--all and sound don't go together", "use one"),
    "an unknown size": (["--all", "--bach", "2"], 2, "no such option --bach", "did you mean --batch"),
    "a size that is none": (["--all", "--batch", "x"], 2, "'x' is not a valid integer", "see: "),
    "a shard": (["--all", "--shard", "4/3"], 2, "can't read --shard '4/3'", "--shard 1/3"),
    "shard zero": (["--all", "--shard", "0/3"], 2, "can't read --shard '0/3'", "--shard 1/3"),
    "words for a shard": (["--all", "--shard", "first"], 2, "can't read --shard 'first'", "--shard 1/3"),
    "memory": (["--all", "--memory-limit", "much"], 2, "can't read the size 'much'", "16GB"),
    "time": (["--all", "--time-limit", "0"], 2, "Invalid value for '--time-limit'", "see: "),
    "jobs": (["--all", "--jobs", "0"], 2, "Invalid value for '--jobs'", "see: "),
    "a preset": (["--all", "--preset", "cora"], 2, "--preset is for one model", "name only one model"),
    "weights": (["--all", "--weights", "w.pt"], 2, "--weights is for one model", "name only one model"),
    "a key": (["--all", "--key", "ema"], 2, "--key is for one model", "name only one model"),
    "a prefix": (["--all", "--strip-prefix", "a."], 2, "--strip-prefix is for one model", "name only one model"),
    "strictness": (["--all", "--no-strict"], 2, "--strict is for one model", "name only one model"),
    "an input": (["--all", "--input", "x: float32[3]"], 2, "--input is for one model", "name only one model"),
    "an executor": (["--all", "--executor", "instnt"], 2, "unknown executor 'instnt'", "did you mean instant?"),
    "no such executor": (["--all", "--executor", "x"], 2, "unknown executor 'x'", "available: local, instant"),
    "an executor's package": (["--all", "--executor", "far"], 3, "far needs the package not_there", "pip install x"),
    "a folder for JUnit": (["--all", "--junit", "no/out.xml"], 2, "folder no does not exist", "mkdir -p no"),
    "a folder": (["--all", "--results", "no/out.jsonl"], 2, "can't write no/out.jsonl: No such file", "--results"),
    "jobs of one model": (["sound", "--jobs", "2"], 2, "--jobs is for several models", "--all"),
    "results of one model": (["sound", "--results", "out.jsonl"], 2, "--results is for several models", "--all"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_one_error_and_one_hint_and_nothing_runs(nnkit_command, seeds, case):
    args, code, message, hint = ERRORS[case]
    before = sorted(os.listdir())
    done = nnkit_command("smoke-run", *args)
    error, advice = done.err.splitlines()
    assert message in error
    assert hint in advice
    assert (done.code, done.out, sorted(os.listdir())) == (code, "", before)


def test_a_size_that_none_of_them_has(nnkit_command):
    done = nnkit_command("smoke-run", "gcn", "gat", "--batch", "3")
    assert done.err.splitlines() == [
        "Error: none of these models has a size --batch", "hint: their sizes: edges, nodes"
    ]  # fmt: skip


def test_a_device_and_a_check_that_are_not_there_are_told_once(nnkit_command, seeds):
    done = nnkit_command("smoke-run", "s*", "--device", "cuda:99")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        "Error: device 'cuda:99' is not available on this machine\nhint: this machine has: "
    )


def test_memory_can_only_be_limited_where_it_can_be_seen(nnkit_command, seeds, monkeypatch):
    monkeypatch.setattr("nnkit.verbs.sweep.handler.can_limit_memory", lambda: False)
    done = nnkit_command("smoke-run", "s*", "--memory-limit", "1GB")
    assert (done.code, done.err.splitlines()[0]) == (
        2, "Error: --memory-limit needs Linux, which shows how much memory a running process uses"
    )  # fmt: skip


def test_quiet_and_color(nnkit_command, seeds):
    done, _ = run(nnkit_command, "s*", "-q", "--color", "always")
    assert done.err == ""
    assert "\x1b[32mpassed\x1b[0m   seeds/sound" in done.out


def test_nnkit_plugins_lists_executors(nnkit_command, seeds):
    assert "executor instant, executor two-then-stop" in nnkit_command("plugins").out
    plugins = json.loads(nnkit_command("plugins", "--json").out)["plugins"]
    assert {each["name"]: each["executors"] for each in plugins if each["executors"]} == {
        "instant": [*sweep_executors.NAMES, "far"]
    }
    assert "executor far (not installed: pip install x)" in nnkit_command("plugins").out


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("dask", "distributed")])
def test_an_executor_without_its_extra_is_listed_and_refused(nnkit_command, monkeypatch, name, package):
    from nnkit.contract import loading

    find = loading.find_spec
    monkeypatch.setattr(loading, "find_spec", lambda wanted: None if wanted == package else find(wanted))
    install = f"pip install 'nnkit[{name}]'"
    assert f"executor {name} (not installed: {install})" in nnkit_command("plugins").out
    done = nnkit_command("smoke-run", "gc?", "--executor", name)
    assert (done.code, done.out, done.err.splitlines()) == (
        3, "", [f"Error: executor {name} needs the package {package}", f"hint: install it: {install}"]
    )  # fmt: skip


def test_from_python(seeds):
    import nnkit
    from nnkit.errors import UsageProblem
    from nnkit.verbs.sweep.report import SweepStopped

    told = []
    report = nnkit.smoke_sweep("s*", executor="instant", finished=lambda *each: told.append(each))
    assert report.passed
    assert [(result.name, number, planned) for result, number, planned in told] == [
        ("seeds/sound", 1, 3), ("seeds/silent-end", 2, 3), ("seeds/slow", 3, 3)
    ]  # fmt: skip
    with pytest.raises(SweepStopped) as stopped:
        nnkit.smoke_sweep("s*", executor="two-then-stop", sizes={"batch": 2}, memory_limit="1GB")
    assert stopped.value.report.counts["passed"] == 2
    assert not stopped.value.report.passed
    with pytest.raises(UsageProblem, match="unknown dtype 'float8'"):
        nnkit.smoke_sweep("s*", dtype="float8")


def test_the_example_of_the_hook_runs():
    """The code beneath its first line, on threads, which have the same interface."""
    import inspect
    import textwrap

    import nnkit
    from nnkit.contract.hooks import nnkit_executors

    code = inspect.cleandoc(nnkit_executors.__doc__).partition("running.py\n")[2]
    code = textwrap.dedent(code.replace("ProcessPoolExecutor", "ThreadPoolExecutor"))
    names = {"ExecuteRequest": nnkit.ExecuteRequest, "Executed": nnkit.Executed}
    exec(code, names)
    request = nnkit.ExecuteRequest(
        function=lambda task: {"y": 1 / task["x"]},
        tasks=({"x": 2}, {"x": 0}),
        jobs=1,
        time_limit=1,
        memory_limit=None,
    )
    found = {task["x"]: outcome for task, outcome in names["run"](request)}
    assert found[2] == {"y": 0.5}
    assert isinstance(found[0], ZeroDivisionError)


def test_an_executor_that_is_declared_wrongly_is_told(plugins_from):
    source = (
        "from nnkit import Executor, hookimpl\nNNKIT_PLUGIN_API = '1.0'\n"
        "@hookimpl\ndef nnkit_executors():\n"
        "    return [Executor(name=name, summary='', run='a:b') for name in ('My One', 'local', 'far', 'far')]\n"
    )
    manager = plugins_from(bad=source)
    assert [each.name for each in manager.executors()] == ["far"]
    assert [failure.message for failure in manager.failures] == [
        "executor 'My One': a name is lower-case words joined by hyphens",
        "executor 'local': the name is already taken",
        "executor 'far': the name is already taken",
    ]


def test_out_of_memory_is_told_wherever_it_was_noticed():
    from nnkit.verbs.sweep.running import judge_checks

    words = {
        "cuda": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "cpu": "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory",
        "python": "MemoryError: MemoryError",
    }
    for message in words.values():
        assert judge_checks([{"name": "finite", "status": "failed", "message": message}]) == (
            "out of memory", f"finite: {message}"
        )  # fmt: skip
    checks = [{"name": name, "status": status, "message": "so"} for name, status in
              [("a", "passed"), ("b", "warned"), ("c", "warned"), ("d", "skipped")]]  # fmt: skip
    assert judge_checks(checks) == ("warned", "b: so; and 1 more: c")
    assert judge_checks([checks[0], checks[3]]) == ("passed", "1 check, 1 skipped")


def test_the_process_that_watches_is_free_of_torch(seeds, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    code = (
        "import sys; from nnkit.cli.main import main\n"
        "try: main(['smoke-run', '--all', '--executor', 'instant', '--json', '-q'])\n"
        "except SystemExit as ending: print(ending.code, 'torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)"
    )
    assert python("-c", code).stderr.splitlines()[-1] == "0 False False"


def start(seeds, tmp_path, sleep):
    """Start a sweep of three models in a process of its own; two end, one sleeps."""
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SEEDS_LOG": str(tmp_path / "built"),
        "SEEDS_SLEEP": sleep,
    }  # fmt: skip
    command = [sys.executable, "-m", "nnkit", "smoke-run", "sound", "chatty", "slow", "--check", "finite"]
    return subprocess.Popen(
        [*command, "--results", "out.jsonl"], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def processes(tmp_path):
    """Return, by name, the processes that have built a model."""
    found: dict[str, set[int]] = {}
    built = tmp_path / "built"
    for line in built.read_text().splitlines() if built.exists() else ():
        name, pid = line.split()
        found.setdefault(name, set()).add(int(pid))
    return found


def wait_until(condition):
    while not condition():
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_is_finished_is_kept_and_what_runs_ends(seeds, tmp_path, how):
    first = start(seeds, tmp_path, "3600")
    wait_until(lambda: "slow" in processes(tmp_path))
    first.send_signal(how)
    out, err = first.communicate()
    (pid,) = processes(tmp_path)["slow"]
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    if how == signal.SIGINT:
        assert first.returncode == 1
        assert out.endswith("3 models on cpu: 2 passed; 1 not run\n")
        assert err.splitlines()[-2:] == [
            "Error: interrupted; 2 of 3 done",
            "hint: repeat the command to continue",
        ]
    else:
        assert first.returncode == -how
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    out, _ = start(seeds, tmp_path, "0").communicate()
    assert out.endswith("3 models on cpu: 3 passed; 2 from an earlier run\n")
    assert {name: len(pids) for name, pids in processes(tmp_path).items()} == {
        "sound": 1,
        "chatty": 1,
        "slow": 2,
    }
