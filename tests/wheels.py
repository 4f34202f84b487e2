"""Wheels written by hand, for pip to install without an index."""

import zipfile
from pathlib import Path

PLUGIN = """
from dataclasses import dataclass
from nnkit import Architecture, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"


@dataclass(frozen=True, kw_only=True)
class Config:
    pass


@hookimpl
def nnkit_architectures():
    tensors = [TensorSpec("x", (1,))]
    return [
        Architecture(name=name, summary="", build="torch.nn:Identity", config=Config, inputs=tensors, outputs=tensors)
        for name in NAMES
    ]
"""


def wheel(folder: Path, name: str, entry_points: str = "", source: str = "", version: str = "1.0") -> Path:
    """Write the wheel of a distribution with one module, called as the distribution is; return its path."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", entry_points)
        archive.writestr(f"{info}/RECORD", "")
    return path


def plugin_wheel(folder: Path, name: str, plugin: str, *architectures: str) -> Path:
    """Write the wheel of a plugin with these architectures."""
    module = name.replace("-", "_")
    return wheel(folder, name, f"[nnkit]\n{plugin} = {module}\n", f"NAMES = {architectures}\n{PLUGIN}")
