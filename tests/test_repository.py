"""The files beside the code agree with it: the citation, the instructions for agents, the templates."""

import re

import pytest
import yaml
from conftest import ROOT

import nnkit

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
AGENTS = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == nnkit.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["authors"] == PROJECT["project"]["authors"]


def test_the_instructions_for_agents_name_what_exists():
    for name in re.findall(
        r"`((?:nnkit|plugins|tests|docs)/[\w./-]*|\.ci/run|[A-Z]+\.md|constraints\.txt)`", AGENTS
    ):
        assert (ROOT / name).exists(), name
    rooms = re.findall(r"^\| `nnkit/(\w+)/`", AGENTS, re.MULTILINE)
    assert set(rooms) == {folder.parent.name for folder in ROOT.glob("nnkit/*/__init__.py")} - {"schemas"}


@pytest.mark.parametrize(
    "form", [pytest.param(form, id=form.stem) for form in FORMS if form.stem != "config"]
)
def test_an_issue_form_is_valid(form):
    """As GitHub asks: a name, a description, and fields whose ids differ."""
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= content.keys()
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) > 0
