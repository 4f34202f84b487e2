"""The catalogs that ship: about the pinned versions, about every name, and right to the unit.

Rows are drawn by the seed in CATALOG_SEED and measured anew, so each run of CI may look at others.
"""

import os
import random
import re
from dataclasses import replace

import pytest
from conftest import ROOT

from nnkit import __version__
from nnkit.contract.catalog import CatalogRow
from nnkit.host.catalog import Catalog, as_text, read_catalog
from nnkit.host.plugin_manager import PluginManager
from nnkit.verbs.catalog.row import measure
from nnkit.verbs.catalog.selection import families_of
from nnkit.verbs.core_handlers import plugin_manager

FILES = {path.parent.name.removeprefix("nnkit_"): path for path in ROOT.glob("plugins/*/catalog.tsv")}
SEED = int(os.environ.get("CATALOG_SEED", "16"))
FIGURES = ("parameters", "macs", "activations", "training")
COUNTED = ("parameters", "macs", "activations", "input")
SMALL = 2 * 10**9  # multiply-adds, of rows that are measured anew


@pytest.fixture(params=sorted(FILES))
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def manager() -> PluginManager:
    return plugin_manager()


def catalog_of(prefix: str) -> Catalog:
    return read_catalog(FILES[prefix])


def test_every_plugin_of_nnkit_with_architectures_ships_a_catalog(manager: PluginManager) -> None:
    own = {plugin.name for plugin in manager.plugins.values() if plugin.distribution == "nnkit"}
    declaring = {name for name in own if manager.plugins[name].architectures}
    assert declaring <= FILES.keys()
    assert {"timm", "torchvision"} <= FILES.keys()


def test_the_names_are_those_of_the_index(prefix: str, manager: PluginManager) -> None:
    assert set(catalog_of(prefix).rows) == set(families_of(manager, prefix))


def test_it_is_about_the_pinned_versions(prefix: str, manager: PluginManager) -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {name.replace("_", "-"): version for name, version in pinned.items()}
    catalog = catalog_of(prefix)
    namespace = manager.namespaces().get(prefix)
    distribution = namespace.distribution if namespace else "nnkit"
    expected = {**pinned, "nnkit": __version__}
    assert catalog.versions == {
        name: expected[name.replace("_", "-")] for name in (distribution, "nnkit", "torch")
    }
    assert {row.version for row in catalog.rows.values()} == {catalog.versions[distribution]}


def test_the_file_is_as_it_is_written(prefix: str) -> None:
    catalog = catalog_of(prefix)
    assert catalog.damaged == ()
    assert FILES[prefix].read_text(encoding="utf-8") == as_text(catalog.versions, catalog.rows.values())


def test_a_row_has_figures_or_a_reason(prefix: str) -> None:
    for row in catalog_of(prefix).rows.values():
        if row.method in ("meta", "run"):
            assert row.parameters is not None, row.name
            assert row.macs is not None, row.name
            assert row.input, row.name
        else:
            assert row.macs is None, row.name
            assert len(row.method) > 4, row.name


def differences(row: CatalogRow, measured: CatalogRow) -> list[str]:
    """Return what a new measurement shows to be another figure."""
    return [name for name in COUNTED if getattr(row, name) not in (None, getattr(measured, name))]


def drawn(prefix: str, count: int) -> list[CatalogRow]:
    """Return rows with figures, drawn by the seed."""
    rows = [row for row in catalog_of(prefix).rows.values() if row.macs is not None and row.macs < SMALL]
    return random.Random(SEED).sample(rows, min(count, len(rows)))


def measure_anew(
    prefix: str, row: CatalogRow, manager: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    # The adapter gets the row without the figures that are to be found.
    blank = replace(row, **dict.fromkeys(FIGURES))
    monkeypatch.setitem(manager._catalogs, prefix, {row.name: blank})
    *_, measured = measure(f"{prefix}/{row.name}", manager, quick=True)
    return differences(row, measured)


def test_a_wrong_digit_is_found(manager: PluginManager, monkeypatch: pytest.MonkeyPatch) -> None:
    row = catalog_of("vision").rows["resnet18"]
    assert measure_anew("vision", row, manager, monkeypatch) == []
    for figure in ("parameters", "macs", "activations"):
        wrong = replace(row, **{figure: getattr(row, figure) + 10**3})
        assert measure_anew("vision", wrong, manager, monkeypatch) == [figure]


def test_some_rows_measured_anew(
    prefix: str, manager: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in drawn(prefix, 1):
        assert measure_anew(prefix, row, manager, monkeypatch) == [], (row.name, SEED)


@pytest.mark.slow
def test_thirty_rows_measured_anew(manager: PluginManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty of all catalogs, the large ones more often."""
    rows = [(prefix, row) for prefix in FILES for row in drawn(prefix, 10**6)]
    for prefix, row in random.Random(SEED).sample(rows, 30):
        assert measure_anew(prefix, row, manager, monkeypatch) == [], (prefix, row.name, SEED)


PUBLISHED = {  # parameters and multiply-adds (rounded to a million) that torchvision publishes with its weights
    "torchvision/resnet50": (25_557_032, 4089),
    "torchvision/vgg16": (138_357_544, 15470),
    "torchvision/mobilenet_v3_large": (5_483_032, 217),
    "torchvision/swin_t": (28_288_354, 4491),
    "torchvision/vit_b_16": (86_567_656, 17564),
    "vision/efficientnet-b0": (5_288_548, 386),
    "timm/resnet50": (25_557_032, 4089),
    "timm/convnext_tiny": (28_589_128, 4456),
    "timm/densenet121": (7_978_856, 2834),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_are_in_the_catalogs(name: str) -> None:
    prefix, _, member = name.partition("/")
    row = catalog_of(prefix).rows[member]
    assert row.macs is not None
    assert (row.parameters, round(row.macs / 1e6)) == PUBLISHED[name]
