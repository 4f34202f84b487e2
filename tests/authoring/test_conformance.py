"""The conformance suite: sound architectures pass, each fault is found, by pytest and from the command line."""

import json

import jsonschema
import pytest
from conftest import python
from zoo import EVERY, LARGE, OWN_CODE, TINY, sample

import nnkit
from nnkit import schemas
from nnkit.authoring.conformance import running
from nnkit.authoring.conformance.suite import (
    ARCHITECTURE_CHECKS,
    PLUGIN_CHECKS,
    VERSION,
    Doubtful,
    NotApplicable,
    Unmet,
    meet,
)
from nnkit.cli.help import summary_help
from nnkit.errors import PluginProblem
from nnkit.verbs.core_handlers import plugin_manager

CHECKS = {check.name: check for check in (*PLUGIN_CHECKS, *ARCHITECTURE_CHECKS)}
CHEAP = ("config", "help", "meta", "signature", "shapes", "bounds")


def candidate_of(name, manager=None):
    """Return the candidate that a name stands for."""
    return running.candidates(manager or plugin_manager(), summary_help, name)[-1]


# What is sound passes


@pytest.mark.parametrize("plugin", sorted(plugin_manager().plugins))
def test_the_plugins_of_core_pass(plugin):
    assert "modules (limit" in meet(CHECKS["import"], candidate_of(plugin))


@pytest.mark.parametrize(
    ("check", "name"),
    [(check, name) for check in CHEAP for name in (OWN_CODE if check == "shapes" else EVERY)],
)
def test_the_architectures_of_core_pass(check, name):
    assert meet(CHECKS[check], candidate_of(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sample([name for name in OWN_CODE if name not in LARGE | TINY.keys()], 10, seed=4)
)
def test_every_architecture_of_core_passes_the_whole_suite(name):
    results = {each.name: each for each in card_of(name).checks}
    assert {each.status for each in results.values()} <= {"passed", "warned"}, results
    # Some PointNets can't be trained on a batch of one, of which smoke-run warns.
    warned = {each.name for each in results.values() if each.status == "warned"}
    assert warned == ({"smoke-run"} if name.startswith("pointcloud/") else set()), results
    assert list(results) == [check.name for check in ARCHITECTURE_CHECKS]


def card_of(name, manager=None, checks=()):
    found = [candidate_of(name, manager)]
    (card,) = running.checked(found, running.choose_checks(checks))
    return card


# Each fault is found

SOUND = """
from dataclasses import dataclass
from typing import Annotated
from nnkit import Architecture, Dim, Meta, Preset, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"

@dataclass(frozen=True, kw_only=True)
class Config:
    width: Annotated[int, Meta(ge=1, description="units")] = 3

def build(config):
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, config.width)

        def forward(self, x):
            return self.layer(x)

    return Net()

@hookimpl
def nnkit_architectures():
    return [Architecture(
        name="net", summary="A layer", build=build, config=Config,
        inputs=[TensorSpec("x", ("batch", 4))], outputs=[TensorSpec("y", ("batch", "width"))],
        dims={"batch": Dim(default=2, description="samples")},
    )]
"""

FAULTS = {
    "torch": ("import", ("from dataclasses", "import torch\nfrom dataclasses"), "imports torch"),
    "many modules": (
        "import",
        (
            "from dataclasses",
            "import asyncio, http.server, multiprocessing.managers, pydoc, unittest.mock, xmlrpc.server\nfrom dataclasses",
        ),
        "modules, more than 100; most belong to ",
    ),
    "twice": ("import", ("    return [A", "    return 2 * [A"), "failed at registration: architecture 'net'"),
    "not frozen": ("config", ("frozen=True", "frozen=False"), "Config can be changed"),
    "default out of range": ("config", ("= 3", "= 0"), "width"),
    "preset of nothing": (
        "config",
        ("dims=", 'presets={"big": Preset(config={"depth": 3})}, dims='),
        "unknown option 'depth'",
    ),
    "axis without size": (
        "config",
        (
            'inputs=[TensorSpec("x", ("batch", 4))]',
            'inputs=lambda config: [TensorSpec("x", ("batch", "four"))]',
        ),
        "a shape names 'four', which is neither a dim nor a config field",
    ),
    "option without words": ("help", ('description="units"', ""), "doesn't explain --width"),
    "dim without words": ("help", (', description="samples"', ""), "doesn't explain --batch"),
    "no summary": ("help", ('"A layer"', '""'), "its summary is not one line"),
    "values at birth": (
        "meta",
        ("config.width)\n", "config.width)\n            self.scale = float(self.layer.weight.sum())\n"),
        "meta",
    ),
    "wrong shape": (
        "shapes",
        ('"width"))]', "7))]"),
        "output y has shape 4×3, but 4×7 is declared (batch=4)",
    ),
    "fixed batch": (
        "shapes",
        ("self.layer(x)", "self.layer(x).view(2, -1)"),
        "output y has shape 2×",
    ),
    "fails at a size": (
        "shapes",
        ("self.layer(x)", "self.layer(x) if len(x) > 1 else x @ x"),
        "forward fails at batch=1: RuntimeError: mat1 and mat2 shapes",
    ),
    "no outputs": (
        "shapes",
        ('outputs=[TensorSpec("y", ("batch", "width"))]', "outputs=[]"),
        "declares no outputs",
    ),
    "own seed": (
        "determinism",
        ("super().__init__()", "super().__init__()\n            torch.manual_seed(0)"),
        "a different seed gives the same weights",
    ),
    "no seed": (
        "determinism",
        (
            "config.width)\n",
            "config.width)\n            import time; self.layer.bias.data.fill_(time.perf_counter() % 1)\n",
        ),
        "layer.bias changes when the model is built again",
    ),
    "random in eval": (
        "determinism",
        ("self.layer(x)", "self.layer(x) + torch.rand(1)"),
        "differs between two runs",
    ),
    "unused parameter": (
        "gradients",
        ("config.width)\n", "config.width)\n            self.idle = nn.Linear(2, 2)\n"),
        "no gradient reaches idle.bias, idle.weight",
    ),
    "kept aside": (
        "safetensors",
        (
            "config.width)\n",
            "config.width)\n            self.register_buffer('b', torch.rand(3), persistent=False)\n",
        ),
        "b differs in the model built from the file",
    ),
    "mixes the batch": (
        "smoke-run",
        ("self.layer(x)", "self.layer(x) - x.mean()"),
        "batch-independence: sample 0",
    ),
    "strange report": (
        "schemas",
        ("dims=", 'handlers={"summary": "plugin_under_test_bad:summarize"}, dims='),
        "the report of summary at $: 'nnkit' is a required property",
    ),
}
HANDLER = """
def summarize(request):
    class Report:
        def to_dict(self):
            return {"schema": "nnkit.summary/1", "rows": []}
    return Report()
"""


@pytest.fixture
def candidate(plugins_from):
    """Make a candidate of the sound plugin with something changed in it."""

    def make(*changes, plugin=False, **declared):
        source = SOUND + HANDLER
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        if declared:
            source = source.replace("dims=", f"unsupported={declared['unsupported']!r}, dims=")
        found = running.candidates(plugins_from(bad=source), summary_help, "bad")
        return found[0] if plugin else found[-1]

    return make


@pytest.mark.parametrize("name", ["import", *CHEAP, "determinism", "gradients", "safetensors", "unsupported"])
def test_a_sound_plugin_passes(candidate, name):
    assert meet(CHECKS[name], candidate(plugin=name == "import"))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_told(candidate, fault):
    name, change, message = FAULTS[fault]
    with pytest.raises(Unmet) as raised:
        meet(CHECKS[name], candidate(change, plugin=name == "import"))
    assert message in raised.value.message
    assert raised.value.hint


# The signature of forward, optional inputs and bounds

TREE = """
from dataclasses import dataclass
from typing import Annotated
from nnkit import Architecture, Dim, Meta, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.1"

@dataclass(frozen=True, kw_only=True)
class Config:
    levels: Annotated[int, Meta(ge=1, le=3, description="halvings")] = 2

def build(config):
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, pair, mask=None, *, scale):
            x = pair["left"] + pair["right"]
            halved = x.unflatten(1, (-1, 2**config.levels)).mean(2)
            return {"halved": scale * self.layer(halved), "whole": x if mask is None else x * mask[..., None]}

    return Net()

@hookimpl
def nnkit_architectures():
    return [Architecture(
        name="net", summary="A tree", build=build, config=Config,
        inputs=[
            TensorSpec("pair.left", ("batch", "time", 4)),
            TensorSpec("pair.right", ("batch", "time", 4)),
            TensorSpec("mask", ("batch", "time"), "bool", sample="keep", optional=True),
        ],
        outputs=[
            TensorSpec("halved", ("batch", "time // 2**levels", 4)),
            TensorSpec("whole", ("batch", "time", 4)),
        ],
        constants={"scale": 2.0},
        dims={
            "batch": Dim(default=2, description="samples"),
            "time": Dim(default=8, min="2**levels", multiple_of="2**levels", description="steps"),
        },
        constraints=("batch <= time",),
    )]
"""

FAULTS_OF_TREES = {
    "a parameter that isn't declared": (
        "signature",
        ("*, scale", "*, scale, power"),
        "forward takes pair, mask, scale, power, but pair, mask, scale is declared",
    ),
    "a constant that isn't taken": (
        "signature",
        (", *, scale", ", *, factor"),
        "pair, mask, scale is declared",
    ),
    "optional, but needed": (
        "signature",
        ("mask=None", "mask"),
        "'mask' is declared optional, but forward has no default for it",
    ),
    "an output under another name": (
        "signature",
        ('TensorSpec("whole"', 'TensorSpec("all"'),
        "forward returns 'whole' where 'all' is declared",
    ),
    "parts without a container": (
        "signature",
        ("constants=", 'containers={"pair": "tuple"}, constants='),
        "the parts of 'pair' can't be put together",
    ),
    "wrong without an optional input": (
        "shapes",
        ("x if mask is None", "x[:, :1] if mask is None"),
        "declared (batch=4 time=8, without mask)",
    ),
    "a bound that doesn't follow the option": (
        "bounds",
        ('multiple_of="2**levels"', "multiple_of=4"),
        "with levels=3: forward fails at",
    ),
    "defaults that break a constraint": (
        "bounds",
        ("batch <= time", "time <= batch"),
        "the default sizes don't go together: time <= batch doesn't hold for batch=2, time=8",
    ),
}


def tree(plugins_from, *changes):
    source = TREE
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return running.candidates(plugins_from(bad=source), summary_help, "bad")[-1]


def test_a_tree_with_constants_and_optional_inputs_passes(plugins_from):
    candidate = tree(plugins_from)
    assert meet(CHECKS["signature"], candidate) == "takes 3 arguments, also without mask; returns 2 tensors"
    assert "with and without mask, without weights" in meet(CHECKS["shapes"], candidate)
    assert meet(CHECKS["bounds"], candidate).endswith("; shapes hold at levels=1, levels=3")


@pytest.mark.parametrize("fault", FAULTS_OF_TREES)
def test_each_fault_of_a_signature_is_found(plugins_from, fault):
    name, change, message = FAULTS_OF_TREES[fault]
    with pytest.raises(Unmet) as raised:
        meet(CHECKS[name], tree(plugins_from, change))
    assert message in raised.value.message
    assert raised.value.hint


def test_a_declaration_that_forward_cannot_take_is_the_problem_of_its_plugin(plugins_from):
    candidate = tree(plugins_from, ("*, scale", "*, scale, power"))
    with pytest.raises(
        PluginProblem, match="plugin bad declares bad/net wrongly: forward takes pair, mask"
    ) as raised:
        nnkit.build(candidate.spec, manager=candidate.host)
    assert raised.value.exit_code == 3


def test_names_that_forward_does_not_have_are_passed_by_position_with_a_warning(candidate):
    other = candidate(("forward(self, x)", "forward(self, xs)"), ("self.layer(x)", "self.layer(xs)"))
    with pytest.raises(
        Doubtful, match="forward has no parameter 'x', so all are passed by position; did you mean xs"
    ):
        meet(CHECKS["signature"], other)
    assert nnkit.smoke_run(other.spec, checks=["finite"], manager=other.host).passed


def test_one_shape_without_dims_is_compared_all_the_same(candidate):
    changes = ('("batch", 4)', "(2, 4)"), ('("batch", "width")', "(2, 5)")
    with pytest.raises(Unmet, match=r"output y has shape 2×3, but 2×5 is declared \(no dims\)"):
        meet(CHECKS["shapes"], candidate(*changes))


def test_a_check_of_one_shape_says_so(candidate):
    changes = ('("batch", 4)', "(2, 4)"), ('("batch", "width")', '(2, "width")')
    assert meet(CHECKS["shapes"], candidate(*changes)) == "one shape, no dims, without weights"


@pytest.mark.slow
def test_what_onnx_has_no_operator_for_is_told_by_the_proof(candidate):
    change = ("self.layer(x)", "torch.linalg.qr(self.layer(x)).Q")
    with pytest.raises(Unmet, match="torch can't export bad/net: ConversionError") as raised:
        meet(CHECKS["onnx"], candidate(change))
    assert "unsupported=" in raised.value.hint


# What is declared unsupported is tried all the same


def test_a_declaration_that_is_true_is_a_skip_with_its_reason(candidate):
    change = ("self.layer(x)", "self.layer(x) - x.mean()")
    declared = {"smoke-run": "it is of one batch", "batch-independence": "it subtracts the mean of all"}
    for name, reason in {"smoke-run": "of one batch", "unsupported": "batch-independence"}.items():
        try:
            saw = meet(CHECKS[name], candidate(change, unsupported=declared))
        except NotApplicable as told:
            saw = str(told)
        assert reason in saw


@pytest.mark.parametrize("name", ["meta", "shapes", "determinism", "gradients", "safetensors"])
def test_a_declaration_that_is_not_true_is_a_fault_of_its_own_check(candidate, name):
    with pytest.raises(Unmet, match="it passes, but is declared unsupported: I never tried") as raised:
        meet(CHECKS[name], candidate(unsupported={name: "I never tried"}))
    assert raised.value.hint == "remove it from `unsupported`"


def test_an_export_that_is_declared_impossible_is_tried_in_each_format(candidate):
    with pytest.raises(Unmet, match="it passes, but is declared unsupported: no files"):
        meet(CHECKS["safetensors"], candidate(unsupported={"export": "no files"}))


@pytest.mark.parametrize("name", ["summary", "build", "finite", "pt2"])
def test_the_others_are_tried_by_the_check_unsupported(candidate, name):
    with pytest.raises(Unmet, match=f"{name} works, but is declared unsupported: I never tried"):
        meet(CHECKS["unsupported"], candidate(unsupported={name: "I never tried"}))


def test_a_declaration_of_what_there_is_not_is_a_fault(candidate):
    with pytest.raises(Unmet, match="'onxx' is declared unsupported, but nothing has that name") as raised:
        meet(CHECKS["unsupported"], candidate(unsupported={"onxx": "never"}))
    assert raised.value.hint == "did you mean onnx?"


def test_reports_of_what_is_declared_unsupported_are_left_out(candidate):
    declared = {"export": "no files", "smoke-run": "no run"}
    assert meet(CHECKS["schemas"], candidate(unsupported=declared)) == "summary: valid against their schemas"


def test_without_jsonschema_the_check_says_what_to_install(candidate, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jsonschema", None)
    with pytest.raises(NotApplicable, match=r"pip install 'nnkit\[testing\]'"):
        meet(CHECKS["schemas"], candidate())


# The report card


def test_a_card_tells_each_check_and_how_to_repeat_it(candidate):
    found = candidate(("self.layer(x)", "self.layer(x) - x.mean()"), unsupported={"finite": "never tried"})
    (card,) = running.checked([found], running.choose_checks(["config", "smoke-run", "unsupported"]))
    assert [check.status for check in card.checks] == ["passed", "failed", "failed"]
    assert (
        "if this is on purpose, declare unsupported={'batch-independence': 'why'}" in card.checks[1].message
    )
    assert card.checks[1].repeat == "nnkit plugins check bad/net --check smoke-run"
    assert not card.passed


def test_the_command_prints_cards_of_a_plugin_a_distribution_or_an_architecture(nnkit_command):
    cheap = ["--check", "import", "--check", "config"]
    plugin = nnkit_command("plugins", "check", "graph", *cheap)
    assert plugin.code == 0
    assert plugin.err == ""
    assert plugin.out.startswith("graph · nnkit 0.1.0\n\npassed   import  ")
    assert plugin.out.count("passed   config  ") == 5
    one = nnkit_command("plugins", "check", "gcn", *cheap).out
    assert one.count("passed   config  ") == 1
    assert nnkit_command("plugins", "check", "graph", "--architecture", "gcn", *cheap).out == one
    everything = nnkit_command("plugins", "check", "nnkit", *cheap).out
    assert everything.count("passed   config  ") == len(EVERY)


def test_the_json_of_cards_is_as_its_schema_says(nnkit_command):
    done = nnkit_command("plugins", "check", "gin", "--check", "config", "--check", "help", "--json")
    data = json.loads(done.out)
    jsonschema.validate(data, schemas.schema_of(data), cls=jsonschema.Draft202012Validator)
    assert (data["suite"], data["passed"]) == (VERSION, True)
    assert [card["name"] for card in data["cards"]] == ["graph/gin"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "no plugins are installed besides nnkit's own", "name a plugin: nnkit plugins check vision"),
        (["grap"], "unknown plugin, distribution or architecture 'grap'", "did you mean graph"),
        (
            ["graph", "--architecture", "gnc"],
            "graph declares no architecture 'gnc'",
            "did you mean gnn or gin or gcn?",
        ),
        (["graph", "--check", "onxx"], "unknown check 'onxx'", "did you mean onnx?"),
    ],
)
def test_names_that_nobody_has_are_usage_errors(nnkit_command, words, message, hint):
    done = nnkit_command("plugins", "check", *words)
    assert done.code == 2
    assert done.err.splitlines()[0] == f"Error: {message}"
    assert hint in done.err.splitlines()[1]


def test_the_command_ends_with_4_where_a_check_fails(nnkit_command, plugins_from, monkeypatch):
    manager = plugins_from(bad=SOUND.replace('description="units"', ""), good=SOUND)
    monkeypatch.setattr("nnkit.cli.plugins.check.plugin_manager", lambda: manager)
    done = nnkit_command("plugins", "check", "--check", "help")  # neither comes with nnkit
    assert done.code == 4
    assert "failed   help  the help text doesn't explain --width\n" in done.out
    assert "again: nnkit plugins check bad/net --check help" in done.out
    assert done.err == (
        "Error: 1 of 2 checks failed\nhint: rerun one: nnkit plugins check bad/net --check help\n"
    )


def test_a_traceback_is_shown_when_asked_for(nnkit_command, plugins_from, monkeypatch):
    manager = plugins_from(bad=SOUND.replace("= 3", "= 0"))
    monkeypatch.setattr("nnkit.cli.plugins.check.plugin_manager", lambda: manager)
    words = ("plugins", "check", "--check", "config")
    assert "Traceback" not in nnkit_command(*words).err
    assert "nnkit/authoring/conformance/declared.py" in nnkit_command(*words, "-v").err


def test_a_plugin_that_does_not_load_or_is_switched_off(nnkit_command, plugins_from, monkeypatch):
    manager = plugins_from({"NNKIT_DISABLE_PLUGINS": "off"}, bad="import not_there", off=SOUND)
    monkeypatch.setattr("nnkit.cli.plugins.check.plugin_manager", lambda: manager)
    broken = nnkit_command("plugins", "check", "bad")
    assert broken.code == 4
    assert "failed   import  failed at import: ModuleNotFoundError" in broken.out
    assert nnkit_command("plugins", "check", "off").code == 3


@pytest.mark.slow
def test_the_command_needs_no_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from nnkit.cli.main import main\nmain(['plugins', 'check', 'gcn', '--check', 'schemas'])"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "passed   schemas  summary, export, smoke-run" in done.stdout


# pytest


def run_pytest(folder, source, *args):
    (folder / "test_it.py").write_text(source)
    command = ["-m", "pytest", "-q", "-rsfE", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    return python(*command, *args, str(folder / "test_it.py"), cwd=folder)


SUITE = """
from nnkit.testing import ArchitectureSuite

class TestIt(ArchitectureSuite):
    plugin = "{plugin}"
    architectures = {architectures}
    suite_version = {version}
"""


def test_a_subclass_is_run_for_each_architecture(tmp_path):
    source = SUITE.format(plugin="graph", architectures=("gcn", "gat"), version=VERSION)
    done = run_pytest(tmp_path, source, "--collect-only")
    lines = [line.partition("::TestIt::")[2] for line in done.stdout.splitlines() if "::" in line]
    assert lines[0] == "test_import"
    assert lines[1:3] == ["test_config[gcn]", "test_config[gat]"]
    assert len(lines) == 1 + 2 * len(ARCHITECTURE_CHECKS)  # each check of the suite has its test


def test_a_subclass_passes_and_leaves_out_what_came_later(tmp_path):
    cheap = "import or config or help"
    source = SUITE.format(plugin="graph", architectures=("gcn",), version=VERSION)
    assert "3 passed" in run_pytest(tmp_path, source, "-k", cheap).stdout
    older = run_pytest(tmp_path, SUITE.format(plugin="graph", architectures=("gcn",), version=0), "-k", cheap)
    assert "it came with version 1 of the suite" in older.stdout
    assert "3 skipped" in older.stdout


@pytest.mark.parametrize(
    ("plugin", "architectures", "message"),
    [
        ("grap", (), "TestIt: unknown plugin, distribution or architecture 'grap'"),
        ("graph", ("gnc",), "TestIt: graph declares no architecture 'gnc'"),
        ("", (), "TestIt names no plugin"),
    ],
)
def test_a_subclass_of_nothing_is_an_error_not_a_pass(tmp_path, plugin, architectures, message):
    done = run_pytest(tmp_path, SUITE.format(plugin=plugin, architectures=architectures, version=1))
    assert done.returncode == 2
    assert message in done.stdout


def test_the_suite_imports_neither_torch_nor_pytest():
    done = python("-c", "import sys, nnkit.testing; print({'torch', 'pytest', 'click'} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr
