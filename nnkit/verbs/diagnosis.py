"""The facts of this installation: versions, devices, memory, threads, what is broken. Torch-free itself.

Whatever is broken becomes a fact, so that `nnkit doctor` works on any installation. Packages are first
imported in separate processes: a broken one may raise, hang or abort.
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
from nnkit.host.zoos import zoos
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
"""Distributions that nnkit or its plugins use if they are installed, and the module of each."""

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
IMPORT_LIMIT = 60  # seconds


@dataclass(frozen=True)
class Device:
    """A device with its name and its memory in bytes, None if unknown."""

    device: str
    name: str
    memory: int | None
    free: int | None


@dataclass(frozen=True)
class Diagnosis:
    """The facts that a bug report needs.

    Attributes:
        python: the version of Python and its implementation.
        platform: the operating system, its version and the kind of processor.
        processors: the number that this process may use.
        threads: torch's, within an operator and between operators; None if torch can't be imported.
        variables: environment variables that matter.
        packages: versions by name, None if not installed.
        broken: why an installed package can't be imported, by name.
        devices: what torch can use, with memory in bytes.
        plugins: the plugins that are loaded, each with its distribution.
        zoos: the zoos that plugins add, each with its version and what is in it.
        failures: those of plugins and configuration files.

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
    zoos: tuple[str, ...]
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain data, the form of `--json`."""
        return {"schema": self.SCHEMA, "nnkit": __version__, **asdict(self)}


def diagnose() -> Diagnosis:
    """Return the facts. This takes some seconds, because it tries to import the optional packages."""
    manager = plugin_manager(checked=False)
    manager.check_all()
    listed = tuple(f"{zoo.prefix}/ ({zoo.state})" for zoo in zoos(manager))
    packages = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    to_import = {"torch": "torch", **OPTIONAL}
    broken = _broken({name: module for name, module in to_import.items() if packages[name]})
    threads, devices = (None, []) if "torch" in broken or not packages["torch"] else _ask_torch()
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
        zoos=listed,
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
    except Exception:  # it is installed, and its metadata is damaged
        return "?"


def _broken(packages: dict[str, str]) -> dict[str, str]:
    """Return those of the packages that can't be imported, each with the reason."""
    with ThreadPoolExecutor(_processors()) as pool:
        faults = pool.map(_try_import, packages.values())
    return {name: fault for name, fault in zip(packages, faults, strict=True) if fault}


def _try_import(module: str) -> str:
    """Return why a module can't be imported, "" if it can."""
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"its import takes more than {IMPORT_LIMIT} seconds"
    if done.returncode < 0:
        return f"its import is killed by signal {-done.returncode}"
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _ask_torch() -> tuple[tuple[int, int], list[Device]]:
    """Return its threads and accelerators."""
    import torch

    from nnkit.models.devices import available_devices

    threads = torch.get_num_threads(), torch.get_num_interop_threads()
    return threads, list(_accelerators(available_devices()[:-1]))


def _accelerators(names: Iterable[str]) -> Iterable[Device]:
    import torch

    for name in names:
        device = torch.device(name)
        backend = torch.get_device_module(device)
        model = backend.get_device_name(device) if hasattr(backend, "get_device_name") else device.type
        free, total = backend.mem_get_info(device) if hasattr(backend, "mem_get_info") else (None, None)
        yield Device(name, model, total, free)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> tuple[int | None, int | None]:
    """Return the machine's memory in bytes, and how much of it is free."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):  # Windows has none of these names, macOS not all
        return None, None
