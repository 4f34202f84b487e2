"""What processes have in memory, by Linux' /proc; elsewhere nothing is known of it."""

import os
import re
from contextlib import suppress
from pathlib import Path

HIGH_WATER = re.compile(rb"VmHWM:\s*(\d+) kB")


def can_limit_memory() -> bool:
    """Whether this system tells what a running process takes."""
    return Path("/proc/self/stat").exists()


def resident_memory(group: int) -> int:
    """Return the bytes that the processes of a group have in memory, by Linux' /proc."""
    pages = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):  # it has just ended
                # After the name, in parentheses: state, parent, group, …; the resident pages are the 22nd.
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[2]) == group:
                    pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_memory(pid: int) -> int:
    """Return the most bytes that a process had in memory until now; 0 where that isn't known.

    getrusage doesn't tell: what it says of a process begins with the peak of the one that started it.
    """
    with suppress(OSError):  # it has ended, or there is no /proc
        if found := HIGH_WATER.search(Path(f"/proc/{pid}/status").read_bytes()):
            return int(found[1]) * 1024
    return 0
