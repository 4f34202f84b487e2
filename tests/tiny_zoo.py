"""A zoo that a test installs in a folder: its names, its versions and its faults are the test's own."""

import sys
from pathlib import Path

import pytest

from nnkit.host import distributions
from nnkit.verbs.core_handlers import plugin_manager

PLUGIN = """
from nnkit import Namespace, hookimpl

NNKIT_PLUGIN_API = "1.1"

@hookimpl
def nnkit_namespaces():
    return [Namespace(
        prefix="tiny", summary="small layers", package="tiny_zoo", distribution="tiny-zoo",
        install="pip install tiny-zoo", names="nnkit_tiny.zoo:names", declare="nnkit_tiny.zoo:declare",
        probe="nnkit_tiny.zoo:probe")]
"""

ZOO = """
import os, time
from nnkit import Architecture, Dim, OpenField, TensorSpec, ZooName, open_config

def names(folder):
    return [ZooName(name, "linear") for name in (folder / "names.txt").read_text().split()]

def probe(name):
    return {"sizes": "4", "detail": "found\\tout", "task": "nothing", "pretrained": name == "net_8"}

def declare(request):
    if request.name == "undeclared":
        raise ValueError("no such luck")
    shape = ("batch", 4) if request.row is None or request.row.sizes in ("", "4") else ("batch", 5)
    return Architecture(
        name=request.name, summary="a layer", build="nnkit_tiny.zoo:build",
        config=open_config("Options", {"kind": OpenField(str, request.name)}),
        inputs=[TensorSpec("input", shape)], outputs=[TensorSpec("output", ("batch", 4))],
        dims={"batch": Dim(default=1)})

def build(config):
    from torch import nn

    class Faulty(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            if config.kind == "dies":
                os._exit(7)
            if config.kind == "sleeps":
                time.sleep(600)
            return x @ self.layer.weight

    width = config.kind.partition("_")[2]
    return nn.Sequential(nn.Linear(4, int(width)), nn.Linear(int(width), 4)) if width else Faulty()
"""


def install(folder: Path, names: str, version: str = "1.0", catalog: str = "") -> None:
    """Put the zoo, its plugin and their metadata into a folder that is on `sys.path`."""
    for package in ("tiny_zoo", "nnkit_tiny"):
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").touch()
    (folder / "tiny_zoo" / "names.txt").write_text(names)
    (folder / "nnkit_tiny" / "plugin.py").write_text(PLUGIN)
    (folder / "nnkit_tiny" / "zoo.py").write_text(ZOO)
    if catalog:
        (folder / "nnkit_tiny" / "catalog.tsv").write_text(catalog, encoding="utf-8")
    for old in folder.glob("tiny_zoo-*.dist-info"):
        old.rename(folder / f"tiny_zoo-{version}.dist-info")
    for name, its_version in (("tiny_zoo", version), ("nnkit_tiny", "0.5")):
        metadata = folder / f"{name}-{its_version}.dist-info"
        metadata.mkdir(exist_ok=True)
        title = name.replace("_", "-")
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {title}\nVersion: {its_version}\n\n"
        )
        (metadata / "RECORD").write_text(f"{version} {names}")
    points = folder / "nnkit_tiny-0.5.dist-info" / "entry_points.txt"
    points.write_text("[nnkit]\ntiny = nnkit_tiny.plugin\n")


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Return what installs the tiny zoo, in a process that knows no other plugin and has a cache of its own."""
    monkeypatch.setenv("NNKIT_PLUGINS", "tiny")
    monkeypatch.setenv("NNKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("tiny_zoo", "nnkit_tiny", "nnkit_tiny.plugin", "nnkit_tiny.zoo"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def install_and_load(names, **options):
        install(tmp_path, names, **options)
        plugin_manager.cache_clear()
        distributions._find.cache_clear()  # another version, as after an upgrade, in the same process
        return plugin_manager()

    return install_and_load
