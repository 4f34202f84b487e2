"""The contract with plugins: each part of it is documented, its example runs, and strict types hold."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
import warnings
from importlib.metadata import EntryPoint

import pytest
import torch
from conftest import ROOT

import nnkit
from nnkit.contract import contributions, hooks, requests
from nnkit.contract.api_version import PLUGIN_API
from nnkit.contract.loading import load
from nnkit.render.graph.pictures import draw
from nnkit.verbs.core_handlers import make_manager, plugin_manager

HOOKS = {name: each for name, each in vars(hooks).items() if hasattr(each, "nnkit_spec")}
PACKAGE = "nnkit_yours"


def _reports():
    """Yield every report: a dataclass with the name of its schema."""
    for module in pkgutil.walk_packages(nnkit.__path__, "nnkit."):
        if module.name != "nnkit.__main__":
            for each in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(each) and "SCHEMA" in vars(each) and dataclasses.is_dataclass(each):
                    yield each


def _public():
    """Yield what plugins get, give and read: the dataclasses of the contract and of `import nnkit`, reports."""
    for module in (requests, contributions):
        yield from (each for each in vars(module).values() if dataclasses.is_dataclass(each))
    yield from (each for name in nnkit.__all__ if dataclasses.is_dataclass(each := getattr(nnkit, name)))
    yield from _reports()


PUBLIC = {each.__name__: each for each in _public()}
SLOW = {"BenchReport", "Diagnosis", "ExportsReport", "SweepReport"}  # whose examples take long


def example_of(documented) -> str:
    """Return the code under `Example:` in a docstring; the empty string where there is none."""
    _, _, after = inspect.cleandoc(documented.__doc__ or "").partition("Example:\n")
    block = re.match(r"(?:(?: {4}.*)?\n)+", after + "\n")
    return textwrap.dedent(block.group()).strip("\n") + "\n" if after and block else ""


def with_imports(code: str) -> str:
    """Put before the code the imports of all that it uses, of nnkit and of the standard library."""
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    lines = [f"from nnkit import {name}" for name in sorted(used & set(nnkit.__all__))]
    homes = {"dataclass": "dataclasses", "replace": "dataclasses", "Annotated": "typing", "Path": "pathlib"}
    lines += [f"from {home} import {name}" for name, home in homes.items() if name in used]
    lines += [f"import {name}" for name in ("time", "torch", "nnkit") if name in used]
    return "\n".join([*lines, "", code])


def test_the_contract_is_found():
    assert {"nnkit_architectures", "nnkit_build", "nnkit_smoke_run"} <= set(HOOKS)
    assert {"Architecture", "SummaryRequest", "Exporter", "SummaryReport", "Diagnosis"} <= set(PUBLIC)


@pytest.mark.parametrize("name", [*HOOKS, *PUBLIC])
def test_it_is_documented_with_an_example(name):
    documented = {**HOOKS, **PUBLIC}[name]
    first = inspect.cleandoc(documented.__doc__).splitlines()[0]
    assert first.endswith((".", ":")), f"{name} needs a docstring that opens with a sentence"
    assert not first.startswith(f"{name}("), f"{name} has no docstring of its own"
    assert example_of(documented), f"the docstring of {name} needs an Example: with indented code"


@pytest.mark.parametrize("name", PUBLIC)
def test_each_field_is_explained(name):
    lineage = [each for each in PUBLIC[name].__mro__ if dataclasses.is_dataclass(each)]
    said = " ".join(
        [
            requests.__doc__,
            contributions.__doc__,
            *(each.__doc__.partition("Example:")[0] for each in lineage),
        ]
    )
    for field in dataclasses.fields(PUBLIC[name]):
        assert re.search(rf"\b{field.name}\b", said), f"the docstring of {name} doesn't explain {field.name}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PUBLIC]
)
def test_the_example_of_a_request_or_report_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = with_imports(example_of(PUBLIC[name]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(code, name, "exec"), {"__name__": "example", "manager": plugin_manager()})


@pytest.fixture
def yours(tmp_path, monkeypatch):
    """Install the example of a hook as a package, whose files it names; return a manager that knows it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def install(hook):
        folder = tmp_path / PACKAGE
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        codes = {"plugin": example_of(HOOKS[hook])}
        if hook != "nnkit_architectures":  # what the other hooks are about
            base = example_of(HOOKS["nnkit_architectures"])
            codes["plugin"] = base.partition("# nnkit_yours")[0] + codes["plugin"]
            codes["net"] = base.partition("# nnkit_yours/net.py\n")[2]
        for name, code in codes.copy().items():
            codes[name], *others = re.split(r"^# nnkit_yours/(\w+)\.py\n", code, flags=re.MULTILINE)
            codes.update(zip(others[::2], others[1::2], strict=True))
        for name, code in codes.items():
            version = f'NNKIT_PLUGIN_API = "{PLUGIN_API}"\n'
            (folder / f"{name}.py").write_text(with_imports(code) + version)
        return make_manager([EntryPoint("yours", f"{PACKAGE}.plugin", "nnkit")], {})

    yield install
    for name in [each for each in sys.modules if each.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.mark.parametrize("name", HOOKS)
def test_the_example_of_a_hook_is_a_plugin_that_works(name, yours, tmp_path):
    manager = yours(name)
    assert [str(each) for each in manager.failures] == []
    spec = nnkit.resolve("net", manager=manager)
    verbs = {hook: verb for verb, hook in hooks.HOOK_OF_VERB.items()}
    if name in verbs:
        assert "yours" in manager.handlers(spec)[verbs[name]]
    match name:
        case "nnkit_build":
            assert type(nnkit.build(spec, manager=manager)) is torch.nn.Linear
        case "nnkit_summarize":
            assert nnkit.summarize(spec, manager=manager).reason == "seen by yours"
        case "nnkit_export":
            said = []
            nnkit.export(spec, tmp_path / "net.safetensors", manager=manager, progress=said.append)
            assert " took " in said[-1]
        case "nnkit_exporters":
            assert nnkit.export(spec, tmp_path / "net.state", manager=manager).format == "state"
            assert set(torch.load(tmp_path / "net.state")) == {"layer.weight", "layer.bias"}
        case "nnkit_pictures":
            assert [each.name for each in manager.pictures()] == ["edge-list"]
            report = nnkit.graph(spec, manager=manager)
            text = draw(manager.pictures()[0], nnkit.DrawRequest(report=report)).decode()
            assert text == "x layer, layer y"
        case "nnkit_checks":
            (check,) = nnkit.smoke_run(spec, checks=["bounded"], manager=manager).checks
            assert check.message.startswith("at most ")
        case "nnkit_executors":
            assert [each.name for each in manager.executors()] == ["pool"]
            assert callable(load(manager.executors()[0].run))
        case "nnkit_formulas":
            (formula,) = manager.formulas()
            assert load(formula.macs)([torch.zeros(3)], {}, None) == 3
        case "nnkit_architectures":
            assert nnkit.summarize(spec, manager=manager).totals.parameters == 8 * 16 + 16
        case "nnkit_namespaces":
            report = nnkit.summarize("yours/net-999", manager=manager)
            assert (report.spec.name, report.totals.parameters) == ("yours/net-999", 8 * 999 + 999)
            assert (
                nnkit.summarize("yours/net-9", width=2, set={"bias": False}, manager=manager).totals.macs
                == 16
            )
        case "nnkit_smoke_run":
            assert nnkit.smoke_run(spec, manager=manager).passed
            with pytest.raises(nnkit.NnkitError, match="made for the CPU"):
                nnkit.smoke_run(spec, device="meta", manager=manager)
    assert [str(each) for each in manager.failures] == []


def test_an_example_that_is_missing_is_found():
    def nnkit_new():
        """Return something new."""

    assert example_of(nnkit_new) == ""
    nnkit_new.__doc__ = "Return something.\n\n    Example:\n\n        x = 1\n\n        y = 2\n\n    And more."
    assert example_of(nnkit_new) == "x = 1\n\ny = 2\n"


# docs/contract.md

PAGE = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")


def test_the_page_names_every_hook_check_and_version():
    from nnkit.authoring.conformance.suite import ARCHITECTURE_CHECKS, PLUGIN_CHECKS, VERSION

    assert set(re.findall(r"^\| `(nnkit_\w+)` \|", PAGE, re.MULTILINE)) == set(HOOKS)
    checks = [check.name for check in (*PLUGIN_CHECKS, *ARCHITECTURE_CHECKS)]
    table = PAGE.partition("| check | what it proves |")[2]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == checks
    assert f"This nnkit has {PLUGIN_API}." in PAGE
    assert f"its own version, {VERSION} today" in PAGE


# Deprecation

OLD = """
from nnkit import hookimpl
NNKIT_PLUGIN_API = "1.0"

@hookimpl
def nnkit_checks():
    return []

@hookimpl
def nnkit_build(request, seed):
    return None
"""


@pytest.fixture
def deprecated(monkeypatch):
    """Let a hook, and an argument of another, be deprecated."""

    def nnkit_checks():
        """Return checks."""

    def nnkit_build(request, seed):
        """Return a module."""

    old = DeprecationWarning("nnkit_checks is deprecated: use nnkit_trials")
    argument = DeprecationWarning("the argument seed is deprecated: use request.spec.seed")
    monkeypatch.setattr(hooks, "nnkit_checks", hooks.hookspec(warn_on_impl=old)(nnkit_checks))
    both = hooks.hookspec(firstresult=True, warn_on_impl_args={"seed": argument})
    monkeypatch.setattr(hooks, "nnkit_build", both(nnkit_build))


@pytest.mark.usefixtures("deprecated")
def test_what_is_deprecated_is_told_in_one_line_and_goes_on_working(plugins_from, nnkit_command, monkeypatch):
    manager = plugins_from(old=OLD + "\n" + ARCHITECTURE)
    assert [str(each) for each in manager.deprecations] == [
        "plugin old (unknown): the argument seed is deprecated: use request.spec.seed",
        "plugin old (unknown): nnkit_checks is deprecated: use nnkit_trials",
    ]
    assert manager.failures == []
    assert list(manager.architectures()) == ["old/old-net"]

    for module in ("installed", "plugins"):
        monkeypatch.setattr(f"nnkit.cli.{module}.plugin_manager", lambda checked=True: manager)
    listed = nnkit_command("list")
    assert listed.code == 0
    assert listed.err.splitlines() == [f"warning: {each}" for each in manager.deprecations]
    assert str(manager.deprecations[0]) in nnkit_command("plugins").out


@pytest.mark.usefixtures("deprecated")
def test_the_conformance_suite_warns_of_what_is_deprecated(plugins_from):
    from nnkit.authoring.conformance import running
    from nnkit.cli.help import summary_help

    manager = plugins_from(old=OLD)
    candidates = running.candidates(manager, summary_help, "old")
    (card,) = running.checked(candidates, running.choose_checks(["import"]))
    assert [each.status for each in card.checks] == ["warned"]
    assert "use nnkit_trials" in card.checks[0].message


ARCHITECTURE = """
from dataclasses import dataclass
from nnkit import Architecture

@dataclass(frozen=True, kw_only=True)
class Config:
    pass

def identity(config):
    from torch import nn
    return nn.Identity()

@hookimpl
def nnkit_architectures():
    return [Architecture(name="old-net", summary="", build=identity, config=Config, inputs=[], outputs=[])]
"""


# Types

WRONG = '''
"""A plugin that is wrong in five ways."""

from nnkit import Architecture, BuildRequest, Dim, Exporter, SummaryRequest, TensorSpec, hookimpl


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare it."""
    return [
        Architecture(
            name="net",
            summary="wrong",
            build="nnkit_wrong.net:Net",
            config=3,
            inputs=[TensorSpec("x", ("batch", 2.5))],
            outputs=[],
            dims={"batch": Dim(default=2.5)},
        )
    ]


@hookimpl
def nnkit_exporters() -> list[Exporter]:
    """Declare a format."""
    return [Exporter(name="x", suffix=".x", summary="no way to write it")]


@hookimpl
def nnkit_build(request: BuildRequest) -> None:
    """Misspell a field."""
    print(request.specification)
'''


SOUND = '''
"""A plugin that uses what the contract has."""

from collections.abc import Generator

from nnkit import BuildRequest, Check, Failed, Subject, SummaryReport, SummaryRequest, hookimpl
from nnkit.testing import ArchitectureSuite
from torch import nn

NNKIT_PLUGIN_API = "1.0"


@hookimpl
def nnkit_checks() -> list[Check]:
    """Declare a check."""
    return [Check(name="bounded", summary="Outputs stay small", run="nnkit_sound:bounded")]


def bounded(subject: Subject) -> str:
    """Say how large the largest output is."""
    for declared, tensor in subject.outputs(subject.fresh(), subject.inputs()):
        if tensor.abs().max() > 1000:
            raise Failed(declared.name)
    return "small"


@hookimpl(tryfirst=True)
def nnkit_build(request: BuildRequest) -> nn.Module | None:
    """Build a layer."""
    return nn.Linear(8, 8) if request.spec.seed else None


@hookimpl(wrapper=True)
def nnkit_summarize(request: SummaryRequest) -> Generator[None, SummaryReport, SummaryReport]:
    """Look at what was made."""
    report = yield
    assert report.totals.parameters >= 0
    return report


class TestSound(ArchitectureSuite):
    """The suite."""

    plugin = "sound"
'''


@pytest.mark.slow
def test_plugins_are_typed_strictly_against_the_installed_nnkit(environment, tmp_path):
    """A sound plugin and the example have no error, and each fault of the wrong one is found."""
    env = environment(False)
    env.install("--no-cache-dir", str(ROOT))
    (tmp_path / "nnkit_wrong.py").write_text(WRONG)
    (tmp_path / "nnkit_sound.py").write_text(SOUND)
    example = ROOT / "examples" / "nnkit-perceptron" / "src" / "nnkit_perceptron"
    targets = ["nnkit_sound.py", "nnkit_wrong.py", str(example)]
    done = env.run("-m", "mypy", "--strict", "--cache-dir", "cache", *targets, cwd=tmp_path)
    errors = re.findall(r"^nnkit_wrong.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    lines = [WRONG.splitlines()[int(number) - 1].strip().partition("(")[0] for number, _ in errors]
    assert list(zip(lines, (kind for _, kind in errors), strict=True)) == [
        ("config=3,", "arg-type"),
        ("inputs=[TensorSpec", "arg-type"),
        ('dims={"batch": Dim', "arg-type"),
        ("return [Exporter", "call-arg"),
        ("print", "attr-defined"),
    ], done.stdout
    assert done.stdout.endswith("Found 5 errors in 1 file (checked 5 source files)\n"), done.stdout
