"""What this machine has room for: processes side by side, and packets in memory, as far as the size of their files tells."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from probes.processors import PROCESSORS

MEMORY_PER_BYTE = 5  # of a capture with packets of 96 bytes; larger ones need less
COMPRESSED = 5  # a capture shrinks to a fifth

FORKS = sys.platform == "linux"  # elsewhere forked processes may not use the system's libraries


def processors() -> int:
    """How many forked processes have a processor each."""
    return PROCESSORS if FORKS else 1


def fits(captures: Iterable[Path]) -> bool:
    """Whether the packets of `captures` surely fit into memory."""
    sizes = [path.stat().st_size * (COMPRESSED if path.suffix in (".gz", ".zst") else 1) for path in captures if path.is_file()]
    return sum(sizes) * MEMORY_PER_BYTE < available_bytes() // 2


def available_bytes() -> int:
    """Memory that can be had without taking it from others, within what this container may use; half of all where nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        group = Path("/sys/fs/cgroup")
        return min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # not in a cgroup (v2), or "max": no limit
        return free
