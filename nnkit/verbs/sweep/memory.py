"""How much memory processes use, from /proc on Linux; unknown on other systems."""

import os
import re
from contextlib import suppress
from pathlib import Path

HIGH_WATER = re.compile(rb"VmHWM:\s*(\d+) kB")
# In /proc/PID/stat after the name, which is in parentheses: state, parent, group, and the rest.
GROUP, RESIDENT_PAGES = 2, 21


def can_limit_memory() -> bool:
    """Whether this system shows how much memory a running process uses."""
    return Path("/proc/self/stat").exists()


def resident_memory(group: int) -> int:
    """Return the bytes that the processes of a group have in memory, from /proc."""
    pages = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):  # it has just ended
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[GROUP]) == group:
                    pages += int(fields[RESIDENT_PAGES])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_memory(pid: int) -> int:
    """Return the most bytes that a process has had in memory so far; 0 where that isn't known.

    Not from getrusage: its figure for a process starts at the peak of the process that started it.
    """
    with suppress(OSError):  # it has ended, or there is no /proc
        if peak := HIGH_WATER.search(Path(f"/proc/{pid}/status").read_bytes()):
            return int(peak[1]) * 1024
    return 0
