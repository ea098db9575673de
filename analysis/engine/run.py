"""The connections of a bundle, or its requests: in memory where it fits there, else by way of files."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from analysis.engine import spill
from analysis.engine.connections import Connections
from analysis.engine.errors import ClusterError, SpillError
from analysis.engine.files import claim, finished, text_of
from analysis.engine.local import Local, Packets
from analysis.engine.memory import look
from analysis.engine.room import fits
from analysis.engine.shares import BEFORE, shares
from analysis.engine.work import Work
from analysis.filters import Filters
from analysis.progress import Reading, Working
from probes.capture import let_memory_go, line_up
from probes.capture.reader import merge_captures
from probes.schema import OBSERVATIONS, Problem, size
from tracer.bundle import Bundle, Opened
from tracer.bundle_files import STANDARD_INPUT, CaptureFile
from tracer.captures import read_captures
from tracer.partitions import Deal, Links, deal, lines_dealt, link_evidence
from tracer.surroundings import Glimpse, Surroundings, glimpse, surroundings, together

if TYPE_CHECKING:
    from analysis.engine.cluster import Cluster
    from analysis.engine.requests import Requests
    from analysis.requests import RequestRecorder
    from tracer.archive import Archive

    Machine = Local | Cluster

Found = TypeVar("Found")
LOCAL, DASK = "local", "dask"
WORTH_FORKING = 200_000  # observations
REQUESTED_AT_ONCE = 500_000  # where connections are looked into
TRACED_AT_ONCE = 300_000  # where packets are in memory: memory that one part was traced in is there for the next
OBSERVATIONS_AT_ONCE = 1_000_000  # in a partition that comes from files; one takes about 0.5 kB


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of the connections: `filters` (given the time of the first packet) and how many records at `most`, in what way.

    Or, without filters, sums of all, and the records of so many that are `held`.

    `partitions` and `processes` are as many as fits by themselves (None); packets go through files in the folder `spill`. `engine` is
    LOCAL or DASK, whose `scheduler` is made here where None is named.
    """

    filters: Callable[[int], Filters] = lambda _first_ns: Filters()
    most: int | None = None
    partitions: int | None = None
    processes: int | None = None
    spill: Path | None = None
    engine: str = LOCAL
    scheduler: str | None = None
    held: int | None = None


def trace_connections(opened: Opened, asked: Asked, reading: Reading, working: Working) -> Connections:
    """The connections of a bundle; what `reading` and `working` are told is in `Local`.

    SpillError where the folder to spill to is in use for something else, ClusterError if Dask cannot do it, OSError where a disk is full.
    """
    return _traced(opened, asked, reading, working, _Whole(asked, _connections))


def _connections(work: Work, connections: Connections, machine: Machine, folder: Path) -> Connections:
    if work.held is not None and connections.sums is None:
        connections.sums = machine.sums(range(len(connections.ranks)), folder)
    return connections


def trace_requests(opened: Opened, asked: Asked, min_confidence: float, reading: Reading, working: Working) -> Requests:
    """The requests of a bundle, with parents that are certain enough; the rest as in `trace_connections`. An archive has none."""
    from analysis.engine.requests import record, tie_together  # noqa: PLC0415 - connections alone need none of it

    def end(_work: Work, connections: Connections, machine: Machine, folder: Path) -> Requests:
        found, filters = tie_together(connections, folder, working), asked.filters(_first_ns(connections.bundle))
        processes = machine.processes if isinstance(machine, Local) else 1
        return record(found, connections, filters, min_confidence, processes, working)

    return _traced(opened, asked, reading, working, _Whole(asked, end, requests=True, dissects=True))


def trace_whole(opened: Opened, asked: Asked, reading: Reading, working: Working) -> tuple[Connections, RequestRecorder]:
    """All connections of a bundle, and each of them as a request; the rest as in `trace_connections`."""
    from analysis.engine.requests import tie_together  # noqa: PLC0415 - connections alone need none of it
    from analysis.requests import RequestRecorder  # noqa: PLC0415

    def end(_work: Work, connections: Connections, _machine: Machine, folder: Path) -> tuple[Connections, RequestRecorder]:
        return connections, RequestRecorder(tie_together(connections, folder, working), connection_records=connections.each())

    return _traced(opened, asked, reading, working, _Whole(asked, end, requests=True))


@dataclass(frozen=True, slots=True)
class _Whole(Generic[Found]):
    """What becomes of all partitions: `end` makes it of their connections, and of what they left in a folder."""

    asked: Asked
    end: Callable[[Work, Connections, Machine, Path], Found]
    requests: bool = False
    dissects: bool = False

    def work(self, bundle: Bundle, around: Surroundings, dealt: Deal | None) -> Work:
        """What is to be done for each of them: requests are chosen among when all are known."""
        lines = {} if dealt is None else lines_dealt(bundle.ledgers, dealt)
        if self.requests:
            return Work(bundle, around, dealt, lines, Filters(), None, requests=True, dissects=self.dissects)
        return Work(bundle, around, dealt, lines, self.asked.filters(_first_ns(bundle)), self.asked.most, self.asked.held)


def _traced(opened: Opened, asked: Asked, reading: Reading, working: Working, whole: _Whole[Found]) -> Found:
    if asked.engine == DASK:
        return _on_cluster(opened, asked, working, whole)
    here = Local(opened, asked.processes, reading, working)
    in_files = asked.spill is not None or opened.archive is not None or not fits(file.path for file in opened.captures)
    return through_files(opened, asked, here, whole) if in_files else in_memory(opened, asked, here, reading, whole)


def _on_cluster(opened: Opened, asked: Asked, working: Working, whole: _Whole[Found]) -> Found:
    try:
        from analysis.engine.cluster import cluster  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ClusterError(f"Dask is not installed: {error} (pip install 'hopline[dask]')") from None
    if any(file.path == STANDARD_INPUT for file in opened.captures):
        raise ClusterError("Dask's workers cannot read standard input (give files that they can open)")
    with cluster(asked.scheduler, asked.processes, working) as machine:
        return through_files(opened, asked, machine, whole)


def in_memory(opened: Opened, asked: Asked, machine: Local, reading: Reading, whole: _Whole[Found]) -> Found:
    """All packets at once."""
    packets = read_captures(opened, reading)
    rows = sum(size(capture.observations) for capture in packets.captures)
    most = rows if whole.dissects else TRACED_AT_ONCE  # tshark is slow to start: once in each process
    count = asked.partitions or (partitions(rows, most, machine.processes) if rows >= WORTH_FORKING else 1)
    if count == 1 and not whole.requests:
        observations, _ = merge_captures(packets.captures)
        bundle = packets.complete(opened, observations)
        around = surroundings(glimpse(observations, len(bundle.points)), bundle.points, bundle.links, bundle.timeline)
        out, work = io.BytesIO(), whole.work(bundle, around, None)
        stitched = work.stitch(0, work.trace(0, observations), out)
        return whole.end(work, Connections(bundle, [stitched], [out.getbuffer()], stitched.sums), machine, Path())
    observations, ranges = line_up(packets.captures)
    bundle = packets.complete(opened, OBSERVATIONS.empty())
    pieces = look(observations, ranges, bundle.points, machine.processes)
    around = surroundings(pieces.seen, bundle.points, bundle.links, bundle.timeline)
    links = Links()
    link_evidence(links, bundle.ledgers, bundle.sockets)
    dealt = deal([links, *pieces.links], count)
    with tempfile.TemporaryDirectory(prefix="hopline-") as folder:
        work = replace(whole.work(bundle, around, dealt), parts=pieces.parts(dealt, machine.processes))
        return _stitched(whole, work, machine, lambda _part: observations, Path(folder))


def partitions(rows: int, most: int, processes: int) -> int:
    """How many partitions of about so many observations at `most` there are: no process is idle while others work on the last ones."""
    return max(1, math.ceil(rows / most / processes)) * processes


def through_files(opened: Opened, asked: Asked, machine: Machine, whole: _Whole[Found]) -> Found:
    """A piece of the packets, then a partition of them at a time."""
    if asked.spill is None:
        with tempfile.TemporaryDirectory(prefix="hopline-") as folder:
            return _through(Path(folder), opened, asked, machine, whole)
    inputs = [path for paths in opened.bundle.files.values() for path in paths]
    if opened.archive is not None:
        inputs.append(opened.archive.path)
    used = sorted(opened.bundle.ledgers), sorted(opened.bundle.rules), opened.bundle.timeline.empty
    from analysis.cache.question import tshark  # noqa: PLC0415 - of no use to packets in memory

    what = ("requests", whole.dissects and tshark()) if whole.requests else (asked.filters(0), asked.most, asked.held)
    claim(asked.spill, inputs, (*what, asked.partitions, *used))
    return _through(asked.spill, opened, asked, machine, whole)


def _through(folder: Path, opened: Opened, asked: Asked, machine: Machine, whole: _Whole[Found]) -> Found:
    if opened.archive is not None:
        return _archived(opened.archive, folder, opened, asked, machine, whole)
    scanned = scan(opened, machine)
    bundle = scanned.bundle
    most = REQUESTED_AT_ONCE if whole.requests else OBSERVATIONS_AT_ONCE
    count = asked.partitions or partitions(scanned.rows, most, machine.processes)
    dealt = deal(scanned.links, count)
    around = surroundings(scanned.seen, bundle.points, bundle.links, bundle.timeline)
    files, points, cut = scanned.files, scanned.first_points, shares(scanned.frames, machine.readers, BEFORE)
    del scanned  # what was linked is as large as many partitions
    folder = folder / f"parts-{count}"  # their number may follow that of processes, which another run has more or less of
    folder.mkdir(exist_ok=True)

    def prepared() -> Work:
        work = whole.work(bundle, around, dealt)
        work = replace(work, content=partial(spill.content_of, folder, cut)) if whole.dissects else work
        machine.hand_over(work, folder)
        return work

    with ThreadPoolExecutor(1) as beside:
        work = beside.submit(prepared)
        machine.deal_out(files, cut, dealt, folder, payloads=whole.dissects)
    let_memory_go()  # no more is read
    return _stitched(whole, work.result(), machine, partial(spill.packets_of, folder, cut, points), folder)


def _archived(archive: Archive, folder: Path, opened: Opened, asked: Asked, machine: Machine, whole: _Whole[Found]) -> Found:
    """The connections of an archive, whose parts are there as they are wanted."""
    if asked.partitions not in (None, archive.contents.parts):
        raise SpillError(f"{archive.folder} has {archive.contents.parts} parts, and keeps them (leave --partitions out)")
    bundle = opened.archived(archive, OBSERVATIONS.empty())
    around = surroundings(archive.contents.seen, bundle.points, bundle.links, bundle.timeline)
    return _stitched(whole, whole.work(bundle, around, archive.dealt()), machine, archive.part, folder)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the first reading of all captures tells: `bundle` is without packets, `files` are those that could be opened.

    `first_points[i]` is the number that point 0 of `files[i]` has, `frames[i]` how many frames are in it; `rows` observations are in all.
    """

    bundle: Bundle
    files: list[CaptureFile]
    first_points: list[int]
    frames: list[int]
    links: list[Links]
    seen: Glimpse
    rows: int


def scan(opened: Opened, machine: Machine) -> Scanned:
    """Read all captures for the first time."""
    links = Links()
    with ThreadPoolExecutor(1) as beside:
        linking = beside.submit(link_evidence, links, opened.bundle.ledgers, opened.bundle.sockets)
        found = machine.scan(opened.captures)
    linking.result()
    scans = [each for each in found if not isinstance(each, Problem)]
    files = [file for file, each in zip(opened.captures, found, strict=True) if not isinstance(each, Problem)]
    points = np.cumsum([0, *(len(each.points) for each in scans)]).tolist()[:-1]  # before those of each capture
    bundle = opened.complete(
        OBSERVATIONS.empty(), [point for each in scans for point in each.points],
        [file.path for file, each in zip(files, scans, strict=True) for _ in each.points],
        {file.name: each.statistics for file, each in zip(files, scans, strict=True)},
        [*(each for each in found if isinstance(each, Problem)), *(problem for each in scans for problem in each.problems)],
    )  # fmt: skip
    seen = together([each.seen for each in scans], points)
    rows, frames = sum(each.rows for each in scans), [each.statistics.frames for each in scans]
    return Scanned(bundle, files, points, frames, [links, *(each for scan in scans for each in scan.links)], seen, rows)


def _stitched(whole: _Whole[Found], work: Work, machine: Machine, packets: Packets, folder: Path) -> Found:
    assert work.dealt is not None
    parts = range(work.dealt.count)
    found = {part: stitched for part in parts if (stitched := finished(folder, part)) is not None}
    found |= machine.stitch(work, packets, [part for part in parts if part not in found], folder)
    connections = Connections(work.bundle, [found[part] for part in parts], [text_of(folder, part) for part in parts])
    return whole.end(work, connections, machine, folder)


def _first_ns(bundle: Bundle) -> int:
    return min((each.first_ns for each in bundle.captures.values() if each.first_ns is not None), default=0)
