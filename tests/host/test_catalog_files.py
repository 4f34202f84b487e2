"""The file of a catalog: what is written is read, and what is damaged is left out and told."""

import random
from dataclasses import replace

import pytest

from nnkit.contract.byte_sizes import parse_count
from nnkit.contract.catalog import CatalogRow
from nnkit.contract.text import format_amount
from nnkit.errors import UsageProblem
from nnkit.host.catalog import COLUMNS, as_line, as_text, choose_rows, parse_catalog, read_catalog

ROW = CatalogRow(
    name="net_8",
    family="linear",
    task="image classification",
    parameters=72,
    macs=64,
    activations=12,
    training=0,
    input="3×224×224",
    sizes="32 from 64",
    detail="a\tb\\n\nc\\",
    method="run",
    pretrained=False,
    version="1.0",
)
VERSIONS = {"tiny-zoo": "1.0", "nnkit": "0.1.0", "torch": "2.13.0"}


def test_what_is_written_is_read():
    rows = [ROW, CatalogRow(name="a.b-c+d"), replace(ROW, name="B", pretrained=True, parameters=10**15)]
    text = as_text(VERSIONS, rows)
    catalog = parse_catalog(text)
    assert catalog.versions == VERSIONS
    assert catalog.rows == {row.name: row for row in rows}
    assert catalog.damaged == ()
    assert as_text(VERSIONS, catalog.rows.values()) == text
    assert len(text.splitlines()) == 5 + len(rows)


def test_rows_are_sorted_and_the_last_of_a_name_counts():
    newer = replace(ROW, version="2.0")
    text = as_text(VERSIONS, [replace(ROW, name="z"), ROW]) + as_line(newer) + "\n"
    assert [line.partition("\t")[0] for line in text.splitlines()[5:]] == ["net_8", "z", "net_8"]
    assert parse_catalog(text).rows["net_8"] == newer


def test_a_column_more_or_less_is_no_damage():
    text = as_text(VERSIONS, [ROW])
    lines = [line if line.startswith("# ") else f"new\t{line}" for line in text.splitlines()]
    assert parse_catalog("\n".join(lines)).rows == {"net_8": ROW}
    heading = "# nnkit catalog 1\nversion\tname\tmacs\n1.0\tnet_8\t64\n"
    assert parse_catalog(heading).rows == {"net_8": CatalogRow(name="net_8", macs=64, version="1.0")}


@pytest.mark.parametrize("column", ["parameters", "macs", "activations", "training", "pretrained", "name"])
def test_a_damaged_cell_costs_its_line_alone(column):
    for cell in ("-1", "1e6", " 7", "٣", "yes!", "")[: 6 if column == "name" else 5]:
        cells = as_line(ROW).split("\t")
        cells[COLUMNS.index(column)] = cell
        text = as_text(VERSIONS, [replace(ROW, name="other")]) + "\t".join(cells) + "\n"
        if column == "name" and cell:
            continue
        catalog = parse_catalog(text)
        assert (set(catalog.rows), catalog.damaged) == ({"other"}, (7,)), cell


def test_a_file_that_was_cut_anywhere_never_gives_a_false_row(tmp_path):
    rows = {name: replace(ROW, name=name) for name in ("a", "b", "c")}
    whole = as_text(VERSIONS, rows.values()).encode()
    path = tmp_path / "catalog.tsv"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = read_catalog(path).rows
        # The last cell is the version: cut short it is another version, never another figure.
        assert all(replace(row, version="1.0") == rows[name] for name, row in found.items())


def test_bytes_at_random_are_no_error(tmp_path):
    generator = random.Random(16)
    path = tmp_path / "catalog.tsv"
    for _ in range(200):
        data = bytearray(as_text(VERSIONS, [ROW, replace(ROW, name="other")]).encode())
        for _ in range(generator.randrange(1, 9)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(data)
        read_catalog(path)
    assert read_catalog(tmp_path / "no.tsv").rows == {}
    assert read_catalog(tmp_path).rows == {}


def test_a_file_that_is_no_catalog_is_told():
    catalog = parse_catalog("<html>")
    assert catalog.rows == {}
    assert "line 1" in catalog.problem("somewhere.tsv")


def test_rows_of_the_installed_version_count_before_others():
    old, new = replace(ROW, version="1.0", macs=1), replace(ROW, version="2.0", macs=2)
    assert choose_rows({"n": old}, {"n": new}, "2.0") == {"n": new}
    assert choose_rows({"n": old}, {"n": new}, "1.0") == {"n": old}
    assert choose_rows({"n": new}, {"n": old}, "2.0") == {"n": new}
    assert choose_rows({"n": old}, {}, "2.0") == {"n": old}
    assert choose_rows({}, {"n": new}, "1.0") == {"n": new}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10M", 10**7),
        ("1.5G", 1_500_000_000),
        ("7b", 7 * 10**9),
        ("850", 850),
        ("0.1K", 100),
        ("2T", 2 * 10**12),
    ],
)
def test_counts_as_typed(text, number):
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["", "M", "-1", "10MB", "1e6", "ten"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(UsageProblem, match="can't read the number"):
        parse_count(text)


def test_amounts_have_three_digits():
    amounts = {0: "0", 999: "999", 1000: "1.00K", 11_689_512: "11.7M", 999_499: "999K", 999_500: "1.00M",
               4_089_184_256: "4.09G", 322_000_000_000: "322G", 1_370_000_000_000: "1.37T"}  # fmt: skip
    assert {number: format_amount(number) for number in amounts} == amounts
