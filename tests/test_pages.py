"""Pages that move from one array to another, and are copied where the system cannot do that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Takes pieces of memory, no two alike beside one another, until there may be no more of them.
PROGRAM = """
import mmap
import sys
import numpy as np
from probes import pages

size, most = 64 * mmap.PAGESIZE, int(sys.argv[1])
source, whole = (np.frombuffer(pages.pages(size_bytes), "u1") for size_bytes in (size, size + 2 * mmap.PAGESIZE))
expected = (np.arange(size) % 251).astype("u1")
source[:], whole[:] = expected, 255
into = whole[mmap.PAGESIZE : -mmap.PAGESIZE]
pages._calls()
taken, kinds = [], (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
try:
    while len(taken) < most:
        taken.append(mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, kinds[len(taken) % 2]))
    sys.exit("there may be more")
except OSError:
    del taken[-2:]
moved = pages._moved(source.ctypes.data, into.ctypes.data, size)
pages.hand_over(source, into)
del taken
assert (into == expected).all() and (whole[: mmap.PAGESIZE] == 255).all() and (whole[-mmap.PAGESIZE :] == 255).all()
print(moved)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages move on Linux alone")
def test_pages_that_cannot_move_are_copied() -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    if most > 1 << 18:
        pytest.skip(f"to take {most:,} pieces of memory is long")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(most)], check=False, capture_output=True, text=True)
    if done.stderr == "there may be more\n":
        pytest.skip("this system does not count them")
    assert (done.stdout, done.stderr) == ("False\n", "")
