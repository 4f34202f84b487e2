"""The formats of pictures by the suffix of the file: core's, and those that plugins declare alike."""

import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from nnkit.contract.contributions import CORE_PICTURES, Picture
from nnkit.contract.json_text import json_text
from nnkit.contract.loading import load, missing
from nnkit.contract.requests import DrawRequest
from nnkit.contract.text import shorten
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, ask_for, did_you_mean, first_line, nearest
from nnkit.render.graph.opening import names_of_groups
from nnkit.render.graph.scene import scene_of
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.exporting.files import staged
from nnkit.verbs.graph.report import GraphReport

SUMMARIES = {
    "html": "one file to look at in a browser: folds and unfolds, searches, sorts",
    "svg": "a drawing for papers and READMEs",
    "png": "the same in pixels",
    "mermaid": "a diagram that GitHub and GitLab draw from text",
    "dot": "a graph for Graphviz",
    "json": "the graph as data",
}
REQUIRES = {"png": {"resvg_py": "pip install 'nnkit[png]'"}}

CORE = tuple(
    Picture(
        name=name,
        suffix=suffix,
        summary=SUMMARIES[name],
        draw=f"nnkit.render.graph.{'pictures' if name == 'json' else name}:as_{name}",
        requires=REQUIRES.get(name, {}),
        draws_two=name == "html",
    )
    for name, suffix in CORE_PICTURES.items()
)


def find(path: Path, others: Sequence[Picture]) -> Picture:
    """Return the format of a file that is to be drawn. others: those of plugins.

    Raises UsageProblem for a suffix that no format has, PluginProblem where a required package is missing.
    """
    offered = {picture.suffix: picture for picture in (*CORE, *others)}
    suffix = next((each for each in offered if path.name.lower().endswith(each) and path.name != each), "")
    if not suffix:
        like = nearest(path.suffix, offered) if path.suffix else ()
        what = f"{path.suffix} is no format of pictures" if path.suffix else f"{path} has no suffix"
        raise UsageProblem(what, ask_for(like) or f"the formats are: {', '.join(offered)}")
    return _require(offered[suffix])


def find_name(name: str, others: Sequence[Picture]) -> Picture:
    """Return the format of that name. Raises UsageProblem for an unknown one."""
    offered = {picture.name: picture for picture in (*CORE, *others)}
    if name not in offered:
        raise UsageProblem(
            f"unknown format {name!r}", did_you_mean(name, offered) or f"known formats: {', '.join(offered)}"
        )
    return _require(offered[name])


def _require(picture: Picture) -> Picture:
    if package := missing(picture.requires):
        raise PluginProblem(
            f"a picture in {picture.name} needs the package {package}",
            f"install it: {picture.requires[package]}",
        )
    return picture


def save(request: DrawRequest, path: Path, force: bool) -> None:
    """Write a picture, complete or not at all; the suffix chooses the format."""
    picture = find(path, plugin_manager().pictures())
    with staged(path, force) as file:
        file.write_bytes(draw(picture, request))


def draw(picture: Picture, request: DrawRequest) -> bytes:
    """Return the content of a picture. Raises PluginProblem if its format fails."""
    if request.other is not None:
        require_two(picture)
    check(request)
    function = load(picture.draw)
    if picture in CORE:
        return _encoded(function(request))
    try:
        content = function(request)
        if not isinstance(content, str | bytes):
            raise TypeError(f"it returned {type(content).__name__}, neither text nor bytes")
        return _encoded(content)
    except NnkitError:
        raise
    except Exception as error:
        raise PluginProblem(
            f"picture {picture.name} failed to draw: {type(error).__name__}: {first_line(error)}",
            "see the full error with -v",
        ) from error


def require_two(picture: Picture) -> None:
    """Raise UsageProblem for a format that shows only one model."""
    if not picture.draws_two:
        raise UsageProblem(f"a picture in {picture.name} shows only one model", "draw two to FILE.html")


def check(request: DrawRequest) -> None:
    """Raise UsageProblem for a heat or a group that the reports don't have."""
    reports = [report for report in (request.report, request.other) if report is not None]
    for report in reports:
        _check_heat(report, request.heat)
    if request.opened:
        _check_opened(request, reports)


def _check_opened(request: DrawRequest, reports: Sequence[GraphReport]) -> None:
    """Raise UsageProblem for a pattern that no group has: it was misspelled."""
    names = {
        name for report in reports for name in names_of_groups(report, scene_of(report, request.constants))
    }
    for pattern in request.opened:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageProblem(
                f"no group has a path or type like {pattern!r}",
                did_you_mean(pattern, names) or _see_groups(reports, sorted(names)),
            )


def _see_groups(reports: Sequence[GraphReport], names: list[str]) -> str:
    """Return the hint where to see the groups: a command, or their names if no command draws the model."""
    if not names:
        return "nothing in it can be opened: leave the pattern out"
    ran = [report.spec for report in reports if report.spec and report.source == "model"]
    commands = [f"nnkit graph {shlex.join(spec.typed)}" for spec in ran if spec.typed]
    return f"see the groups: {'; '.join(commands)}" if commands else f"the groups are: {shorten(names, 20)}"


def _check_heat(report: GraphReport, heat: str | None) -> None:
    """Raise UsageProblem for a kind of cost that a report doesn't have."""
    rows = [node.row for node in report.nodes if node.row]
    known = {
        "saved": any(row.training for row in rows),
        "time": any(node.seconds for node in report.nodes),
        "macs": report.totals is not None,
    }
    if known.get(heat or "", True):
        return
    if report.source == "onnx":
        raise UsageProblem(f"{report.title} has no {heat}: its nodes were read, not run", "leave --heat out")
    how = {"saved": 'optimizer="adam"', "time": "seconds=True"}
    raise UsageProblem(f"the report has no {heat}", f"ask nnkit.graph for it: {how[str(heat)]}")


def _encoded(content: str | bytes) -> bytes:
    """Return the bytes of a file; half a surrogate pair, as names may have, becomes its escape."""
    return content if isinstance(content, bytes) else content.encode(errors="backslashreplace")


def as_json(request: DrawRequest) -> str:
    """Return the graph as data."""
    return f"{json_text(request.report.to_dict(), indent=2)}\n"
