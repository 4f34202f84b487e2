"""`nnkit list` with bounds on figures: which one fits?"""

import csv
import io
import json
import sys

import jsonschema
import pytest
import tiny_zoo
from conftest import python

from nnkit import schemas
from nnkit.contract.catalog import CatalogRow
from nnkit.host.catalog import as_text

pytestmark = pytest.mark.usefixtures("fresh_plugins")
zoo = tiny_zoo.zoo


def row(name, parameters, macs, activations=None, training=None, shown="3×224×224", version="1.0", **more):
    return CatalogRow(
        name=name,
        family=more.pop("family", "linear"),
        parameters=parameters,
        macs=macs,
        activations=activations,
        training=training,
        input=shown,
        method=more.pop("method", "run"),
        version=version,
        **more,
    )


ROWS = [
    row("big", 86_567_656, 16_867_000_000, 16_500_000, 3 * 10**9, pretrained=True, task="classification"),
    row("mid", 11_689_512, 1_814_073_344, 2_484_712, 198_423_648, pretrained=False, task="classification"),
    row("text", 7_000_000, 500_000_000, 900_000, 0, shown="ids 16, mask 16", pretrained=None),
    row(
        "small", 1_593_000, 23_500_000, 923_000, 50_000_000, shown="3×256×256", pretrained=True, version="0.9"
    ),
    row("broken", 5_000_000, None, method="it fails"),
]
NAMES = [each.name for each in ROWS] + ["new"]


@pytest.fixture
def listed(zoo, nnkit_command):
    """Return the names that a command line lists, in order; it must end well."""
    zoo(" ".join(NAMES), catalog=as_text({"tiny-zoo": "1.0"}, ROWS))

    def run(*args):
        done = nnkit_command("list", *args, "tiny/", "--json")
        assert done.code == 0, done.err
        data = json.loads(done.out)
        jsonschema.validate(data, schemas.schema_of(data), cls=jsonschema.Draft202012Validator)
        return [each["name"].removeprefix("tiny/") for each in data["architectures"]], data

    return run


@pytest.mark.parametrize(
    ("args", "expected", "unknown"),
    [
        (["--sort", "macs"], ["small", "text", "mid", "big", "broken", "new"], {}),
        (["--sort", "macs", "--reverse"], ["big", "mid", "text", "small", "broken", "new"], {}),
        (["--sort", "name"], ["big", "broken", "mid", "new", "small", "text"], {}),
        (["--max-params", "10M"], ["broken", "small", "text"], {"parameters": 1}),
        (["--max-macs", "1G"], ["small", "text"], {"macs": 2}),
        (["--max-params", "4M", "--max-macs", "1G"], ["small"], {"parameters": 1}),
        (["--min-params", "11689512", "--max-params", "11689512"], ["mid"], {"parameters": 1}),
        (["--min-macs", "1.5G"], ["big", "mid"], {"macs": 2}),
        (["--min-activations", "1M", "--max-activations", "3M"], ["mid"], {"activations": 2}),
        (["--trains-in", "1GB"], ["mid", "small"], {"training": 3}),
        (["--trains-in", "1GB", "--sort", "training"], ["small", "mid"], {"training": 3}),
        (["--input", "224"], ["big", "broken", "mid"], {"input": 1}),
        (["--input", "3x256x256"], ["small"], {"input": 1}),
        (["--input", "16"], ["text"], {"input": 1}),
        (["--task", "classif"], ["big", "mid"], {"task": 4}),
        (["--has-weights"], ["big", "small"], {"weights": 3}),
        (["--family", "LIN", "--limit", "2"], ["big", "broken"], {}),
    ],
)
def test_what_fits_and_how_many_are_not_known(listed, args, expected, unknown):
    names, data = listed(*args)
    assert names == expected
    assert data["unknown"] == unknown


def test_json_has_exact_figures_and_none_for_what_is_not_known(listed):
    _, data = listed("--sort", "name")
    by_name = {each["name"]: each for each in data["architectures"]}
    assert by_name["tiny/mid"]["macs"] == 1_814_073_344
    assert by_name["tiny/text"]["training"] is None
    states = {name.removeprefix("tiny/"): each["state"] for name, each in by_name.items()}
    assert states == {**dict.fromkeys(NAMES, "current"), "small": "outdated", "new": "unknown"}
    assert data["found"] == 6


@pytest.fixture
def command(listed, nnkit_command):
    return lambda *args: nnkit_command("list", "tiny/", *args)


def test_the_table_fits_80_columns_and_marks_other_versions(command):
    done = command("--sort", "macs", "--trains-in", "16GB")
    assert done.out.splitlines() == [
        "name        params    MACs   acts  input       training",
        "tiny/small  ~1.59M  ~23.5M  ~923K  3×256×256  ~47.7 MiB",
        "tiny/mid     11.7M   1.81G  2.48M  3×224×224  189.2 MiB",
        "tiny/big     86.6M   16.9G  16.5M  3×224×224    2.8 GiB",
    ]
    assert "not known, so left out: training (3)" in done.err
    assert "~ is for tiny 0.9, but 1.0 is installed; measure it: nnkit list --refresh tiny/" in done.err


def test_without_a_bound_what_is_not_known_is_shown(command):
    done = command("--columns", "name,macs,method")
    assert "tiny/broken       ?  it fails" in done.out
    assert done.err.count("\n") == 1


def test_csv_is_read_by_any_reader(command):
    done = command("--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [each["name"] for each in rows] == [f"tiny/{name}" for name in sorted(NAMES)]
    assert (rows[2]["macs"], rows[2]["weights"], rows[1]["macs"], rows[4]["state"]) == (
        "1814073344",
        "no",
        "",
        "outdated",
    )
    assert done.err == ""


def test_a_zoo_that_is_not_installed_can_be_chosen_from(listed, nnkit_command, monkeypatch, tmp_path):
    (tmp_path / "tiny_zoo").rename(tmp_path / "elsewhere")
    done = nnkit_command("list", "tiny/", "--max-macs", "1G")
    assert "tiny/text" in done.out
    assert "~" not in done.out
    assert "tiny/ isn't installed; to build one of these: pip install tiny-zoo" in done.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max-params", "ten"], "can't read the number 'ten'"),
        (["--trains-in", "16 lots"], "can't read the size"),
        (["--sort", "mac"], "unknown column 'mac'"),
        (["--columns", "name,parms"], "unknown column 'parms'"),
        (["--quick"], "--quick is for --refresh"),
        (["--output", "x.tsv"], "--output is for --refresh"),
        (["--limit", "0"], "--limit"),
        (["--input", "224px"], "can't read --input '224px'"),
        (["--task", "clasify"], "no architecture of those that match 'tiny/' has a task like 'clasify'"),
        (["--family", "liner"], "did you mean linear?"),
    ],
)
def test_wrong_options_are_usage_errors(command, args, message):
    done = command(*args)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "hint: " in done.err


def test_an_unknown_pattern_is_told_with_the_nearest_name(listed, nnkit_command):
    done = nnkit_command("list", "tiny/smal_", "--max-macs", "1G")
    assert done.code == 2
    assert "tiny/small" in done.err


def test_a_damaged_catalog_is_one_warning(zoo, nnkit_command):
    zoo(
        "net_2",
        catalog="# nnkit catalog 1\nname\tmacs\tversion\nnet_2\t16\t1.0\nnet_3\tx\t1.0\nnet_4\ty\t1.0\n",
    )
    done = nnkit_command("list", "tiny/", "--sort", "macs")
    assert (done.code, done.err.count("warning: ")) == (0, 1)
    assert "2 lines that can't be read, the first is line 4" in done.err


def test_2600_rows_are_read_without_torch(zoo, tmp_path):
    names = [f"net_{width}" for width in range(1, 2601)]
    rows = [row(name, 8 * width, 9 * width, width, 16 * width) for width, name in enumerate(names, start=1)]
    zoo(" ".join(names), catalog=as_text({"tiny-zoo": "1.0"}, rows))
    script = f"""
import sys
sys.path[:] = {sys.path!r}
from nnkit.cli.main import main
try:
    main(["list", "tiny/", "--max-macs", "90", "--sort", "macs", "--reverse"])
except SystemExit:
    print({{"torch", "numpy", "onnx", "rich", "yaml"}} & set(sys.modules), file=sys.stderr)
"""
    done = python("-c", script)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [f"tiny/net_{width}" for width in range(10, 0, -1)]
    assert done.stderr == "set()\n"
