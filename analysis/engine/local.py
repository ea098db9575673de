"""Reading and stitching on this machine: packets by threads, connections by processes that share this one's memory."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from analysis.engine import spill
from analysis.engine.files import load_sums, stitch_to_files
from analysis.engine.room import FORKS, processors
from analysis.engine.shares import Share
from analysis.engine.stitch import Stitched
from analysis.engine.work import Work
from analysis.progress import Reading, Working
from analysis.sums import Sums, tree
from probes.schema import Problem, Table
from tracer.bundle import Opened
from tracer.bundle_files import CaptureFile, afresh, unopened
from tracer.captures import READERS
from tracer.partitions import Deal

Packets = Callable[[int], Table]  # of a partition

_shared: tuple[Work, Packets, Path] | None = None  # what forked processes see of this one


class Local:
    """This machine. `reading` is told of positions in captures, `working` what is done, how much of it, and of how much."""

    readers = 1  # of a capture, which has several threads

    def __init__(self, opened: Opened, processes: int | None, reading: Reading, working: Working) -> None:
        self.processes = processes or processors()
        self._opened, self._reading, self._working = opened, reading, working

    def scan(self, files: Sequence[CaptureFile]) -> list[spill.Scan | Problem]:
        """Every capture read once; of one that cannot be opened, the problem."""

        def one(file: CaptureFile) -> spill.Scan | Problem:
            try:
                stream = self._opened.stream(file)
            except OSError as error:
                return unopened(file.path, error)
            with stream:
                return spill.scan(file, stream, lambda position: self._reading(str(file.path), position))

        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(one, files))

    def deal_out(
        self, files: Sequence[CaptureFile], shares: Sequence[Share], dealt: Deal, folder: Path, *,
        rest: bool = False, payloads: bool = False,
    ) -> None:  # fmt: skip
        """The packets of all `shares` of `files` into files of `folder`; those of no connection too if `rest`, and `payloads` if so."""

        def one(share: Share) -> None:
            file = files[share.capture]

            def told(position: int) -> None:
                self._reading(f"{file.path}, dealt out", position)

            with self._opened.stream(file) as stream, ExitStack() as stack:
                again = stack.enter_context(self._opened.stream(file)) if payloads else None
                spill.deal_out(file, stream, share, dealt, folder, told, rest=rest, again=again)

        with ThreadPoolExecutor(READERS) as readers:
            list(readers.map(one, shares))

    def hand_over(self, work: Work, folder: Path) -> None:
        """What will be stitched is there: forked processes have all that this one has."""

    def stitch(self, work: Work, packets: Packets, parts: Sequence[int], folder: Path) -> Iterator[tuple[int, Stitched]]:
        """Each of `parts` and what came of it, in any order. Processes that are ended from outside cost time, no more."""
        left, processes = list(parts), self.processes
        while left and processes > 1 and FORKS:
            try:
                for part, stitched in _forked(work, packets, left, folder, processes):
                    yield part, stitched
                    left.remove(part)
                    self._working(work.named, len(parts) - len(left), len(parts))
            except BrokenProcessPool:
                processes //= 2  # most likely they took too much memory together
        for done, part in enumerate(left, len(parts) - len(left) + 1):
            yield part, stitch_to_files(work, part, packets(part), folder)
            self._working(work.named, done, len(parts))

    def sums(self, parts: Sequence[int], folder: Path) -> Sums:
        """The sums of all `parts`, which have been stitched into `folder`."""
        return tree(parts, partial(load_sums, folder=folder))


def _forked(work: Work, packets: Packets, parts: Sequence[int], folder: Path, processes: int) -> Iterator[tuple[int, Stitched]]:
    global _shared  # noqa: PLW0603 - forked processes take it over
    _shared = work, packets, folder
    gc.freeze()  # nothing that is there now is looked at again: not here, nor in the processes, which would copy it for that
    pool = ProcessPoolExecutor(min(processes, len(parts)), multiprocessing.get_context("fork"))
    try:
        yield from zip(list(parts), pool.map(_stitch_shared, parts), strict=True)
        pool.shutdown(wait=False)  # their memory takes a while to be given back
    except BaseException:
        pool.shutdown(cancel_futures=True)  # what they write to may be removed next
        raise
    finally:
        _shared = None
        gc.unfreeze()


def _stitch_shared(part: int) -> Stitched:
    assert _shared is not None
    work, packets, folder = _shared
    return stitch_to_files(work, part, packets(part), afresh(folder))
