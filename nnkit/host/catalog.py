"""Catalogs: what is known of architectures that nobody has to build for it. Torch-free.

A plugin may have a file `catalog.tsv` beside the module of its hooks; its rows are about the plugin's own
architectures, or those of its zoo. Rows that a user has measured are in the cache folder, and count where
they are of the installed version:

    # nnkit catalog 1
    # timm 1.0.31               the distribution that the rows are about
    # nnkit 1.0                 what measured them
    # torch 2.13.0
    name<tab>family<tab>parameters<tab>…
    bat_resnext26ts<tab>byoanet<tab>10727208<tab>…

Columns are found by their names, so a later version may add some. A cell that is empty is not known. Lines
may be added at the end, and the last one of a name counts.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from nnkit.contract.catalog import CatalogRow
from nnkit.contract.text import plural
from nnkit.host.plugins import Plugin

TITLE = "# nnkit catalog 1"
FILE = "catalog.tsv"
COLUMNS = tuple(each.name for each in fields(CatalogRow))
PRETRAINED = {"": None, "yes": True, "no": False}
ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}
UNESCAPED = {escape: letter for letter, escape in ESCAPES.items()}


@dataclass(frozen=True)
class Catalog:
    """What a catalog holds.

    Attributes:
        versions: The version of each distribution that the rows were made with.
        rows: The rows by name.
        damaged: The numbers of the lines that can't be read.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, CatalogRow] = field(default_factory=dict)
    damaged: tuple[int, ...] = ()

    def problem(self, path: Path) -> str:
        """Return what is wrong with the file, or an empty string."""
        if not self.damaged:
            return ""
        lines = plural(len(self.damaged), "line")
        return f"{path} has {lines} that can't be read, the first is line {self.damaged[0]}"


# Where they are


def shipped_file(plugin: Plugin) -> Path | None:
    """Return the path of the catalog that a loaded plugin brings, whether it exists or not."""
    module = sys.modules.get(plugin.module)
    origin = getattr(module, "__file__", None)
    if not origin or not getattr(module, "__package__", ""):  # a lone module has no folder of its own
        return None
    return Path(origin).with_name(FILE)


def measured_file(cache: Path | None, prefix: str) -> Path | None:
    """Return the path of the rows that this user has measured; None without a cache folder."""
    name = re.sub(r"[^\w.+-]", "_", prefix, flags=re.ASCII)
    return cache / "catalogs" / f"{name}.tsv" if cache else None


def choose_rows(
    shipped: Mapping[str, CatalogRow], measured: Mapping[str, CatalogRow], version: str
) -> dict[str, CatalogRow]:
    """Return a row for each name: one of this version if there is one, and of the user's rather than not."""
    rows = dict(shipped)
    for name, row in measured.items():
        if name not in rows or row.version == version:
            rows[name] = row
    return rows


# Reading


def read_catalog(path: Path | None) -> Catalog:
    """Return what a file holds; nothing for one that doesn't exist, or is no catalog of this version."""
    try:
        text = path.read_bytes().decode("utf-8", "replace") if path else ""
    except OSError:
        return Catalog()
    return parse_catalog(text)


def parse_catalog(text: str) -> Catalog:
    """Return what a text holds. Lines that can't be read are left out, and their numbers are kept."""
    title, *lines = text.split("\n")
    if not text or title != TITLE:
        return Catalog(damaged=(1,) if text else ())
    versions: dict[str, str] = {}
    while lines and lines[0].startswith("# "):
        name, _, version = lines.pop(0)[2:].rpartition(" ")
        versions[name] = version
    names = lines.pop(0).split("\t") if lines else []
    order = [names.index(column) if column in names else MISSING for column in COLUMNS]
    rows: dict[str, CatalogRow] = {}
    damaged: list[int] = []
    for number, line in enumerate(lines, start=len(versions) + 3):
        cells = line.split("\t")
        if not line:
            continue
        row = _parse_row([*cells, ""], order) if len(cells) == len(names) else None
        if row is None:
            damaged.append(number)
        else:
            rows[row.name] = row
    return Catalog(versions, rows, tuple(damaged))


MISSING = -1
"""Where the cell of a column is that a catalog doesn't have: behind the others, empty."""


def _parse_row(cells: list[str], order: list[int]) -> CatalogRow | None:
    """Return the row of a line, or None if it can't be one."""
    name, family, task, *figures, shown, sizes, detail, method, pretrained, version = [
        cells[index] for index in order
    ]
    numbers = [int(cell) if cell.isascii() and cell.isdecimal() else None for cell in figures]
    if not name or pretrained not in PRETRAINED or [*map(bool, figures)] != [n is not None for n in numbers]:
        return None
    parameters, macs, activations, training = numbers
    return CatalogRow(
        name=name,
        family=family,
        task=task,
        parameters=parameters,
        macs=macs,
        activations=activations,
        training=training,
        input=shown,
        sizes=sizes,
        detail=_unescape(detail),
        method=_unescape(method),
        pretrained=PRETRAINED[pretrained],
        version=version,
    )


def _unescape(cell: str) -> str:
    if "\\" not in cell:
        return cell
    return re.sub(r"\\.", lambda match: UNESCAPED.get(match[0], match[0]), cell)


# Writing


def as_text(versions: Mapping[str, str], rows: Iterable[CatalogRow]) -> str:
    """Return the text of a catalog, sorted by name, so that a difference shows which figures changed."""
    heading = [TITLE, *(f"# {name} {version}" for name, version in versions.items()), "\t".join(COLUMNS)]
    ordered = sorted(rows, key=lambda row: row.name)
    return "".join(f"{line}\n" for line in (*heading, *map(as_line, ordered)))


def as_line(row: CatalogRow) -> str:
    """Return the line of a row."""
    return "\t".join(_as_cell(getattr(row, column)) for column in COLUMNS)


def _as_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return re.sub(r"[\\\t\n\r]", lambda match: ESCAPES[match[0]], str(value))
