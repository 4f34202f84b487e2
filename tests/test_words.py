"""The words of what a user reads: plain American English, without the phrases that readers stumble over.

Read are README, docs, help texts, and the strings and docstrings of nnkit and its plugins. A phrase belongs on
the list only if it is wrong wherever it may appear; each has an example that its pattern has to find.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from conftest import ROOT

from nnkit.cli.main import cli
from nnkit.contract.config import options_of
from nnkit.verbs.core_handlers import plugin_manager


@dataclass(frozen=True)
class Phrase:
    """A pattern (a space matches any white space), an example that it finds, and what to write instead."""

    pattern: str
    example: str
    better: str

    def find(self, text: str) -> Iterator[re.Match[str]]:
        return re.finditer(self.pattern.replace(" ", r"\s+"), text, re.IGNORECASE)


IZE = (
    "canonical categor character custom discret equal external factor familiar final general harmon initial "
    "internal ital legal local material maxim memor minim modern neutral normal optim organ parallel parametr "
    "penal quant random real recogn regular serial special stabil standard summar symbol synchron token util "
    "vector visual"
).split()
SPELLING = [
    Phrase(
        rf"\b(?:de|re|un|pre)?(?:{'|'.join(IZE)})is(?:e|es|ed|er|ers|ing|ation|ations)\b",
        "summarises",
        "-ize",
    ),
    Phrase(r"\banalys(?:e|ed|er|ing)\b", "analyse", "analyze"),
    Phrase(r"colour", "in other colours", "color"),
    Phrase(r"\w*(?:behavi|hon|fav|neighb|flav|rig|vig|harb)our\w*", "behaviour", "-or"),
    Phrase(r"\b(?:cent|fib|lit|met|theat)re[sd]?\b", "centred", "-er"),
    Phrase(
        r"\b(?:cancel|label|level|marshal|model|signal|total|travel|tunnel)l(?:ed|ing|er)\b",
        "labelled",
        "one l",
    ),
    Phrase(
        r"\b(?:defence|licence|offence|artefact\w*|judgement|programme|whilst|amongst)\b",
        "licence",
        "license",
    ),
    Phrase(r"\b(?:mis)?spelt\b|\blearnt\b", "a misspelt hook", "misspelled"),
    Phrase(r"\b(?:fulfil|grey|sceptical|per cent)\b", "5 per cent", "percent"),
]
PHRASES = [
    Phrase(r"\b(?:is|are) there already\b", "net.onnx is there already", "net.onnx already exists"),
    Phrase(
        r"\b(?:isn't|aren't|wasn't|weren't|is not|are not) there\b",
        "a device that isn't there",
        "unavailable",
    ),
    Phrase(
        r"\b(?:that|which) (?:is|are|was|were) there\b", "replace a file that is there", "an existing file"
    ),
    Phrase(r"\bthere is no (?:file|folder) \S", "there is no folder out", "folder out does not exist"),
    Phrase(
        r"\b(?:best|every \w+|all|what|\w+s) there (?:is|are)(?=[\"'.;:,)]|$)",
        "every format there is",
        "available",
    ),
    Phrase(
        r"\b(?:hold|holds|held|holding) (?:\S+ ){0,4}?against\b", "held against the model", "compared with"
    ),
    Phrase(r"\banybody\b", "a file of anybody's", "anyone's file"),
    Phrase(
        r"\b(?:harms?|hurts?) nobody\b|\bnobody is hurt\b",
        "a broken plugin harms nobody",
        "breaks nothing else",
    ),
    Phrase(r"\b(?:stand|stands|stood) for\b", "an option stands for both", "applies to both"),
    Phrase(r"\bso (?:deep|many|much|long|far) at most\b", "rows so deep at most", "at most N levels"),
    Phrase(r"\bso many (?:instead|times as much)\b", "so many instead", "N instead"),
    Phrase(r"\btold\b", "blocks that repeat are told once", "are shown once"),
    Phrase(r"\btells\b(?! apart)", "it tells the memory", "shows, reports, estimates"),
    Phrase(r"\btell (?:what|how|which|where|the|its|their|of)\b(?! author)", "tell what is in it", "show"),
    Phrase(r"\b(?:model|module|network|axis|dim|it)s? bears?\b", "what the network bears", "supports"),
    Phrase(
        r"\b(?:this|that|these|those|one|one \w+|errors|results|name|names|sizes?|checks?|plugins|tests|terminal|"
        r"for -\S+) alone\b",
        "print results and errors alone",
        "print only results and errors",
    ),
    Phrase(
        r"\b(?:is|are) (?:another|others) (?:after|than|on)\b", "x is another than on rank 0", "differs from"
    ),
    Phrase(r"\bthe whole story\b", "see the whole story with -v", "the full error"),
    Phrase(r"\bsee where: repeat with -v\b", "see where: repeat with -v", "see the full error with -v"),
    Phrase(r"\bsay (?:it|so|yes): ?\S|\bsay --\w", "say it: --batch max", "add --batch max"),
    Phrase(r"\bwrite it so\b", "write it so: --fix batch=1", "for example: --fix batch=1"),
    Phrase(r"\bneeds? to know of\b", "--memory needs to know of what size", "needs a size"),
    Phrase(r"\bcan(?:'t|not) be(?=[\"'.;:,)]|$)", "a time limit of 0 can't be", "must be greater than 0"),
    Phrase(r"\bwithout a word\b", "ends without a word", "exits silently"),
    Phrase(r"\bmay be repeated\b", "run this check; may be repeated", "(repeatable)"),
    Phrase(r"\brepeat one alone\b", "repeat one alone", "rerun one"),
    Phrase(
        r"\bin a world already\b",
        "this process is in a world already",
        "a process group is already initialized",
    ),
    Phrase(r"\bdoes other things\b", "its forward does other things", "behaves differently"),
    Phrase(r"\bsigns that read the same\b", "signs that read the same", "look-alike characters"),
    Phrase(r"\bkeeps? to the contract\b", "does it keep to the contract?", "honor the contract"),
]
EVERY = [*SPELLING, *PHRASES]

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [*sorted((ROOT / "nnkit").rglob("*.py")), *sorted((ROOT / "plugins").rglob("*.py"))]


def strings_of(file: Path) -> Iterator[tuple[int, str]]:
    """Yield each string and docstring of a module with its line; `{}` marks the values of an f-string."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            constants = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(map(str, constants))


def hits(file: Path, first_line: int, text: str) -> Iterator[str]:
    """Yield `file:line: 'phrase' -> what to write` for each phrase in a text that begins at a line."""
    for phrase in EVERY:
        for match in phrase.find(text):
            line = first_line + text.count("\n", 0, match.start())
            yield f"{file.relative_to(ROOT)}:{line}: {match[0]!r} -> {phrase.better}"


@pytest.mark.parametrize("phrase", EVERY, ids=[phrase.example for phrase in EVERY])
def test_every_pattern_finds_its_example(phrase):
    assert list(phrase.find(phrase.example))
    assert list(phrase.find(phrase.example.replace(" ", "\n    ")))
    assert not list(phrase.find(phrase.better))


def test_strings_are_read_with_their_lines(tmp_path):
    file = tmp_path / "module.py"
    file.write_text('"""Doc."""\n\nx = f"a {1 + 1:>3} b" "c"  # no string\n', encoding="utf-8")
    assert [*strings_of(file)][:2] == [(1, "Doc."), (3, "a {} bc")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_free_of_the_phrases(page):
    assert list(hits(page, 1, page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("room", sorted({file.relative_to(ROOT).parts[:2] for file in SOURCES}), ids="/".join)
def test_strings_of_the_sources_are_free_of_the_phrases(room):
    files = [file for file in SOURCES if file.relative_to(ROOT).parts[:2] == room]
    assert [hit for file in files for line, text in strings_of(file) for hit in hits(file, line, text)] == []


def helps() -> Iterator[tuple[str, str]]:
    """Yield what explains each option, of commands and of architectures."""
    groups = [("nnkit", cli)]
    for path, group in groups:
        ctx = click.Context(group)
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            if isinstance(command, click.Group):
                groups.append((f"{path} {name}", command))
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    yield f"{path} {name} {parameter.opts[-1]}", parameter.help
    for full_name, architecture in plugin_manager().architectures().items():
        for option in options_of(architecture.config):
            yield f"{full_name} {option.flag}", option.description
        for name, dim in architecture.dims.items():
            yield f"{full_name} --{name}", dim.description


def test_no_option_is_explained_by_what_it_is_of():
    explained = dict(helps())
    assert len(explained) > 200
    assert {
        option: text
        for option, text in explained.items()
        if re.match(r"(?:of|so|them|they)\b", text, re.IGNORECASE)
    } == {}
