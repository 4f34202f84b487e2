"""`--simulate`: what is in the wrong place is found with its line, and nothing else is called a fault."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import misplaced
import pytest
import seeded
import torch
from conftest import ROOT
from test_schemas import SCHEMAS
from torch import nn
from zoo import LARGE, OWN_CODE, TINY, sample

import nnkit
from nnkit.cli.main import main
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.smoke import simulation

HERE = Path(__file__).parent
INPUT = "x: float32[batch, 6]"

# Where each fault shows, and what is said of it there.
FAULTS = {
    seeded.ZerosOnCpu: ("torch.zeros(len(x), 6)", "float32 4×6 on cpu used with a tensor on cuda"),
    seeded.PlainTensor: ("@ self.scale", "float32 6×6 on cpu used with a tensor on cuda; it is scale, which"),
    seeded.ListOfLayers: ("layer(x)", "; it is layers[0].bias, which .to() doesn't move"),
    seeded.MovedToCpu: (".cpu()", "float32 4×6 on cpu used with a tensor on cuda"),
    seeded.ThroughNumpy: (".numpy()", "float32 4×6 goes from cuda to numpy, and its gradient is lost"),
    seeded.RangeOnCpu: ("y * places", "int64 6 on cpu used with a tensor on cuda; created there at "),
    misplaced.helper: ("y @ torch.eye(6)", "float32 6×6 on cpu used with a tensor on cuda"),
    misplaced.ListOfConvolutions: ("self.layers[0]", "; it is layers[0].weight, which .to() doesn't move"),
    misplaced.ListOfBags: ("self.layers[0]", "; it is layers[0].weight, which .to() doesn't move"),
    misplaced.HiddenStateOnCpu: ("self.recurrent(", "Input and hidden tensors are not at the same device, "),
    misplaced.InClosure: ("lambda y: y * scale", "; created before forward, and .to() doesn't move it"),
    misplaced.OwnBackward: ("gradient * torch.full", "float32 6 on cpu used with a tensor on cuda"),
    misplaced.NumpyOnDevice: (".numpy()", "float32 4×6 on cuda can't be converted to a numpy array"),
}
SHOWN_BY = {misplaced.helper: misplaced.MadeInHelper, misplaced.OwnBackward: misplaced.BackwardOnCpu}

# What stays on the CPU without an error, and the line that put it there.
SILENT = {
    misplaced.OutputMoved: ("output is on cpu; moved there at ", ".cpu()"),
    misplaced.OutputMade: ("output is on cpu; created there at ", "torch.zeros(len(x), 6)"),
    misplaced.BufferReplaced: ("state is on cpu; created there at ", "torch.ones(6)"),
}
SOUND = (
    seeded.Base, misplaced.IndexedFromCpu, misplaced.NamesItself, misplaced.Autocast,
    misplaced.Expects, misplaced.TiedLazyNormed, misplaced.FrozenIndices,
)  # fmt: skip
BEYOND = {
    misplaced.ValueBranch: ("the model needs a tensor's values, which are not simulated, at ", "y.sum() > 0"),
    misplaced.CountsInNumpy: ("the model needs a tensor's values, which are not simulated, at ", ".numpy()"),
    misplaced.SparseMatrix: (
        "the simulation can't run the model: no kernel for aten::empty.memory_format on ",
        "diagonal @",
    ),
    misplaced.KnowsCpuAndCuda: (
        "the simulation can't run the model: never heard of this device, at ",
        "raise",
    ),
}


# They have nothing that the smaller ones of their families lack.
def simulations(wanted):
    """Return the verdicts of (reference, inputs, preset), by reference."""
    done = subprocess.run(
        [sys.executable, HERE / "simulations.py"],
        input=json.dumps(wanted), capture_output=True, text=True, check=False, cwd=HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def verdict():
    """Return the status and message of a module of the two files of small ones."""
    kinds = [
        *(SHOWN_BY.get(each, each) for each in FAULTS), *SILENT, *SOUND, *BEYOND, misplaced.FailsEverywhere
    ]  # fmt: skip
    found = simulations([(f"{kind.__module__}:{kind.__name__}", [INPUT], None) for kind in kinds])
    return lambda kind: found[f"{kind.__module__}:{kind.__name__}"]


def line_of(code, text):
    """Return where in a file, and in which function, a piece of code has `text`, as it is told."""
    lines, first = inspect.getsourcelines(code)
    (place,) = [number for number, line in enumerate(lines) if text in line]
    name = next(re.findall(r"def (\w+)", line)[0] for line in lines[place::-1] if "def " in line)
    if "lambda" in lines[place]:
        name = "<lambda>"
    return f"{Path(inspect.getsourcefile(code)).name}:{first + place} in {name}: {lines[place].strip()}"


@pytest.mark.parametrize("code", FAULTS, ids=lambda code: code.__name__)
def test_a_tensor_in_the_wrong_place_is_found_with_its_line(verdict, code):
    text, told = FAULTS[code]
    status, message = verdict(SHOWN_BY.get(code, code))
    assert status == "failed"
    assert message.startswith(f"{line_of(code, text)}: ")
    assert told in message


def test_it_tells_where_the_tensor_was_made(verdict):
    _, message = verdict(seeded.RangeOnCpu)
    assert message.endswith("created there at " + line_of(seeded.RangeOnCpu, "torch.arange(6"))


@pytest.mark.parametrize("code", SILENT, ids=lambda code: code.__name__)
def test_what_ends_on_the_cpu_without_an_error_is_found(verdict, code):
    told, text = SILENT[code]
    assert verdict(code) == ["failed", told + line_of(code, text)]


@pytest.mark.parametrize("code", SOUND, ids=lambda code: code.__name__)
def test_what_an_accelerator_allows_is_no_fault(verdict, code):
    assert verdict(code) == ["passed", "forward, backward and a step of SGD, everything on cuda"]


@pytest.mark.parametrize("code", BEYOND, ids=lambda code: code.__name__)
def test_what_only_the_simulation_cannot_run_is_skipped_with_the_reason(verdict, code):
    told, text = BEYOND[code]
    status, message = verdict(code)
    assert status == "skipped"
    assert message.startswith(told)
    assert message.endswith(line_of(code, text))


def test_a_model_that_does_not_run_at_all_fails(verdict):
    status, message = verdict(misplaced.FailsEverywhere)
    assert status == "failed"
    assert message.startswith("the model fails on the CPU too: RuntimeError: mat1 and mat2 shapes")
    assert message.endswith(line_of(seeded.Base, "self.one(x)"))


def test_the_command_reports_apart_from_what_the_model_prints(capfd, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    with pytest.raises(SystemExit) as ending:
        main(["smoke-run", "misplaced:Talks", "--input", INPUT, "--simulate", "xpu", "--json"])
    assert ending.value.code == 4
    out, err = capfd.readouterr()
    data = json.loads(out)
    jsonschema.validate(data, SCHEMAS["smoke-run"])
    assert (data["device"], data["passed"]) == ("xpu (simulated)", False)
    (check,) = data["checks"]
    assert check["name"] == "placement"
    assert check["message"].endswith("torch.zeros(6): float32 6 on cpu used with a tensor on xpu")
    assert check["repeat"].endswith("--simulate xpu --check placement")
    assert "said by the model\n" in err
    assert "said by a program\n" in err
    assert "Error: 1 of 1 checks failed: placement\n" in err


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("import sys; sys.exit(0)", "with exit code 0"),
        ("import sys; sys.exit(3)", "with exit code 3"),
        pytest.param(
            "import os; os.abort()", f"by signal {signal.SIGABRT.value}",
            marks=pytest.mark.skipif(os.name != "posix", reason="needs signals"),
        ),
    ],
)  # fmt: skip
def test_a_process_that_dies_is_one_clear_error(nnkit_command, monkeypatch, program, ending):
    monkeypatch.setattr(simulation, "PROGRAM", program)
    done = nnkit_command("smoke-run", "simple-cnn", "--simulate", "cuda")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"Error: the simulation process ended {ending}, without a result\nhint: ")


def test_one_that_does_not_end_is_one_clear_error(nnkit_command, monkeypatch):
    monkeypatch.setattr(simulation, "TIME_LIMIT", 0.01)
    done = nnkit_command("smoke-run", "simple-cnn", "--simulate", "cuda")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: the simulation did not finish within 0.01 seconds\nhint: ")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--simulate", "tpu"], "can't simulate 'tpu'"),
        (["--simulate", "cpu"], "can't simulate 'cpu'"),
        (["--simulate", "cuda:1"], "can't simulate 'cuda:1'"),
        (["--simulate", "cuda", "--device", "cpu"], "--device and --simulate don't go together"),
        (["--simulate", "cuda", "--full"], "--full can't be simulated: a simulation has no values"),
        (
            ["--simulate", "cuda", "--check", "finite"],
            "--check finite can't be simulated: a simulation has no values",
        ),
        (["--simulate"], "Option '--simulate' requires an argument."),
    ],
)
def test_what_cannot_be_asked_for(nnkit_command, words, error):
    done = nnkit_command("smoke-run", "simple-cnn", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {error}\nhint: ")


@pytest.mark.skipif(torch.xpu.is_available(), reason="there is one")
def test_a_device_that_is_not_there_can_be_simulated(nnkit_command, tmp_path):
    done = nnkit_command("smoke-run", "simple-cnn", "--device", "xpu:1")
    assert done.code == 2
    assert done.err.endswith("; to check only the placement: --simulate xpu\n")
    other = nnkit_command("export", "simple-cnn", "--onnx", "--device", "xpu")
    assert "--simulate" not in other.err


@pytest.mark.parametrize(
    ("target", "options", "error"),
    [
        ((nn.Linear(2, 2), [torch.zeros(1, 2)]), {}, "can't take them from Python"),
        (
            ("simple-cnn", [torch.zeros(1, 3, 32, 32)]),
            {},
            "example inputs are for modules, and simple-cnn is none",
        ),
        (("simple-cnn",), {"device": "cuda"}, "device= and simulate= don't go together"),
        (("simple-cnn",), {"checks": ["placement", "cast"]}, "--check cast can't be simulated"),
    ],
)
def test_what_cannot_be_asked_for_from_python(target, options, error):
    with pytest.raises(UsageProblem, match=error):
        nnkit.smoke_run(*target, simulate="cuda", **options)


def test_a_handler_that_knows_no_simulation_does_not_take_the_cpu(plugins_from):
    manager = plugins_from(
        old="NNKIT_PLUGIN_API = '1.0'\n"
        "from nnkit import hookimpl\n"
        "@hookimpl\n"
        "def nnkit_smoke_run(request):\n"
        "    from nnkit.models.devices import find_device\n"
        "    find_device(request.device)\n"
    )
    spec = nnkit.resolve("simple-cnn")
    with pytest.raises(UsageProblem, match=r"'cuda \(simulated\)' is not a device"):
        nnkit.smoke_run(spec, simulate="cuda", manager=manager)


def test_the_parent_does_without_torch():
    program = "import sys; from nnkit.verbs.smoke import simulation; import nnkit.models.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_from_python_with_every_choice_passed_on():
    report = nnkit.smoke_run(
        "gcn", simulate="mps", checks=["placement"], adjacency="dense", dtype="bfloat16", nodes=9
    )
    assert (report.passed, report.device, report.spec.sizes["nodes"]) == (True, "mps (simulated)", 9)
    (check,) = report.checks
    assert check.message == "forward, backward and a step of SGD, everything on mps"
    assert check.repeat == (
        "nnkit smoke-run graph/gcn --adjacency dense --nodes 9 --dtype bfloat16 --simulate mps --check placement"
    )


@pytest.mark.slow
def test_a_model_that_cannot_be_built_raises_its_own_error(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    spec = look_up("misplaced:CannotBeBuilt", plugin_manager(), [INPUT]).resolve()
    with pytest.raises(
        NnkitError, match="building misplaced:CannotBeBuilt failed: ValueError: not today"
    ) as raised:
        nnkit.smoke_run(spec, simulate="cuda")
    assert 'raise ValueError("not today")' in str(raised.value.__cause__)


@pytest.mark.slow
def test_a_model_that_ends_the_process_is_one_clear_error(nnkit_command, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    done = nnkit_command("smoke-run", "misplaced:Exits", "--input", INPUT, "--simulate", "cuda")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: the simulation process ended with exit code 0, without a result\n")


@pytest.mark.slow
def test_no_false_alarm_in_the_zoo():
    named = sample([name for name in OWN_CODE if name not in LARGE], 24, seed=5)
    images = ["x: float32[batch, 3, 64, 64]"]
    wanted = [
        *((name, [], TINY.get(name, {}).get("preset")) for name in named),
        ("misplaced:mobilenet", images, None),
        ("misplaced:shufflenet", images, None),
        ("misplaced:vision_transformer", ["x: float32[batch, 3, 160, 160]"], None),
    ]
    verdicts = simulations(wanted)
    # Which tokens an expert gets, and so how many, depends on their values.
    needs_values = {name for name, (status, _) in verdicts.items() if status == "skipped"}
    assert needs_values <= {"sequence/moe"}
    assert {status for name, (status, _) in verdicts.items() if name not in needs_values} == {"passed"}
    assert len(verdicts) == len(wanted) > 25
