"""Requests of all partitions: each dissects its connections, then all are put into one order, and their parents found, together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.engine.clock_files import clocks_of, write_clocks
from analysis.engine.connections import Connections
from analysis.engine.files import told_file, whole
from analysis.engine.part_files import load_part, save_part
from analysis.engine.request_records import Written, write_records
from analysis.engine.work import Work
from analysis.filters import Filters
from analysis.progress import Working
from analysis.requests import RequestRecorder
from analysis.summary import told, told_requests
from tracer.requests.dissection import dissect
from tracer.requests.parts import joined, part
from tracer.requests.passed import passed
from tracer.requests.run import RequestTrace, tie, without_requests
from tracer.trace import Trace

Record = dict[str, Any]


def part_file(folder: Path, part: int) -> Path:
    """Where what requests follow from is, of one partition."""
    return folder / f"requests-{part}.npz"


def clock_file(folder: Path, part: int) -> Path:
    """Where what its packets say of clocks is."""
    return folder / f"clocks-{part}.npy"


def requests_to_files(work: Work, traced: Trace, folder: Path, number: int) -> None:
    """Dissect the connections of one partition if `work` says so, and write what all requests follow from."""
    content = None if work.content is None else work.content(number)
    found = dissect(traced.bundle, traced.tables, wanted=None if work.dissects else without_requests(traced), content=content, processes=1)
    with whole(clock_file(folder, number)) as out:
        clocks = write_clocks(traced.tables, out)
    with whole(part_file(folder, number)) as out:
        save_part(part(traced, found, passed(traced.tables, found)), clocks, out)


@dataclass(frozen=True, slots=True)
class Requests:
    """The records of those asked for are `written`; `told` is what was and was not seen, `depths` are those below their roots."""

    recorder: RequestRecorder
    written: Written
    told: Record
    depths: dict[str, int]

    def __len__(self) -> int:
        """How many were asked for."""
        return self.written.count

    def lines(self) -> Iterator[bytes]:
        """Their records as JSON (ASCII)."""
        return self.written.lines()


def tie_together(connections: Connections, folder: Path, working: Working) -> RequestTrace:
    """The requests of partitions whose files are in `folder`."""
    loaded = [load_part(part_file(folder, number)) for number in range(len(connections.ranks))]
    parts = [each for each, _ in loaded]
    clocks = clocks_of(parts[0].nodes, [told_here for _, told_here in loaded], [clock_file(folder, each) for each in range(len(parts))])
    for number in [number for number, each in enumerate(parts) if each.problem]:
        told_file(folder, number).unlink()  # it is done again where tshark does its part
    everything = joined(parts, connections.ranks, connections.bundle)
    del loaded, parts  # as large as what was made of them
    return tie(*everything, clocks, working)


def record(
    found: RequestTrace, connections: Connections, filters: Filters, min_confidence: float, processes: int, working: Working
) -> Requests:
    """The records of all requests that were found; by how many `processes` side by side they are made."""
    recorder = RequestRecorder(found, min_confidence, connections.each())
    written = write_records(recorder, filters, processes, working)
    summary = told(connections.bundle, connections.tally) | {"requests": told_requests(found, written.tally)}
    return Requests(recorder, written, summary, recorder.depths())
