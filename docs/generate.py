"""Write the pages and pictures of the documentation that repeat what the code declares and prints.

python docs/generate.py            write those that are stale
python docs/generate.py --check    write nothing; exit with 1 and name those that are stale
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click
import draw
import graphs

from nnkit import api, schemas
from nnkit.cli.architecture_help import option_lines, preset_lines, size_lines
from nnkit.cli.declared import behavior_lines, input_lines, output_lines
from nnkit.cli.main import cli
from nnkit.contract.architecture import Architecture
from nnkit.contract.text import format_count, split_equations
from nnkit.render.table import Table, to_markdown
from nnkit.verbs.core_handlers import plugin_manager

DOCS = Path(__file__).parent
FIRST_PARTY = "generative graph mlp pointcloud pointer recurrent sequence sets vision".split()
HELP_WIDTH = 100
ABOUT_FAMILIES = (
    "Counted at the default options and sizes. "
    "A section that is the same as the previous architecture's is not repeated, nor is a graph with the same "
    "types of layers."
)
MARK = "<!-- written by docs/generate.py: change its source, then run it -->"


def main() -> None:
    """Write the stale files, or name them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    pages = {DOCS / name: finish(text) for name, text in all_pages()}
    pages |= {graphs.FOLDER / graphs.file_name(name): graphs.picture(name) for name in drawn_architectures()}
    pages[graphs.FIGURE] = graphs.figure()
    pictures = {draw.FOLDER / name: svg for name, svg in draw.pictures()}
    stale = {file: text for file, text in pages.items() if not is_fresh(file, text)}
    stale |= {file: svg for file, svg in pictures.items() if not draw.is_fresh(file, svg)}
    files = {*(DOCS / "architectures").glob("*.md"), *draw.FOLDER.rglob("*.svg")}
    orphans = sorted(files - pages.keys() - pictures.keys())
    if check and (stale or orphans):
        sys.exit("stale: " + ", ".join(str(file.relative_to(DOCS)) for file in [*stale, *orphans]))
    graphs.FOLDER.mkdir(exist_ok=True)
    for file, text in stale.items():
        file.write_text(text, encoding="utf-8")
    for file in orphans:
        file.unlink()


def finish(page: str) -> str:
    """Return a page with the mark of the generator below its heading.

    The heading comes first, because the site takes a page's title from its first line.
    """
    heading, _, rest = page.strip().partition("\n")
    return f"{heading}\n\n{MARK}\n{rest}\n"


def is_fresh(file: Path, text: str) -> bool:
    """Return whether a page is as it would be written now."""
    return file.is_file() and file.read_text(encoding="utf-8") == text


def all_pages() -> Iterator[tuple[str, str]]:
    """Yield (file name, Markdown) for each page."""
    yield "commands.md", commands_page()
    yield "schemas.md", schemas_page()
    yield "architectures/index.md", families_page(all_families())
    for family, members in all_families().items():
        yield f"architectures/{slug(family)}.md", family_page(family, members)


def escape_cell(markdown: str) -> str:
    """Return Markdown that fits a cell of a table."""
    return markdown.replace("|", r"\|")


# Commands


def commands_page() -> str:
    """Return the help of every command, as the command prints it."""
    parts = ["# Commands", "The help of every command, as `--help` prints it.", help_block(cli, "nnkit")]
    for path, command in commands(cli, "nnkit"):
        parts += [f"## {path}", help_block(command, path)]
    return "\n\n".join(parts)


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield (how it is typed, command) for each command of a group and of the groups in it."""
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
        command, info_name=path, terminal_width=HELP_WIDTH, help_option_names=["-h", "--help"], color=False
    )
    return f"```console\n$ {path} --help\n{command.get_help(ctx)}\n```"


# Schemas


def schemas_page() -> str:
    """Return a table of the keys of each JSON schema."""
    parts = [
        "# JSON schemas",
        "What `--json` prints, key by key. The `schema` of a report gives its name and version: "
        "`nnkit/schemas/summary.json` describes `nnkit.summary/1`. Within a version, keys may be added; "
        "none is renamed or removed.",
    ]
    for name in schemas.names():
        schema = schemas.read(name)
        parts += [f"## {name}", f"{schema['title']}: `nnkit/schemas/{name}.json`"]
        if "description" in schema:
            parts.append(schema["description"])
        parts.append(keys_table(schema))
        for key, part in schema.get("$defs", {}).items():
            parts += [f"### {name}: {key}", part.get("description", ""), keys_table(part)]
    return "\n\n".join(part for part in parts if part)


def keys_table(schema: Mapping[str, object]) -> str:
    """Return a table of an object's keys, types and meanings; for any other schema, its type."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return f"`{kind(schema)}`"
    rows = [
        (f"`{key}`", f"`{kind(value)}`", value.get("description", "")) for key, value in properties.items()
    ]
    return to_markdown(Table(("key", "type", "meaning"), rows), escape=escape_cell)


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
    """Return the file name of a family's page, without its ending."""
    return "-".join("".join(c if c.isalnum() else " " for c in family.lower()).split())


def family_heading(family: str) -> str:
    """Return the heading of a family's page: `Point cloud` for `point cloud`."""
    return family[0].upper() + family[1:]


def all_families() -> dict[str, dict[str, Architecture]]:
    """Return the architectures of the base zoo, by family."""
    families: dict[str, dict[str, Architecture]] = {}
    for name, architecture in plugin_manager().architectures().items():
        if name.partition("/")[0] in FIRST_PARTY:
            families.setdefault(architecture.family, {})[name] = architecture
    return families


def drawn_architectures() -> Iterator[str]:
    """Yield the architectures whose pages show their graphs."""
    for members in all_families().values():
        yield from graphs.distinct(members)


def families_page(families: Mapping[str, Mapping[str, Architecture]]) -> str:
    """Return the page that links the families."""
    lines = []
    for family, members in families.items():
        names = ", ".join(f"`{architecture.name}`" for architecture in members.values())
        lines.append(f"- [{family_heading(family)}]({slug(family)}.md): {names}")
    about = "The base zoo, family by family: what its plugins declare, and what `summary` counts."
    return "\n\n".join(["# Architectures", about, "\n".join(lines)])


def family_page(family: str, members: Mapping[str, Architecture]) -> str:
    """Return what `nnkit info` and `nnkit summary` print for the members of a family."""
    parts = [f"# {family_heading(family)}", f"{family_table(members)}\n\n{ABOUT_FAMILIES}"]
    written: dict[str, str] = {}
    drawn = graphs.distinct(members)
    for name, architecture in members.items():
        parts += [f"## {architecture.name}", architecture.summary.removesuffix(".") + "."]
        if name in drawn:
            parts.append(graph_picture(name, architecture))
        for title, text in sections(name, architecture):
            if written.get(title) != text:
                written[title] = text
                parts.append(f"**{title}**\n\n{text}")
    return "\n\n".join(parts)


def graph_picture(name: str, architecture: Architecture) -> str:
    """Return the picture of an architecture's graph, in a frame that scrolls and leads to the file."""
    file = f"../pictures/graphs/{graphs.file_name(name)}"
    alt = f"The graph of {architecture.name}, from its inputs down to its outputs"
    return f"[![{alt}]({file})]({file}){{ .nnkit-graph }}"


def family_table(members: Mapping[str, Architecture]) -> str:
    """Return the table of a family: each member with its parameters and MACs."""
    rows = []
    for name, architecture in members.items():
        totals = api.summarize(name).totals
        counts = (format_count(totals.parameters), format_count(totals.macs))
        rows.append((f"`{name}`", architecture.summary, *counts))
    columns = ("architecture", "what it is", "parameters", "MACs")
    return to_markdown(Table(columns, rows, numbers=frozenset({"parameters", "MACs"})), escape=escape_cell)


def sections(name: str, architecture: Architecture) -> Iterator[tuple[str, str]]:
    """Yield (title, Markdown) for all that an architecture declares."""
    spec = api.resolve(name)
    if architecture.paper:
        yield "Paper", "\n".join(f"- {line}" for line in architecture.paper.splitlines())
    if architecture.equation:
        equations = "\n".join(split_equations(architecture.equation))
        yield "Equation", f"```text\n{equations}\n```"
    yield "Inputs", lines_table("input", input_lines(spec))
    yield "Outputs", lines_table("output", output_lines(spec))
    for title, lines in (
        ("Options", option_lines(architecture)),
        ("Sizes", size_lines(architecture)),
        ("Presets", preset_lines(architecture)),
        ("Behavior", behavior_lines(architecture)),
    ):
        if lines:
            yield title, lines_table(title.lower().removesuffix("s"), lines)
    if architecture.notes:
        yield "Notes", "\n".join(f"- {note}" for note in architecture.notes)
    if architecture.unsupported:
        reasons = architecture.unsupported.items()
        yield "Not supported", "\n".join(f"- `{feature}`: {reason}" for feature, reason in reasons)


def lines_table(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """Return pairs of (how it is typed, what it means) as a table."""
    rows = [(f"`{typed}`", meaning) for typed, meaning in lines]
    return to_markdown(Table((title, "meaning"), rows), escape=escape_cell)


if __name__ == "__main__":
    main()
