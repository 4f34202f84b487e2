"""plugin_manager.py: what plugins do wrong harms nobody else, and is told."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from plugin_source import plugin

from nnkit.errors import NnkitError, PluginProblem, UsageProblem
from nnkit.host.configuration import configure, read_files
from nnkit.host.plugin_manager import PluginManager
from nnkit.verbs.core_handlers import plugin_manager

BROKEN = {
    "import": ("import not_there", "import: ModuleNotFoundError: No module named 'not_there'"),
    "syntax": ("def", "import: SyntaxError: invalid syntax"),
    "exit": ("raise SystemExit(3)", "import: SystemExit: 3"),
    "silent": ("x = 1", "API check: it states no API version"),
    "newer": (plugin(api="1.7"), "API check: it needs plugin API 1.7, this nnkit has 1.1; upgrade nnkit"),
    "older": (plugin(api="0.9"), "upgrade the plugin"),
    "odd": (plugin(api="one"), "NNKIT_PLUGIN_API is 'one', not a version like '1.1'"),
    "misspelt": (
        plugin() + "\n@hookimpl\ndef nnkit_summarise(request):\n    return None\n",
        "registration: unknown hook nnkit_summarise; did you mean nnkit_summarize",
    ),
    "argument": (plugin() + "\n@hookimpl\ndef nnkit_build(request, colour):\n    pass\n", "registration: "),
    "raising": (
        plugin().replace("    return [Arch", "    return 1 / 0, [Arch"),
        "nnkit_architectures: ZeroDiv",
    ),
    "kind": (
        plugin().replace("    return [Arch", "    return [7, Arch"),
        "returned 7; expected Architecture",
    ),
    "name": (plugin(name="My Net"), "a name is lower-case words joined by hyphens"),
    "slash": (plugin(name="my/net"), "a name is lower-case words joined by hyphens"),
    "hiding": (plugin(field="device"), "option 'device' would hide the core option --device"),
    "both": (plugin(field="batch"), "'batch' is both a config field and a dim"),
    "twice": (
        plugin().replace("    return [A", "    return 2 * [A"),
        "architecture 'net': the name is already taken",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_told_and_harms_nobody(plugins_from, fault):
    source, message = BROKEN[fault]
    manager = plugins_from(bad=source, good=plugin(name="good-net"))

    assert manager.find("good-net")[0] == "good"
    assert len(manager.failures) == 1
    verb = "misbehaves" if fault == "misspelt" else "failed"
    assert str(manager.failures[0]).startswith(f"plugin bad (unknown) {verb} at ")
    assert message in str(manager.failures[0])


def test_a_misspelt_hook_costs_the_plugin_nothing_else(plugins_from):
    assert plugins_from(bad=BROKEN["misspelt"][0]).find("net")[0] == "bad"


def test_a_name_of_a_broken_plugin_is_a_plugin_problem(plugins_from):
    manager = plugins_from(bad="import not_there")
    with pytest.raises(PluginProblem, match="failed at import"):
        manager.find("bad/net")


def test_a_short_name_that_two_plugins_claim_lists_both(plugins_from):
    manager = plugins_from(one=plugin(), other=plugin())
    assert not manager.failures
    with pytest.raises(UsageProblem) as raised:
        manager.find("net")
    say, _, prefer = raised.value.hint.partition("; ")
    assert say == "type one/net or other/net"
    assert prefer == 'or prefer one in nnkit.toml: prefer = ["one"]'
    assert manager.find("other/net")[0] == "other"


def test_one_entry_point_name_in_two_distributions_hides_neither(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    points = []
    for distribution in ("first", "second"):
        (tmp_path / f"same_{distribution}.py").write_text(plugin())
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[nnkit]\nnet = same_{distribution}\n")
    from importlib.metadata import distributions

    points = [each for found in distributions(path=[str(tmp_path)]) for each in found.entry_points]
    manager = PluginManager(points)
    assert sorted(manager.architectures()) == ["first:net/net", "second:net/net"]
    with pytest.raises(UsageProblem, match="more than one plugin"):
        manager.find("net")


@pytest.mark.parametrize(
    ("environment", "left"),
    [
        ({"NNKIT_PLUGINS": ""}, []),
        ({"NNKIT_PLUGINS": "one"}, ["one/net"]),
        ({"NNKIT_DISABLE_PLUGINS": "one"}, ["two/net"]),
        ({"NNKIT_PLUGINS": "one, two", "NNKIT_DISABLE_PLUGINS": "two"}, ["one/net"]),
        ({}, ["one/net", "two/net"]),
    ],
)
def test_plugins_are_allowed_and_switched_off_by_the_environment(plugins_from, environment, left):
    manager = plugins_from(environment, one=plugin(), two=plugin())
    assert list(manager.architectures()) == left


def test_a_plugin_that_is_switched_off_is_not_imported_and_says_so(plugins_from):
    manager = plugins_from({"NNKIT_PLUGINS": ""}, bad="import not_there")
    assert not manager.failures
    with pytest.raises(PluginProblem) as raised:
        manager.find("bad/net")
    assert "NNKIT_PLUGINS" in raised.value.hint


def test_an_entry_point_to_nowhere_is_a_failure_of_import():
    manager = PluginManager([EntryPoint("lost", "not.there", "nnkit")])
    assert manager.failures[0].stage == "import"


def test_core_names_no_plugin():
    """The zoo that nnkit ships is found through entry points, as a stranger's is."""
    assert {each.distribution for each in plugin_manager().plugins.values()} == {"nnkit"}
    assert PluginManager([]).architectures() == {}


RAISING_HOOK = plugin() + "\n@hookimpl\ndef nnkit_build(request):\n    raise RuntimeError('no')\n"
SERVING_HOOK = """
import torch

@hookimpl
def nnkit_build(request):
    return torch.nn.Identity() if request.spec.plugin == "good" else None
"""


def test_a_run_time_hook_that_raises_harms_its_own_architectures_alone(plugins_from):
    import nnkit

    manager = plugins_from(zbad=RAISING_HOOK, good=plugin(name="good-net") + SERVING_HOOK)
    assert nnkit.build("good-net", manager=manager) is not None
    assert "failed at nnkit_build: RuntimeError: no" in str(manager.failures[0])
    with pytest.raises(PluginProblem, match="failed at nnkit_build: RuntimeError: no"):
        nnkit.build("zbad/net", manager=manager)


def test_a_missing_package_is_named_with_the_command_that_installs_it(plugins_from):
    import nnkit

    source = plugin().replace('summary=""', 'summary="", requires={"not_there": "pip install not-there"}')
    with pytest.raises(PluginProblem) as raised:
        nnkit.build("net", manager=plugins_from(extra=source))
    assert raised.value.message == "net needs the package not_there"
    assert raised.value.hint == "install it: pip install not-there"
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("math:sqrt", "building bad/net failed: TypeError"),
        ("not.there:Net", "can't load not.there:Net"),
        ("builtins:repr", "building bad/net returned str, not a torch.nn.Module"),
    ],
)
def test_a_build_that_fails_is_a_plugin_problem(plugins_from, build, message):
    import nnkit

    manager = plugins_from(bad=plugin().replace("math:sqrt", build))
    with pytest.raises(PluginProblem) as raised:
        nnkit.build("net", manager=manager)
    assert message in raised.value.message


def building(body):
    return plugin(name="good-net") + f"\n@hookimpl(trylast=True)\ndef nnkit_build(request):\n    {body}\n"


def wrapping(body):
    return plugin() + f"\n@hookimpl(wrapper=True)\ndef nnkit_build(request):\n    {body}\n"


REQUEST = SimpleNamespace(spec=SimpleNamespace(plugin="good", architecture=SimpleNamespace(handlers={})))

WRAPPERS = {
    "sound": ("return (yield) + 1", 3, None),
    "fails before": ("raise RuntimeError('early'); yield", 2, "RuntimeError: early"),
    "fails after": ("yield; raise RuntimeError('late')", 2, "RuntimeError: late"),
    "exits": ("yield; raise SystemExit(1)", 2, "SystemExit: 1"),
    "yields twice": ("yield; yield", 2, "RuntimeError: a wrapper yields once"),
}


@pytest.mark.parametrize("case", WRAPPERS)
def test_a_wrapper_that_fails_leaves_the_result_as_it_is_and_is_told(plugins_from, case):
    body, result, message = WRAPPERS[case]
    manager = plugins_from(zbad=wrapping(body), good=building("return 2"))
    told = []
    manager.report_failures_to(told.append)
    assert manager.hook.nnkit_build(request=REQUEST) == result
    assert [(each.stage, each.message) for each in told] == ([("nnkit_build", message)] if message else [])


def test_a_wrapper_sees_the_error_of_what_it_wraps_and_may_answer_it(plugins_from):
    raising = building("from nnkit import NnkitError; raise NnkitError('inner')")
    answers = {
        "return (yield)": NnkitError,
        "yield": NnkitError,
        "try:\n        yield\n    except Exception:\n        raise RuntimeError('mine')": NnkitError,
        "try:\n        return (yield)\n    except Exception:\n        return 7": None,
    }
    for number, (body, error) in enumerate(answers.items()):
        manager = plugins_from(**{f"bad{number}": wrapping(body), "good": raising})
        if error is None:
            assert manager.hook.nnkit_build(request=REQUEST) == 7
        else:
            with pytest.raises(error, match="inner"):
                manager.hook.nnkit_build(request=REQUEST)
        assert bool(manager.failures) == ("mine" in body)


def test_a_wrapper_may_refuse(plugins_from):
    refusing = wrapping("from nnkit import NnkitError; yield; raise NnkitError('not so')")
    manager = plugins_from(zbad=refusing, good=building("return 2"))
    with pytest.raises(NnkitError, match="not so"):
        manager.hook.nnkit_build(request=REQUEST)
    assert not manager.failures


def test_failures_are_told_to_come_and_those_there_are(plugins_from):
    manager = plugins_from(bad="import not_there", zbad=RAISING_HOOK, good=building("return 2"))
    told = []
    manager.report_failures_to(lambda failure: told.append((failure.plugin, failure.stage)))
    assert told == [("bad", "import")]
    assert manager.hook.nnkit_build(request=REQUEST) == 2
    assert told == [("bad", "import"), ("zbad", "nnkit_build")]


def test_what_is_printed_in_a_hook_goes_to_stderr_once_it_is_to(plugins_from, capsys):
    manager = plugins_from(good=building("print('built'); return 2"))
    manager.hook.nnkit_build(request=REQUEST)
    assert capsys.readouterr() == ("built\n", "")
    manager.divert_prints()
    manager.divert_prints()
    manager.hook.nnkit_build(request=REQUEST)
    print("mine")
    assert capsys.readouterr() == ("mine\n", "built\n")


def test_an_interrupt_is_the_user_s_own(plugins_from):
    with pytest.raises(KeyboardInterrupt):
        plugins_from(bad="raise KeyboardInterrupt")


def test_an_own_handler_that_fails_is_a_plugin_problem(plugins_from):
    import nnkit

    source = plugin().replace('summary=""', 'summary="", handlers={"build": "math:sqrt"}')
    with pytest.raises(PluginProblem, match=r"math:sqrt, which serves build for bad/net, failed: TypeError"):
        nnkit.build("net", manager=plugins_from(bad=source))


def test_plugins_are_looked_up_once_whether_or_not_the_settings_are_checked(fresh_plugins):
    assert plugin_manager(checked=False) is plugin_manager()


def test_a_broken_file_of_settings_keeps_no_command_from_looking(fresh_plugins, tmp_path, monkeypatch):
    (tmp_path / "nnkit.toml").write_text("color = 3")
    broken = configure({}, list(read_files(tmp_path, tmp_path / "user.toml")))
    monkeypatch.setattr("nnkit.verbs.core_handlers.configuration", lambda: broken)
    assert "vision" in plugin_manager(checked=False).plugins
    with pytest.raises(UsageProblem, match="color takes one of"):
        plugin_manager()
