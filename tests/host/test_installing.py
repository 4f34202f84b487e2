"""`nnkit plugins install`, `uninstall` and `freeze`: the right tool, what it brought, and back again."""

import io
import json
import sys

import pytest
from wheels import plugin_wheel, wheel

from nnkit.errors import NnkitError
from nnkit.host.installing.distributions import find_distribution, requirement_of
from nnkit.host.installing.tools import Place, Step, last_words

PIP = f"{sys.executable} -m pip"
QUIET = "--no-input --disable-pip-version-check"


def place(prefix, *, managed=False, has_pip=True, programs=()):
    return Place(prefix, managed, has_pip, lambda name: name if name in programs else None)


def test_pip_installs_where_it_is(tmp_path):
    here = place(tmp_path)
    assert str(here.install(["nnkit-mine"])) == f"{PIP} install {QUIET} nnkit-mine"
    assert str(here.install(["/a", "/b c"], "editable")) == f"{PIP} install {QUIET} -e /a -e '/b c'"
    assert str(here.install(["plugins.txt"], "file")) == f"{PIP} install {QUIET} -r plugins.txt"
    assert str(here.uninstall("nnkit-mine")) == f"{PIP} uninstall {QUIET} --yes nnkit-mine"


def test_uv_installs_where_there_is_no_pip(tmp_path):
    step = place(tmp_path, has_pip=False, programs=("uv",)).install(["nnkit-mine"])
    assert (str(step), step.reason) == (f"uv pip install --python {sys.executable} nnkit-mine", "")
    step = place(tmp_path, has_pip=False).install(["nnkit-mine"])
    assert "no pip" in step.reason


def test_pipx_injects_into_its_environment_by_name(tmp_path):
    prefix = tmp_path / "nnkit-dev"  # pipx install --suffix=-dev
    prefix.mkdir()
    (prefix / "pipx_metadata.json").write_text("{}")
    here = place(prefix, programs=("pipx",))
    assert str(here.install(["nnkit-mine"])) == "pipx inject nnkit-dev nnkit-mine"
    assert str(here.install(["/a"], "editable")) == "pipx inject nnkit-dev --editable /a"
    assert str(here.uninstall("nnkit-mine")) == "pipx uninject nnkit-dev nnkit-mine"
    assert here.install(["nnkit-mine"]).reason == ""
    assert "isn't on the path" in place(prefix).install(["nnkit-mine"]).reason


# As `uv tool install` wrote it.
RECEIPT = """
[tool]
requirements = [
    { name = "nnkit", extras = ["hub"], specifier = ">=0.1" },
    { name = "nnkit-one", specifier = ">=1" },
    { name = "nnkit-two", directory = "/srv/two" },
    { name = "nnkit-three", editable = "/srv/three" },
]
entrypoints = [
    { name = "nnkit", install-path = "/home/me/.local/bin/nnkit", from = "nnkit" },
]
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the receipt is read with tomllib")
def test_uv_tool_is_told_everything_again_by_the_user(tmp_path):
    (tmp_path / "uv-receipt.toml").write_text(RECEIPT)
    here = place(tmp_path, programs=("uv",))
    kept = "uv tool install 'nnkit[hub]>=0.1' --with 'nnkit-one>=1'"
    others = "--with /srv/two --with-editable /srv/three"
    assert str(here.install(["nnkit-mine"])) == f"{kept} {others} --with nnkit-mine"
    assert (
        str(here.install(["nnkit_one==2"]))
        == f"uv tool install 'nnkit[hub]>=0.1' {others} --with nnkit_one==2"
    )
    assert str(here.install(["p.txt"], "file")) == f"{kept} {others} --with-requirements p.txt"
    assert str(here.uninstall("nnkit-two")) == f"{kept} --with-editable /srv/three"
    with pytest.raises(NnkitError) as raised:
        here.install(["nnkit-mine"]).run()
    assert "would replace it" in raised.value.message
    assert raised.value.hint == f"type: {kept} {others} --with nnkit-mine"


def test_a_python_of_the_system_is_left_alone(tmp_path):
    with pytest.raises(NnkitError, match="managed by the system") as raised:
        place(tmp_path, managed=True).install(["nnkit-mine"]).run()
    assert raised.value.hint == f"type: {PIP} install --break-system-packages nnkit-mine"


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ("Looking\nERROR: Could not find a version\nERROR: No matching distribution found for x\n", "No matching distribution found for x"),
        ("  ModuleNotFoundError: No module named 'y'\nerror: metadata-generation-failed\nhint: see above\n", "ModuleNotFoundError: No module named 'y'"),
        ("something else\nends here\n\n", "ends here"),
        ("", "it said nothing"),
    ],
)  # fmt: skip
def test_the_line_that_says_why(said, last):
    assert last_words(said) == last


def test_a_tool_that_fails_is_told_in_a_line_and_keeps_the_whole():
    step = Step((sys.executable, "-c", "import sys; print('all of it'); sys.exit('ERROR: no such luck')"))
    with pytest.raises(NnkitError, match="failed: no such luck") as raised:
        step.run()
    assert raised.value.exit_code == 1
    assert "all of it" in str(raised.value.__cause__)


class Installed:
    name, version = "nnkit-mine", "1.0"

    def __init__(self, **origin):
        self.origin = origin

    def read_text(self, name):
        return json.dumps(self.origin) if self.origin else None


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({}, "nnkit-mine==1.0"),
        ({"url": "file:///a%20b", "dir_info": {"editable": True}}, "-e file:///a%20b"),
        ({"url": "file:///a", "dir_info": {}}, "nnkit-mine @ file:///a"),
        (
            {"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "p"},
            "nnkit-mine @ git+https://h/r@abc#subdirectory=p",
        ),
        ({"url": "https://h/m.whl", "archive_info": {"hash": "sha256=12"}}, "nnkit-mine @ https://h/m.whl#sha256=12"),
    ],
)  # fmt: skip
def test_a_requirement_says_where_it_came_from(origin, line):
    assert requirement_of(Installed(**origin)) == line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["install"], "no plugin was named"),
        (["install", "./none"], "there is no ./none"),
        (["install", "no/such"], "there is no no/such"),
        (["install", "none-1.0-py3-none-any.whl"], "there is no none-1.0-py3-none-any.whl"),
        (["install", "."], ". holds no pyproject.toml"),
        (["install", "-e", "nnkit-mine"], "there is no folder nnkit-mine"),
        (["install", "nnkit[hub]"], "nnkit is installed already"),
        (["uninstall", "nnkit", "-y"], "nnkit doesn't remove itself"),
        (["uninstall", "torch", "-y"], "torch is no plugin of nnkit"),
        (["uninstall", "nonsense", "-y"], "no plugin nonsense is installed"),
        (["freeze", "--restore", "none.txt"], "can't read none.txt: No such file or directory"),
        (["freeze", "--dry-run"], "--dry-run needs --restore FILE"),
    ],
)
def test_what_cannot_be_installed_or_removed_is_refused(nnkit_command, args, message):
    done = nnkit_command("plugins", *args)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == f"Error: {message}"
    assert done.err.splitlines()[1].startswith("hint: ")


def test_a_dry_run_prints_the_command_alone(nnkit_command, tmp_path):
    assert nnkit_command("plugins", "install", "nnkit-mine", "--dry-run").out.endswith(" nnkit-mine\n")
    for text in ("https://h/mine-1.0-py3-none-any.whl", "git+https://h/mine@main", "mine>=1"):
        assert text in nnkit_command("plugins", "install", text, "--dry-run").out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pyproject.toml").touch()
    assert nnkit_command("plugins", "install", "--dry-run", "-e", "mine").out.endswith(
        f" -e {tmp_path}/mine\n"
    )
    (tmp_path / "plugins.txt").write_text("# mine\nnnkit-mine==1.0\n")
    restored = nnkit_command("plugins", "freeze", "--restore", "plugins.txt", "--dry-run")
    assert restored.out.endswith(" -r plugins.txt\n")


@pytest.mark.parametrize(
    ("requirement", "found"),
    [
        ("nnkit-mine", "nnkit-mine"), ("nnkit_mine[x]>=1", "nnkit-mine"), ("nnkit-mine @ https://h/r", "nnkit-mine"),
        ("git+https://h/r@main#subdirectory=p", "nnkit-mine"), ("https://h/r2", None), ("nnkit-yours", None),
    ],
)  # fmt: skip
def test_a_requirement_is_found_by_name_or_by_where_it_came_from(tmp_path, monkeypatch, requirement, found):
    info = tmp_path / "nnkit_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nnkit-mine\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(
        json.dumps({"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "a"}})
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution = find_distribution(requirement)
    assert (distribution and distribution.name) == found


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_removing_asks_on_a_terminal_and_needs_a_yes_elsewhere(nnkit_command, tmp_path, monkeypatch):
    info = tmp_path / "nnkit_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nnkit-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit]\nmine = not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    done = nnkit_command("plugins", "uninstall", "nnkit_mine")
    assert (done.code, done.err.splitlines()[1]) == (2, "hint: confirm with -y")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    done = nnkit_command("plugins", "uninstall", "mine")
    assert done.code == 1
    assert "Remove nnkit-mine? [y/N]" in done.err
    assert "Error: nnkit-mine was not removed" in done.err
    assert nnkit_command("plugins", "uninstall", "mine", "--dry-run").out.endswith(" nnkit-mine\n")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A folder of wheels that is all that pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_install_freeze_uninstall_and_restore_for_real(environment, offline, tmp_path, monkeypatch):
    plugin_wheel(offline, "nnkit-pair", "pair", "one", "two")
    env = environment(True)

    done = env.run("-m", "nnkit", "plugins", "install", "nnkit-pair")
    assert (done.returncode, done.stdout, done.stderr) == (0, "pair: 2 architectures\n", "")
    frozen = env.run("-m", "nnkit", "plugins", "freeze").stdout
    assert frozen == "nnkit-pair==1.0\n"
    (tmp_path / "plugins.txt").write_text(frozen)

    done = env.run("-m", "nnkit", "plugins", "uninstall", "pair", "-y")
    assert (done.returncode, done.stdout) == (0, "removed nnkit-pair\n")
    assert env.run("-m", "nnkit", "plugins", "freeze").stdout == ""

    monkeypatch.setenv("NNKIT_DISABLE_PLUGINS", "pair")
    done = env.run("-m", "nnkit", "plugins", "freeze", "--restore", str(tmp_path / "plugins.txt"))
    said = "pair: switched off, see NNKIT_PLUGINS and NNKIT_DISABLE_PLUGINS\n"
    assert (done.returncode, done.stdout) == (0, said)
    assert env.run("-m", "nnkit", "plugins", "freeze").stdout == frozen


@pytest.mark.slow
def test_what_is_no_plugin_or_a_broken_one_is_told_and_can_be_removed(environment, offline):
    wheel(offline, "nnkit-broken", "[nnkit]\nbroken = nnkit_broken\n", "import not_there\n")
    wheel(offline, "nnkit-hooks", "[nnkit]\nhooks = nnkit_hooks\n", 'NNKIT_PLUGIN_API = "1.0"\n')
    wheel(offline, "stranger")
    path = wheel(offline, "nnkit-hello", "[nnkit.commands]\nhello = nnkit_hello:command\n")
    env = environment(True)

    def plugins(*args):
        return env.run("-m", "nnkit", "plugins", *args)

    done = plugins("install", "nnkit-broken")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(
        "Error: plugin broken of nnkit-broken fails at import: ModuleNotFoundError: "
    )
    assert plugins("uninstall", "broken", "-y").returncode == 0

    done = plugins("install", "nnkit-hooks")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hooks: hooks alone\n", "")

    done = plugins("install", "stranger")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: stranger 1.0 is installed, and is no plugin of nnkit\n")

    done = plugins("install", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "Error: pip failed: No matching distribution found for nowhere",
        "hint: names are asked for as typed; did you mean nnkit-nowhere?",
    ]
    assert "Could not find a version" in plugins("install", "nowhere", "-v").stderr

    done = plugins("install", str(path))
    assert (done.returncode, done.stdout) == (0, "command hello\n")
    assert plugins("freeze").stdout.startswith(f"nnkit-hello @ {path.as_uri()}")
