"""The documentation is what the code says: generated pages are fresh, blocks run, lists are complete."""

import inspect
import re
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, Environment, python
from test_readme import CONSOLE, GUIDES, PYTHON, type_out

from nnkit import errors
from nnkit.contract import hooks as contract_hooks
from nnkit.verbs.diagnosis import VARIABLES

DOCS = ROOT / "docs"
READS = r'environ(?:\.get)?\W{1,2}"([A-Z_]+)"'
GENERATED = "<!-- written by docs/generate.py"  # below the heading
PAGES = {file.stem: file.read_text(encoding="utf-8") for file in DOCS.glob("*.md")}
WRITTEN = {name: text for name, text in PAGES.items() if GENERATED not in text}
SHOWN = [
    pytest.param(name, marks=[pytest.mark.slow] if text.startswith("<!-- slow -->") else [])
    for name, text in WRITTEN.items()
    if CONSOLE.search(text)
]


@pytest.fixture
def generate(monkeypatch):
    """The module that writes the generated pages."""
    monkeypatch.syspath_prepend(str(DOCS))
    import generate

    return generate


def test_commands_and_schemas_are_as_generated(generate):
    pages = {"commands.md": generate.commands_page(), "schemas.md": generate.schemas_page()}
    stale = [
        name for name, text in pages.items() if not generate.is_fresh(DOCS / name, generate.finish(text))
    ]
    assert stale == []


def test_the_page_of_schemas_has_every_schema_that_ships():
    page = (DOCS / "schemas.md").read_text(encoding="utf-8")
    shipped = {file.stem for file in (ROOT / "nnkit" / "schemas").glob("*.json")}
    assert len(shipped) > 10
    assert set(re.findall(r"^## (\S+)$", page, re.MULTILINE)) == shipped


def test_a_picture_shows_what_the_command_prints(generate):
    """The quickest one; the others are checked beside the slow pages."""
    for name, svg in generate.draw.pictures("summary"):
        assert generate.draw.is_fresh(DOCS / "pictures" / name, svg), name


def test_measurements_do_not_make_a_picture_stale(generate, tmp_path):
    picture = tmp_path / "a.svg"
    picture.write_text('<text x="1.5" y="2.5">loss 1.25</text>', encoding="utf-8")
    assert generate.draw.is_fresh(picture, '<text x="3.5" y="2.5">loss 10.5</text>')
    assert not generate.draw.is_fresh(picture, '<text x="1.5" y="2.5">loss 125</text>')
    assert not generate.draw.is_fresh(picture, '<text x="1.5" y="9.5">loss 1.25</text>')


@pytest.mark.parametrize(
    "picture", [pytest.param(file, id=file.name) for file in DOCS.glob("pictures/*.svg")]
)
def test_a_picture_loads_nothing_and_names_no_folder(picture):
    text = picture.read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in text
    folders = (ROOT, Path.home(), tempfile.gettempdir())
    assert [folder for folder in folders if f"{folder}/" in text] == []


@pytest.mark.slow
def test_every_generated_page_is_fresh():
    done = python(str(DOCS / "generate.py"), "--check")
    assert done.returncode == 0, f"{done.stderr}run: python docs/generate.py"


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("page", SHOWN)
def test_the_commands_of_a_page_print_what_it_shows(page, tmp_path):
    """In one folder and in order, as a reader types them."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in CONSOLE.findall(WRITTEN[page]):
        type_out(block, tmp_path)


@pytest.mark.parametrize("page", [name for name, text in WRITTEN.items() if PYTHON.search(text)])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "page", type(sys)("page"))
    for block in PYTHON.findall(WRITTEN[page]):
        exec(compile(block, f"{page}.md", "exec"), {"__name__": "page"})


@pytest.mark.slow
def test_the_plugin_of_the_page_is_one(environment, tmp_path):
    """Written to files as the page says, installed, and used."""
    page = WRITTEN["plugins"]
    project, package = tmp_path / "nnkit-tiny", tmp_path / "nnkit-tiny" / "nnkit_tiny"
    package.mkdir(parents=True)
    (project / "pyproject.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    declaration, network, _, checks, few = PYTHON.findall(page)
    (package / "__init__.py").write_text("")
    hook = checks.partition("\n\n\n")[2]
    imports = "from nnkit import Check\n"
    (package / "plugin.py").write_text(imports + declaration + "\n\n" + hook)
    (package / "tiny.py").write_text(network)
    (package / "checks.py").write_text(few)
    mine: Environment = environment()
    mine.install(str(project))
    summary = mine.run("-m", "nnkit", "summary", "tiny", "--width", "32", cwd=tmp_path)
    assert "parameters   354 " in summary.stdout, summary.stderr
    done = mine.run("-m", "nnkit", "smoke-run", "tiny", "--check", "few-parameters", cwd=tmp_path)
    assert "passed   few-parameters  178 parameters" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_site_builds_and_no_link_leads_nowhere(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install -e '.[docs]'")
    done = python("-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site"), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    pages = {file.stem: file.read_text("utf-8") for file in (tmp_path / "site").glob("**/*.html")}
    assert "<title>VGG - nnkit" in pages["vgg"]
    assert '<span class="nnkit-option">--device</span>' in pages["commands"]
    for name, page in pages.items():
        assert not re.search(r'(?:src|rel="stylesheet" href)="https?:', page), f"{name} loads from elsewhere"


def test_every_variable_is_on_its_page():
    sources = [*ROOT.glob("nnkit/**/*.py"), *ROOT.glob("plugins/**/*.py"), *ROOT.glob("examples/**/*.py")]
    named = {name for file in sources for name in re.findall(r"\bNNKIT_[A-Z_]+\b", file.read_text("utf-8"))}
    read = {name for file in sources for name in re.findall(READS, file.read_text("utf-8"))}
    listed = set(re.findall(r"`(_?[A-Z_]+)`", PAGES["environment"]))
    assert {"NNKIT_PLUGINS", "NNKIT_RANK_REPORT"} <= named
    assert {*named, *read, *VARIABLES} - {"NNKIT_PLUGIN_API"} - listed == set()


def test_every_exit_code_is_on_its_page():
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.NnkitError) and kind.__module__ == errors.__name__
    ]
    assert len(kinds) == 5
    for kind in kinds:
        assert re.search(
            rf"^\| {kind.exit_code} \|.*`{kind.__name__}` \|$", PAGES["exit-codes"], re.MULTILINE
        )


def test_every_hook_is_on_the_page_for_authors():
    hooks = [name for name in vars(contract_hooks) if name.startswith("nnkit_")]
    assert len(hooks) >= 9
    for name in hooks:
        assert f"| `{name}(" in PAGES["plugins"]


def test_files_that_the_pages_name_are_there():
    texts = {**WRITTEN, **GUIDES, "contributing": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}
    for page, text in texts.items():
        for name in re.findall(r"`((?:nnkit|plugins|tests|docs|examples|\.ci|\.github)/[\w./-]*)`", text):
            if "yournet" not in name:
                assert (ROOT / name).exists(), f"{page}: {name}"


def test_the_reading_order_is_of_seven_files_in_the_order_of_imports():
    order = re.findall(r"^\d\. `(nnkit/[\w/]+\.py)`", PAGES["design"], re.MULTILINE)
    assert len(order) == 7
    modules = [file.removesuffix(".py").replace("/", ".") for file in order]
    for place, file in enumerate(order):
        text = (ROOT / file).read_text(encoding="utf-8")
        imported = re.findall(r"^from (nnkit[\w.]*) import", text, re.MULTILINE)
        assert not set(modules[place + 1 :]) & set(imported), file


def test_the_changelog_is_in_the_form_that_it_says():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.startswith("# Changelog\n")
    headings = re.findall(r"^(##+) (.*)$", text, re.MULTILINE)
    versions = [title for level, title in headings if level == "##"]
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title) for title in versions[1:])
    kinds = {title for level, title in headings if level == "###"}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for line in text.partition("## ")[2].splitlines():
        assert not line or line.startswith(("#", "- ", "  ", "[")), line


def test_code_of_the_generator_knows_every_kind_of_schema(generate):
    cases = {
        "integer or null": {"type": ["integer", "null"]},
        "array of row": {"type": "array", "items": {"$ref": "#/$defs/row"}},
        '"a" or "b"': {"enum": ["a", "b"]},
        "string or number": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        "anything": {},
    }
    assert {generate.kind(schema): schema for schema in cases.values()} == cases
