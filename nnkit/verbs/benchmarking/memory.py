"""Peak memory, in a run of its own: on the CPU from the events of torch's allocator."""

import gc
import os
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from nnkit.verbs.benchmarking.measuring import waiting_for
from nnkit.verbs.benchmarking.workloads import Workload
from nnkit.verbs.summary.storages import storage_bytes


def peak_memory(workload: Workload, device: torch.device) -> int | None:
    """Return the most bytes alive at once in a run, with the tensors that are there before it.

    What a library takes without asking torch (oneDNN's scratch, a workspace of cuBLAS) isn't in it.
    None for a device whose allocator doesn't count.
    """
    more = peak_on_cpu(workload.run) if device.type == "cpu" else _peak_on(device, workload.run)
    return None if more is None else storage_bytes(workload.resident()) + more


def peak_on_cpu(run: Callable[[], object]) -> int:
    """Return the most bytes that the CPU allocator gave out at once in a run beyond those at its start."""
    gc.collect()
    # Read when the profiler is first used; below this level it tells stderr when it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    now = peak = 0
    events = watched.profiler.kineto_results.events()
    for event in sorted(
        (each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns()
    ):
        now += event.nbytes()
        peak = max(peak, now)
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
