"""Stitching on this machine: in this process where that is little to do, else in several that share its memory."""

from __future__ import annotations

import gc
import io
import mmap
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from analysis.engine.stitch import Stitched
from analysis.engine.work import Work
from probes.schema import Table

FORKS = sys.platform == "linux"  # elsewhere forked processes may not use the system's libraries
Packets = Callable[[int], Table]  # of a partition
Progress = Callable[[str, int, int], None]

_shared: tuple[Work, Packets, Path] | None = None  # what forked processes see of this one


def workers() -> int:
    """How many processes work side by side, unless somebody says otherwise: one a processor."""
    return len(os.sched_getaffinity(0)) if FORKS else 1


def stitch_here(work: Work, packets: Table) -> tuple[Stitched, memoryview]:
    """A bundle that is one partition."""
    out = io.BytesIO()
    stitched = work.stitch(0, packets, out)
    return stitched, out.getbuffer()


def stitch_parts(
    work: Work, packets: Packets, parts: Sequence[int], folder: Path, processes: int, progress: Progress
) -> Iterator[tuple[int, Stitched]]:
    """`(partition, what came out)` for `parts`, each in its `text_file`. Processes that are ended cost time, no more."""
    global _shared  # noqa: PLW0603 - forked processes take it over
    left = list(parts)
    while left and processes > 1 and FORKS:
        _shared = work, packets, folder
        gc.freeze()  # nothing that is there now is looked at again: neither here nor, which would copy it, in the processes
        try:
            with ProcessPoolExecutor(min(processes, len(left)), multiprocessing.get_context("fork")) as pool:
                for part, stitched in zip(list(left), pool.map(_stitch_shared, left), strict=True):
                    yield part, stitched
                    left.remove(part)
                    progress("connections", len(parts) - len(left), len(parts))
        except BrokenProcessPool:
            processes //= 2  # ended from outside, most likely for the memory that all of them took
        finally:
            _shared = None
            gc.unfreeze()
    for part in left:
        yield part, stitch_to_file(work, part, packets(part), folder)
        progress("connections", 1 + len(parts) - len(left) + left.index(part), len(parts))


def _stitch_shared(part: int) -> Stitched:
    assert _shared is not None
    work, packets, folder = _shared
    return stitch_to_file(work, part, packets(part), folder)


def text_file(folder: Path, part: int) -> Path:
    """Where the records of a partition are."""
    return folder / f"records-{part}.json"


def stitch_to_file(work: Work, part: int, packets: Table, folder: Path) -> Stitched:
    """Stitch one partition into its `text_file`, which is whole or not there."""
    path = text_file(folder, part)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    with unfinished.open("wb") as out:
        stitched = work.stitch(part, packets, out)
    unfinished.replace(path)
    return stitched


def text_of(folder: Path, part: int) -> memoryview:
    """The content of a partition's `text_file`, as pages of the file."""
    with text_file(folder, part).open("rb") as file:
        empty = not os.fstat(file.fileno()).st_size
        return memoryview(b"") if empty else memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
