"""The README's commands print what it shows, its Python runs, and its two first lines are what CI runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = ("nnkit bench", "--nproc", "--results", "--fsdp", "plugins check")  # whose blocks take long


def steps(block: str) -> list[tuple[str, str]]:
    """Split a console block into (command, what it prints)."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def matches(shown: str, printed: str) -> bool:
    """Whether the output is as shown; `…` stands for anything, over lines where it is a line."""
    pattern = re.escape(shown).replace(re.escape("\n…\n"), r"\n(?s:.*)").replace("…", ".*")
    return re.fullmatch(pattern, printed) is not None


def type_out(block: str, folder: Path) -> None:
    """Run the commands of a console block in a folder, and hold what they print against what it shows."""
    for command, shown in steps(block):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            capture_output=True, text=True, cwd=folder, check=False,
        )  # fmt: skip
        assert matches(shown, done.stdout), f"{command}\n{done.stdout}{done.stderr}"
        assert done.stderr == ""


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(
            block,
            id=block.split("\n")[0][2:40],
            marks=[pytest.mark.slow] if any(word in block for word in SLOW) else [],
        )
        for block in CONSOLE.findall(README)
    ],
)
def test_a_command_prints_what_the_readme_shows(block, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    type_out(block, tmp_path)


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usage, plugin, suite = PYTHON.findall(README)
    exec(compile(usage, "README.md", "exec"), {})
    assert (tmp_path / "graph.onnx").is_file()
    names = {"__name__": "readme"}
    monkeypatch.setitem(sys.modules, "readme", type(sys)("readme"))
    exec(compile(plugin, "README.md", "exec"), names)
    assert [each.name for each in names["nnkit_architectures"]()] == ["perceptron"]
    exec(compile(suite, "README.md", "exec"), names)
    assert names["TestMine"].plugin == "mine"


def test_two_lines_set_everything_up_and_ci_runs_the_second():
    first, second = re.findall(r"^    (.*pip install -c constraints.txt.*)$", README, re.MULTILINE)
    assert first.endswith("nnkit summary resnet18")
    assert second.endswith("&& pytest")
    assert re.search(r'grep -m 1 -E "(.*)" README', (ROOT / ".ci" / "run").read_text())


def test_every_check_is_in_the_readme():
    from nnkit.verbs.smoke.checklist import CHECKS

    for check in CHECKS:
        assert f"| {check.name} | " in README
