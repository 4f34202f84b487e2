"""What this installation is made of: versions, devices, memory, threads, what is broken. Torch-free itself.

Whatever is broken becomes a fact, so that a doctor can be asked about anything. Packages are imported in
processes of their own first: one that is broken may raise, hang or abort.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nnkit import __version__
from nnkit.verbs.core_handlers import plugin_manager

NEEDED = (
    "torch", "click", "pluggy", "msgspec", "pyyaml", "safetensors", "onnx", "onnxscript", "onnxruntime",
    "numpy", "rich",
)  # fmt: skip
OPTIONAL = {
    "torchvision": "torchvision", "timm": "timm", "transformers": "transformers",
    "torch-geometric": "torch_geometric", "huggingface-hub": "huggingface_hub", "openvino": "openvino",
    "submitit": "submitit", "distributed": "distributed",
}  # fmt: skip
"""Distributions that nnkit or its plugins work with where they are installed, and the module of each."""

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
PATIENCE = 60  # seconds that a package may take to be imported


@dataclass(frozen=True)
class Device:
    """A device, by its name, and its memory in bytes; None where it isn't known."""

    device: str
    name: str
    memory: int | None
    free: int | None


@dataclass(frozen=True)
class Diagnosis:
    """The facts that a report of a fault needs: `python`, `platform`, `devices`, `plugins` in words.

    processors: those that this process may use. threads: torch's, within an operator and between them.
    packages: versions by name, None where it isn't installed. broken: why an installed one can't be
    imported. variables: those of the environment that matter. failures: of plugins, and of the
    files that configure them.

    Example:

        from nnkit.verbs.diagnosis import diagnose

        assert diagnose().packages["torch"]
    """

    SCHEMA = "nnkit.doctor/1"

    python: str
    platform: str
    processors: int
    threads: tuple[int, int] | None
    variables: dict[str, str]
    packages: dict[str, str | None]
    broken: dict[str, str]
    devices: tuple[Device, ...]
    plugins: tuple[str, ...]
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain data, the form of `--json`."""
        return {"schema": self.SCHEMA, "nnkit": __version__, **asdict(self)}


def diagnose() -> Diagnosis:
    """Return the facts; it takes some seconds, in which the optional packages are tried."""
    manager = plugin_manager(checked=False)
    packages = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    tried = {"torch": "torch", **OPTIONAL}
    broken = _broken({name: module for name, module in tried.items() if packages[name]})
    threads, devices = (None, []) if "torch" in broken or not packages["torch"] else _of_torch()
    return Diagnosis(
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=platform.platform(),
        processors=_processors(),
        threads=threads,
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        packages=packages,
        broken=broken,
        devices=(*devices, Device("cpu", platform.processor() or platform.machine(), *_memory())),
        plugins=tuple(
            f"{name} ({plugin.distribution} {plugin.version})" for name, plugin in manager.plugins.items()
        ),
        failures=(
            *(problem.message for problem in manager.configuration.problems),
            *map(str, manager.failures),
        ),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
    except Exception:  # it is there, and its metadata is damaged
        return "?"


def _broken(packages: dict[str, str]) -> dict[str, str]:
    """Return those of the packages that can't be imported, each with the reason."""
    with ThreadPoolExecutor(_processors()) as pool:
        faults = pool.map(_fault_of, packages.values())
    return {name: fault for name, fault in zip(packages, faults, strict=True) if fault}


def _fault_of(module: str) -> str:
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"its import takes more than {PATIENCE} seconds"
    if done.returncode < 0:
        return f"its import dies of signal {-done.returncode}"
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _of_torch() -> tuple[tuple[int, int], list[Device]]:
    """Return its threads and accelerators."""
    import torch

    from nnkit.models.devices import available_devices

    threads = torch.get_num_threads(), torch.get_num_interop_threads()
    return threads, list(_accelerators(available_devices()[:-1]))


def _accelerators(names: Iterable[str]) -> Iterable[Device]:
    import torch

    for text in names:
        device = torch.device(text)
        backend = torch.get_device_module(device)
        name = backend.get_device_name(device) if hasattr(backend, "get_device_name") else device.type
        free, total = backend.mem_get_info(device) if hasattr(backend, "mem_get_info") else (None, None)
        yield Device(text, name, total, free)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> tuple[int | None, int | None]:
    """Return the machine's memory in bytes, and how much of it is free."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):  # Windows has none, macOS not all of them
        return None, None
