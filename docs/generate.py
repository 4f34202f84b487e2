"""Write the pages of the documentation that say again what the code declares.

python docs/generate.py            write them
python docs/generate.py --check    exit with 1 and name them where one is stale
"""

import argparse
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from nnkit import api
from nnkit.cli.architecture_help import option_lines, preset_lines, size_lines
from nnkit.cli.info import tensor_line
from nnkit.cli.main import cli
from nnkit.contract.architecture import Architecture
from nnkit.contract.text import format_count
from nnkit.render.table import Table, to_markdown
from nnkit.verbs.core_handlers import plugin_manager

DOCS = Path(__file__).parent
FIRST_PARTY = ("graph", "pointcloud", "pointer", "recurrent", "vision")
WIDTH = 100  # of the help texts
ABOUT_FAMILIES = (
    "Counted at the default options and sizes. What a member shares with the one before it is told there."
)
MADE = "<!-- written by docs/generate.py: change what it is written from, then run it -->\n\n"


def _cell(markdown: str) -> str:
    """Return Markdown that fits a cell of a table."""
    return markdown.replace("|", r"\|")


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    pages = {DOCS / name: MADE + text.rstrip() + "\n" for name, text in all_pages()}
    stale = [file for file, text in pages.items() if not file.is_file() or file.read_text("utf-8") != text]
    stale += [file for file in (DOCS / "architectures").glob("*.md") if file not in pages]
    if check and stale:
        sys.exit("stale: " + ", ".join(str(file.relative_to(DOCS)) for file in stale))
    for file in stale:
        if file in pages:
            file.write_text(pages[file], encoding="utf-8")
        else:
            file.unlink()


def all_pages() -> Iterator[tuple[str, str]]:
    """Yield (file, text) of each page."""
    yield "commands.md", commands_page()
    yield "schemas.md", schemas_page()
    families: dict[str, dict[str, Architecture]] = {}
    for full, each in plugin_manager().architectures().items():
        if full.partition("/")[0] in FIRST_PARTY:
            families.setdefault(each.family, {})[full] = each
    yield "architectures/index.md", families_page(families)
    for family, members in families.items():
        yield f"architectures/{slug(family)}.md", family_page(family, members)


# Commands


def commands_page() -> str:
    """Return the help of every command, as the command prints it."""
    parts = ["# Commands", "What `--help` prints, for every command.", help_block(cli, "nnkit")]
    for path, command in commands(cli, "nnkit"):
        parts += [f"## {path}", help_block(command, path)]
    return "\n\n".join(parts)


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command of a group and of the groups in it, with the words that call it."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None or command.hidden:
            continue
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def help_block(command: click.Command, path: str) -> str:
    """Return what a command prints for --help."""
    ctx = click.Context(
        command, info_name=path, terminal_width=WIDTH, help_option_names=["-h", "--help"], color=False
    )
    return f"```text\n{command.get_help(ctx)}\n```"


# Schemas


def schemas_page() -> str:
    """Return a table of the keys of each JSON schema."""
    parts = [
        "# JSON schemas",
        "What `--json` prints, key by key. The `schema` of a report is its name and version: "
        "`nnkit.summary/1` is described by `nnkit/schemas/summary.json`. Within a version keys may be added, "
        "none is renamed or taken away.",
    ]
    for file in sorted((DOCS / "schemas").glob("*.json")):
        schema = json.loads(file.read_text(encoding="utf-8"))
        parts += [f"## {file.stem}", f"{schema['title']}: [{file.name}](schemas/{file.name})"]
        if "description" in schema:
            parts.append(schema["description"])
        parts.append(keys_table(schema))
        for name, part in schema.get("$defs", {}).items():
            parts += [f"### {file.stem}: {name}", part.get("description", ""), keys_table(part)]
    return "\n\n".join(part for part in parts if part)


def keys_table(schema: Mapping[str, object]) -> str:
    """Return the keys of an object, their types and what they mean; of anything else, its type."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return f"`{kind(schema)}`"
    rows = [
        (f"`{name}`", f"`{kind(each)}`", each.get("description", "")) for name, each in properties.items()
    ]
    return to_markdown(Table(("key", "type", "meaning"), rows), escape=_cell)


def kind(schema: Mapping[str, object]) -> str:
    """Return the type of a value in a few words: `array of row`, `integer or null`."""
    match schema:
        case {"$ref": str(reference)}:
            return reference.rpartition("/")[2]
        case {"const": value}:
            return json.dumps(value)
        case {"enum": [*values]}:
            return " or ".join(json.dumps(value) for value in values)
        case {"anyOf": [*kinds]} | {"oneOf": [*kinds]}:
            return " or ".join(map(kind, kinds))
        case {"type": "array", "items": Mapping() as items}:
            return f"array of {kind(items)}"
        case {"type": [*names]}:
            return " or ".join(names)
        case {"type": str(name)}:
            return name
    return "anything"


# Architectures


def slug(family: str) -> str:
    """Return the name of a family's page."""
    return "-".join("".join(c if c.isalnum() else " " for c in family.lower()).split())


def families_page(families: Mapping[str, Mapping[str, Architecture]]) -> str:
    """Return the page that links the families."""
    lines = [
        f"- [{family}]({slug(family)}.md): {', '.join(f'`{each.name}`' for each in members.values())}"
        for family, members in families.items()
    ]
    about = "The base zoo, family by family, drawn from what the plugins declare and what `summary` counts."
    return "\n\n".join(["# Architectures", about, "\n".join(lines)])


def family_page(family: str, members: Mapping[str, Architecture]) -> str:
    """Return what `nnkit info` and `nnkit summary` say of the members of a family."""
    rows = []
    for full, each in members.items():
        totals = api.summarize(full).totals
        rows.append((f"`{full}`", each.summary, format_count(totals.parameters), format_count(totals.macs)))
    numbers = frozenset({"parameters", "MACs"})
    table = to_markdown(
        Table(("architecture", "what it is", "parameters", "MACs"), rows, numbers), escape=_cell
    )
    parts = [f"# {family}", f"{table}\n\n{ABOUT_FAMILIES}"]
    told: dict[str, str] = {}
    for full, each in members.items():
        parts.append(f"## {each.name}")
        parts.append(each.summary + ("" if each.summary.endswith(".") else "."))
        for title, text in sections(full, each):
            if told.get(title) == text:
                continue
            told[title] = text
            parts.append(f"**{title}**\n\n{text}")
    return "\n\n".join(parts)


def sections(full: str, architecture: Architecture) -> Iterator[tuple[str, str]]:
    """Yield (title, text) of all that an architecture declares."""
    spec = api.resolve(full)
    if architecture.paper:
        yield "Paper", "\n".join(f"- {line}" for line in architecture.paper.splitlines())
    if architecture.equation:
        equation = inspect.cleandoc(architecture.equation)
        yield "Equation", f"```text\n{equation}\n```"
    yield "Inputs", lines_table("input", map(tensor_line, spec.inputs))
    yield "Outputs", lines_table("output", map(tensor_line, spec.outputs))
    for title, lines in (
        ("Options", option_lines(architecture)),
        ("Sizes", size_lines(architecture)),
        ("Presets", preset_lines(architecture)),
    ):
        if lines:
            yield title, lines_table(title.lower().removesuffix("s"), lines)
    if architecture.notes:
        yield "Notes", "\n".join(f"- {note}" for note in architecture.notes)
    if architecture.unsupported:
        refused = "\n".join(f"- `{name}`: {reason}" for name, reason in architecture.unsupported.items())
        yield "Not supported", refused


def lines_table(title: str, lines: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> str:
    """Return pairs of (how it is typed, what it means) as a table."""
    return to_markdown(
        Table((title, "meaning"), [(f"`{typed}`", meaning) for typed, meaning in lines]), escape=_cell
    )


if __name__ == "__main__":
    main()
