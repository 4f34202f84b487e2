"""What this installation is made of: versions, devices, plugins that failed."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nnkit import __version__
from nnkit.core_handlers import plugin_manager

PACKAGES = (
    "torch", "click", "pluggy", "msgspec", "pyyaml", "safetensors", "onnx", "onnxscript", "onnxruntime",
    "numpy", "rich", "torchvision", "timm", "transformers", "torch-geometric",
)  # fmt: skip


def diagnose() -> dict[str, Any]:
    """Return the facts that a report of a fault needs. Whatever is broken becomes a fact itself."""
    manager = plugin_manager()
    return {
        "schema": "nnkit.doctor/1",
        "nnkit": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        **{name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "plugins": [
            f"{name} ({plugin.distribution} {plugin.version})" for name, plugin in manager.plugins.items()
        ],
        "failures": [str(failure) for failure in manager.failures] or ["none"],
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    try:
        from nnkit.devices import available_devices

        return available_devices()
    except Exception as error:  # a broken torch is just what a doctor is asked about
        return [f"torch fails when imported: {type(error).__name__}: {error}".splitlines()[0]]
