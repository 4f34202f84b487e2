"""Peak memory, in a separate run; on the CPU from the events of torch's allocator."""

import gc
import os
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from nnkit.verbs.benchmarking.measuring import waiting_for
from nnkit.verbs.benchmarking.workloads import Workload
from nnkit.verbs.summary.storages import storage_bytes


def peak_memory(workload: Workload, device: torch.device) -> int | None:
    """Return the most bytes alive at once in a run, including the tensors alive before it.

    It lacks what libraries allocate without torch (oneDNN's scratch, a workspace of cuBLAS). None for a
    device whose allocator doesn't count.
    """
    added = peak_on_cpu(workload.run) if device.type == "cpu" else _peak_on(device, workload.run)
    return None if added is None else storage_bytes(workload.resident()) + added


def peak_on_cpu(run: Callable[[], object]) -> int:
    """Return the most bytes that the CPU allocator gave out at once in a run beyond those at its start."""
    gc.collect()
    # Read when the profiler is first used; below this level it writes to stderr when it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    alive = peak = 0
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def _peak_on(device: torch.device, run: Callable[[], object]) -> int | None:
    wait = waiting_for(device)
    try:
        wait()
        torch.accelerator.reset_peak_memory_stats(device)
        before = torch.accelerator.memory_allocated(device)
        run()
        wait()
        return torch.accelerator.max_memory_allocated(device) - before
    except (RuntimeError, NotImplementedError):  # an accelerator whose allocator keeps no count
        return None
