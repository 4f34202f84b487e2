"""configuration.py and `nnkit config`: which place counts, what is found where, and what is wrong in a file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from conftest import ROOT
from plugin_source import plugin

from nnkit.errors import UsageProblem
from nnkit.host.configuration import Configuration, configure, project_file, read_file, read_files, user_file
from nnkit.verbs.core_handlers import make_manager


@pytest.fixture
def project(tmp_path):
    """A folder in a repository of its own, so that nothing above it counts."""
    folder = tmp_path / "project" / "deep" / "deeper"
    folder.mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    return folder


def settled(folder, user=Path("not-there"), **environment):
    return configure(environment, tuple(read_files(folder, user)))


def test_the_strongest_place_counts(project, tmp_path):
    user = tmp_path / "config.toml"
    variables, preferred = {}, []

    def note():
        found = settled(project, user, **variables)
        preferred.append((found.prefer, found.source("prefer").kind))

    note()
    user.write_text('prefer = ["user"]\ncolor = "always"')
    note()
    (project / "nnkit.toml").write_text('prefer = ["project"]')
    note()
    variables["NNKIT_PREFER"] = "one, two"
    note()
    assert preferred == [
        ((), "default"),
        (("user",), "user"),
        (("project",), "project"),
        (("one", "two"), "environment"),
    ]
    # What a stronger place leaves open a weaker one settles; a flag is the strongest of all.
    found = settled(project, user, **variables)
    assert (found.color, found.source("color").place) == ("always", str(user))
    assert settled(project, user, NO_COLOR="1").color == "never"
    assert settled(project, user, NO_COLOR="").color == "always"
    flagged = settled(project, user, NO_COLOR="1").with_flag("color", "auto", "--color")
    assert (flagged.color, flagged.source("color").place) == ("auto", "--color")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"../../nnkit.toml": "", "../nnkit.toml": ""}, "../nnkit.toml"),
        ({"pyproject.toml": "[tool.nnkit]", "../../nnkit.toml": ""}, "../../nnkit.toml"),
        ({"../pyproject.toml": "[tool.nnkit]"}, "../pyproject.toml"),
        ({"pyproject.toml": "[tool.ruff]", "../pyproject.toml": "[tool.nnkit]"}, None),
        ({"pyproject.toml": 'dependencies = ["nnkit"]'}, None),
        ({"../../../nnkit.toml": ""}, None),  # above the repository
    ],
)
def test_the_project_s_file_is_sought_upwards(project, files, expected):
    for name, text in files.items():
        (project / name).write_text(text)
    found = project_file(project)
    assert found == (expected and (project / expected).resolve())


def test_the_search_ends_at_home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    folder = home / "work"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "nnkit.toml").write_text("")
    assert project_file(folder) is None
    (home / "nnkit.toml").write_text("")
    assert project_file(folder) == home / "nnkit.toml"


def test_the_user_s_file_is_where_the_platform_has_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_file() == tmp_path / "nnkit" / "config.toml"


def test_pyproject_has_a_table_of_its_own(project):
    (project / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.nnkit]\ndisable-plugins = ["graph"]\n'
    )
    assert settled(project).disable_plugins == ("graph",)


WRONG = {
    "no TOML": ("color = \nprefer = []", "is not readable TOML: Invalid value (at line 1, column 9)", "nnkit config"),
    "unknown key": ('color = "auto"\npluggins = []', ":2: unknown setting 'pluggins'", "did you mean plugins"),
    "unlike any": ("device = 3", ":1: unknown setting 'device'", "the settings are: plugins, disable-plugins, prefer, color"),
    "no such color": ('color = "blue"', ":1: color takes one of auto, always, never, got 'blue'", "nnkit config"),
    "no list": ('prefer = "vision"', ":1: prefer takes a list of plugins, got 'vision'", 'prefer = ["vision"]'),
    "a list of others": ("plugins = [1]", ":1: plugins takes a list of plugins, got [1]", 'plugins = ["vision"]'),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_wrong_has_one_problem_and_settles_nothing(project, case):
    text, message, hint = WRONG[case]
    file = project / "nnkit.toml"
    file.write_text(text)
    found = settled(project)
    (problem,) = found.problems
    assert problem.message.startswith(str(file))
    assert message in problem.message
    assert hint in problem.hint
    assert (found.plugins, found.prefer, found.color) == (None, (), "auto")
    with pytest.raises(UsageProblem):
        found.checked()


def test_a_table_that_is_none_and_bytes_that_are_no_text(project):
    file = project / "pyproject.toml"
    file.write_text('tool.nnkit = "x"')
    assert read_file(file, "project").problem.message == f"{file}:1: nnkit takes a table, got 'x'"
    file = project / "nnkit.toml"
    file.write_bytes(b"\xff")
    assert "is not readable TOML" in read_file(file, "project").problem.message


def test_a_file_that_can_not_be_read(project):
    assert read_file(project, "project").problem.message == f"{project} can't be read: Is a directory"


@pytest.mark.parametrize("prefer", [("two",), ("absent", "two", "one")])
def test_of_two_plugins_with_one_name_the_preferred_has_it(tmp_path, monkeypatch, prefer):
    from importlib.metadata import EntryPoint

    monkeypatch.syspath_prepend(str(tmp_path))
    points = []
    for name in ("one", "two", "three"):
        (tmp_path / f"preferring_{name}.py").write_text(plugin())
        points.append(EntryPoint(name, f"preferring_{name}", "nnkit"))
    assert make_manager(points, Configuration(prefer=prefer)).find("net")[0] == "two"
    assert make_manager(points, Configuration(prefer=prefer)).find("one/net")[0] == "one"
    with pytest.raises(UsageProblem, match="more than one plugin"):
        make_manager(points, Configuration(prefer=("absent",))).find("net")


@pytest.fixture
def nnkit_in(project):
    """Run the command in the project's folder: `nnkit_in("config", NO_COLOR="1")`."""

    def run(*args, **variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NNKIT_") and k != "NO_COLOR"}
        environment = {**kept, "XDG_CONFIG_HOME": str(project / "user"), **variables}
        command = [sys.executable, "-m", "nnkit", *args]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=project, env=environment, check=False
        )

    return run


def test_config_shows_each_setting_and_where_it_came_from(project, nnkit_in):
    (project / "nnkit.toml").write_text('prefer = ["vision"]\ncolor = "never"')
    (project / "user" / "nnkit").mkdir(parents=True)
    (project / "user" / "nnkit" / "config.toml").write_text('disable-plugins = ["pointer"]')
    args = ("config", "--color", "always")
    done = nnkit_in(*args, NNKIT_PLUGINS="vision,graph,pointer")
    file, user = project / "nnkit.toml", project / "user" / "nnkit" / "config.toml"
    assert (done.returncode, done.stderr) == (0, "")
    assert [" ".join(line.split()) for line in done.stdout.splitlines() if line] == [
        "setting value from",
        "plugins vision, graph, pointer NNKIT_PLUGINS",
        f"disable-plugins pointer {user}",
        f"prefer vision {file}",
        "color always --color",
        "cache auto default",
        f"project file: {file}",
        f"user file: {user}",
    ]
    data = json.loads(nnkit_in(*args, "--json", NNKIT_PLUGINS="vision,graph,pointer").stdout)
    schema = json.loads((ROOT / "nnkit" / "schemas" / "config.json").read_text())
    jsonschema.validate(data, schema, cls=jsonschema.Draft202012Validator)
    sources = {each["name"]: (each["source"], each["place"]) for each in data["settings"]}
    assert sources == {
        "plugins": ("environment", "NNKIT_PLUGINS"),
        "disable-plugins": ("user", str(user)),
        "prefer": ("project", str(file)),
        "color": ("flag", "--color"),
        "cache": ("default", None),
    }
    # And it is so: two of the five plugins that nnkit ships are left.
    listed = json.loads(nnkit_in("list", "--json", NNKIT_PLUGINS="vision,graph,pointer").stdout)
    assert {each["plugin"] for each in listed["architectures"]} == {"vision", "graph"}


def test_a_broken_file_stops_what_needs_it_and_nothing_else(project, nnkit_in):
    (project / "nnkit.toml").write_text("plugins = vision")
    for args in (["list"], ["info", "resnet18"]):
        done = nnkit_in(*args)
        error, hint = done.stderr.splitlines()
        assert error.startswith(
            f"Error: {project / 'nnkit.toml'} is not readable TOML: Invalid value (at line 1"
        )
        assert hint == "hint: correct it; see the settings in effect: nnkit config"
        assert (done.returncode, done.stdout) == (2, "")
    for args in (["--help"], ["--version"]):
        assert nnkit_in(*args).stderr == ""
    for args in (["plugins"], ["config"]):
        done = nnkit_in(*args)
        assert done.returncode == 0
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"warning: {project / 'nnkit.toml'} is not readable TOML")
    assert json.loads(nnkit_in("config", "--json").stdout)["problems"]


def test_a_name_in_the_settings_that_nobody_has_is_told(project, nnkit_in):
    (project / "nnkit.toml").write_text('prefer = ["vison"]')
    done = nnkit_in("plugins", NNKIT_DISABLE_PLUGINS="nobody")
    assert done.stderr.splitlines() == [
        "warning: NNKIT_DISABLE_PLUGINS: no plugin 'nobody' is installed; see the names: nnkit plugins",
        f"warning: {project / 'nnkit.toml'}: no plugin 'vison' is installed; did you mean vision or torchvision?",
    ]


def test_colors_are_settled_by_a_file(project, nnkit_in):
    (project / "nnkit.toml").write_text('color = "always"')
    script = "from nnkit.cli.settings import Settings; print(Settings().use_color, Settings().on_terminal)"
    command = [sys.executable, "-c", script]
    for variables, expected in (({}, "True True"), ({"NO_COLOR": "1"}, "False False")):
        environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | variables
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=project, env=environment, check=True
        )
        assert done.stdout.split() == expected.split()


def test_no_file_costs_no_parser(project):
    """The parser of TOML is imported where there is a file to parse, and only then."""
    script = "import sys; from nnkit.host.configuration import configuration; configuration(); print('tomllib' in sys.modules)"
    environment = {**os.environ, "XDG_CONFIG_HOME": str(project)}
    for text, expected in ((None, "False"), ('[project]\nname = "x"', "False"), ("[tool.nnkit]", "True")):
        if text is not None:
            (project / "pyproject.toml").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=project,
            env=environment,
            check=True,
        )
        assert done.stdout.strip() == expected


def test_in_a_folder_that_is_gone_the_user_s_file_counts(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    script = "import os, sys; os.rmdir(os.getcwd()); from nnkit.host.configuration import configuration; configuration()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.stderr == ""
