"""Where a benchmark ran: the device, the machine, the versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from nnkit import __version__
from nnkit.verbs.benchmarking.report import Environment

CPU_INFO = Path("/proc/cpuinfo")


def environment(device: torch.device) -> Environment:
    """Return what a reader needs to know to judge the numbers."""
    return Environment(
        device=str(device),
        device_name=_device_name(device),
        threads=torch.get_num_threads(),
        processors=os.cpu_count() or 1,
        host=platform.node(),
        platform=platform.platform(),
        versions={
            "nnkit": __version__,
            "python": platform.python_version(),
            "torch": version("torch"),
            **({"cuda": torch.version.cuda} if device.type == "cuda" and torch.version.cuda else {}),
        },
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return _cpu_name()
    backend = getattr(torch, device.type)
    name = getattr(backend, "get_device_name", None)  # mps has none
    return str(name(device)) if name else device.type


def _cpu_name() -> str:
    """Return the system's name for the processor; on Linux platform.processor() is next to useless."""
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
