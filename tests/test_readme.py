"""README and guides: their commands print what is shown, their Python runs, and README's set-up lines are CI's."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

FENCE = r"^```{language}\n(.*?)^```$"
CONSOLE = re.compile(FENCE.format(language="console"), re.MULTILINE | re.DOTALL)
PYTHON = re.compile(FENCE.format(language="python"), re.MULTILINE | re.DOTALL)
ZOOS = {
    "torchvision": "torchvision",
    "timm": "timm",
    "transformers": "transformers",
    "pyg": "torch_geometric",
}
OF_A_ZOO = re.compile(rf"^\$ nnkit (?:(list).*?|.*? )\"?({'|'.join(ZOOS)})/", re.MULTILINE)
OPERATORS = ROOT / "tests" / "operators"  # zoos import torchvision, whose own may not fit this torch
SLOW = ("nnkit bench", "--nproc", "--results", "--fsdp", "plugins check")  # commands that take long

GUIDES = {file.stem: file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("docs/guides/*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {"README": README, **GUIDES}


def split_commands(block: str) -> list[tuple[str, str]]:
    """Split a console block into (command, what it prints)."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def matches(shown: str, printed: str) -> bool:
    """Whether the output is as shown; `…` stands for anything, over lines where it is a line."""
    pattern = re.escape(shown).replace(re.escape("\n…\n"), r"\n(?s:.*)").replace("…", ".*")
    return re.fullmatch(pattern, printed) is not None


def type_out(block: str, folder: Path) -> None:
    """Run the commands of a console block in a folder, and compare what they print with what it shows."""
    for command, shown in split_commands(block):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            capture_output=True, text=True, cwd=folder, check=False,
            env={**os.environ, "PYTHONPATH": str(OPERATORS)},
        )  # fmt: skip
        assert matches(shown, done.stdout), f"{command}\n{done.stdout}{done.stderr}"
        assert done.stderr == ""


def console_blocks() -> Iterator[object]:
    """Yield a parameter for each different console block of README and the guides."""
    seen = set()
    for page, text in TEXTS.items():
        for block in CONSOLE.findall(text):
            if block in seen:
                continue
            seen.add(block)
            zoos = OF_A_ZOO.findall(block)
            marks = [pytest.mark.skipif(find_spec(ZOOS[zoo]) is None, reason=zoo) for _, zoo in zoos]
            builds = any(not lists for lists, _ in zoos)
            marks += [pytest.mark.slow] if builds or any(word in block for word in SLOW) else []
            yield pytest.param(block, id=f"{page}: {block.splitlines()[0][2:40]}", marks=marks)


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("block", list(console_blocks()))
def test_a_command_prints_what_the_page_shows(block, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    type_out(block, tmp_path)


@pytest.fixture
def run_python(tmp_path, monkeypatch):
    """Run the Python of a page in an empty folder, block after block, and return the names it leaves."""

    def run(page):
        monkeypatch.chdir(tmp_path)
        names = {"__name__": "page"}
        monkeypatch.setitem(sys.modules, "page", type(sys)("page"))  # dataclasses look their module up
        for block in PYTHON.findall(TEXTS[page]):
            exec(compile(block, f"{page}.md", "exec"), names)
        return names

    return run


@pytest.mark.parametrize("page", [page for page, text in GUIDES.items() if PYTHON.search(text)])
def test_the_python_of_a_guide_runs(page, run_python):
    run_python(page)


def test_the_python_of_the_readme_runs(run_python, tmp_path):
    run_python("README")
    assert (tmp_path / "graph.onnx").is_file()


def test_the_plugin_of_the_readme_is_one(plugins_from):
    manager = plugins_from(perceptron=PYTHON.findall(README)[0])
    assert list(manager.architectures()) == ["perceptron/perceptron"]
    assert manager.failures == []


def test_the_suite_of_the_guide_is_of_one_plugin(run_python):
    assert run_python("plugins")["TestMine"].plugin == "mine"


def test_two_lines_set_everything_up_and_ci_runs_the_second():
    first, second = re.findall(r"^    (.*pip install -c constraints.txt.*)$", README, re.MULTILINE)
    assert first.endswith("nnkit summary resnet18")
    assert second.endswith("&& pytest")
    assert re.search(r'grep -m 1 -E "(.*)" README', (ROOT / ".ci" / "run").read_text())


def test_the_first_screen_has_the_picture_the_set_up_and_three_commands():
    lines = README.splitlines()
    screen = "\n".join(lines[:40])
    assert len(lines) <= 200
    assert "docs/pictures/terminal-light.svg" in screen
    assert screen.count("pip install -c constraints.txt") == 2
    assert len(re.findall(r"^\$ nnkit ", screen, re.MULTILINE)) >= 3


def test_no_link_of_the_readme_leads_nowhere():
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", README) + re.findall(
        r'(?:src|srcset)="([^"]+)"', README
    )
    missing = [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
    assert missing == []


def test_every_check_is_in_its_guide():
    from nnkit.verbs.smoke.checklist import CHECKS

    for check in CHECKS:
        assert f"| {check.name} | " in GUIDES["smoke-run"]


def test_every_guide_is_linked_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [page for page in GUIDES if f"(guides/{page}.md" not in index] == []
