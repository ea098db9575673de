"""Records of requests, written side by side: memory holds none of them for longer than it takes to write it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from analysis.filters import Filters
from analysis.progress import Working
from analysis.requests import RequestRecorder
from analysis.summary import RequestTally

AT_ONCE = 1000  # requests, at least,
MOST_FILES = 64  # where they are

_shared: tuple[RequestRecorder, Filters, list[int], int] | None = None  # what forked processes see of this one


@dataclass(slots=True)
class Written:
    """`count` records as JSON lines, one file behind the other; `tally` is of all requests."""

    files: list[BinaryIO]
    count: int
    tally: RequestTally

    def lines(self) -> Iterator[bytes]:
        """They, in order (ASCII)."""
        for file in self.files:
            file.seek(0)
            for line in file:
                yield line[:-1]


def write_records(recorder: RequestRecorder, filters: Filters, processes: int, working: Working) -> Written:
    """Write the records that `filters` accept, by as many `processes` side by side."""
    global _shared  # noqa: PLW0603 - forked processes take it over
    step = max(AT_ONCE, -(-len(recorder) // MOST_FILES))
    starts = range(0, len(recorder), step)
    files: list[BinaryIO] = [tempfile.TemporaryFile(prefix="hopline-") for _ in starts]  # noqa: SIM115 - `Written` has them
    _shared = recorder, filters, [file.fileno() for file in files], step
    gc.freeze()  # as in `local`
    tally, count = RequestTally(), 0
    try:
        for done, (mine, kept) in enumerate(_side_by_side(len(starts), processes), 1):
            tally.add(mine)
            count += kept
            working("records", done, len(starts))
    finally:
        _shared = None
        gc.unfreeze()
    return Written(files, count, tally)


def _side_by_side(count: int, processes: int) -> Iterator[tuple[RequestTally, int]]:
    done = 0
    if processes > 1 and count > 1:
        with suppress(BrokenProcessPool), ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
            for each in pool.map(_write, range(count)):
                done += 1
                yield each
    yield from map(_write, range(done, count))


def _write(number: int) -> tuple[RequestTally, int]:
    """The records of one file; what somebody was stopped writing there goes."""
    assert _shared is not None
    recorder, filters, files, step = _shared
    tally, count, tests = RequestTally(), 0, filters.tests()
    os.ftruncate(files[number], 0)
    os.lseek(files[number], 0, os.SEEK_SET)
    with os.fdopen(os.dup(files[number]), "wb") as out:
        for request in recorder.order[number * step : (number + 1) * step]:
            record = recorder.record(request) if tests else recorder.without_hops(request)
            tally.count(record)
            if all(test(record) for test in tests):
                out.write(recorder.text(request, record | {"hops": []}).encode() + b"\n")
                count += 1
    return tally, count
