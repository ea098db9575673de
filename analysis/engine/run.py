"""The connections of a bundle: in memory where it fits there, else by way of files."""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.engine import spill
from analysis.engine.connections import Connections
from analysis.engine.errors import ClusterError, SpillError
from analysis.engine.files import claim, finished, text_of
from analysis.engine.local import Local, Packets, Reading, Working
from analysis.engine.memory import look
from analysis.engine.work import Work
from analysis.filters import Filters
from probes.capture.reader import merge_captures
from probes.schema import OBSERVATIONS, Problem, size
from tracer.bundle import Bundle, Opened
from tracer.bundle_files import STANDARD_INPUT, CaptureFile
from tracer.captures import read_captures
from tracer.partitions import Deal, Links, deal, link_evidence
from tracer.surroundings import Glimpse, Surroundings, glimpse, surroundings, together

if TYPE_CHECKING:
    from analysis.engine.cluster import Cluster
    from tracer.archive import Archive

LOCAL, DASK = "local", "dask"
WORTH_FORKING = 200_000  # observations
OBSERVATIONS_AT_ONCE = 1_000_000  # in a partition that comes from files; one takes about 0.5 kB
MEMORY_PER_BYTE = 5  # of a capture with packets of 96 bytes; larger ones need less
COMPRESSED = 5  # a capture shrinks to a fifth


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
    if asked.engine == DASK:
        return _on_cluster(opened, asked, working)
    here = Local(opened, asked.processes, reading, working)
    in_files = asked.spill is not None or opened.archive is not None or not _fits(opened)
    return through_files(opened, asked, here) if in_files else in_memory(opened, asked, here, reading)


def _on_cluster(opened: Opened, asked: Asked, working: Working) -> Connections:
    try:
        from analysis.engine.cluster import cluster  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ClusterError(f"Dask is not installed: {error} (pip install 'hopline[dask]')") from None
    if any(file.path == STANDARD_INPUT for file in opened.captures):
        raise ClusterError("Dask's workers cannot read standard input (give files that they can open)")
    with cluster(asked.scheduler, asked.processes, working) as machine:
        return through_files(opened, asked, machine)


def _fits(opened: Opened) -> bool:
    """Whether a bundle's packets, of which only the size of their files is known, surely fit into memory."""
    sizes = [
        file.path.stat().st_size * (COMPRESSED if file.path.suffix in (".gz", ".zst") else 1)
        for file in opened.captures
        if file.path.is_file()
    ]
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


def in_memory(opened: Opened, asked: Asked, machine: Local, reading: Reading) -> Connections:
    """All packets at once."""
    packets = read_captures(opened, reading)
    rows = sum(size(capture.observations) for capture in packets.captures)
    count = asked.partitions or (machine.processes if rows >= WORTH_FORKING else 1)
    if count == 1:
        observations, _ = merge_captures(packets.captures)
        bundle = packets.complete(opened, observations)
        around = surroundings(glimpse(observations, len(bundle.points)), bundle.points, bundle.links, bundle.timeline)
        out = io.BytesIO()
        stitched = _work(asked, bundle, around, None).stitch(0, observations, out)
        return Connections(bundle, [stitched], [out.getbuffer()], stitched.sums)
    bundle = packets.complete(opened, OBSERVATIONS.empty())
    pieces = look(packets, machine.processes)
    around = surroundings(pieces.seen, bundle.points, bundle.links, bundle.timeline)
    links = Links()
    link_evidence(links, bundle.ledgers, bundle.sockets)
    dealt = deal([links, *pieces.links], count)
    with tempfile.TemporaryDirectory(prefix="hopline-") as folder:
        return _stitched(_work(asked, bundle, around, dealt), machine, pieces.parts(dealt), Path(folder))


def through_files(opened: Opened, asked: Asked, machine: Local | Cluster) -> Connections:
    """A piece of the packets, then a partition of them at a time."""
    if asked.spill is None:
        with tempfile.TemporaryDirectory(prefix="hopline-") as folder:
            return _through(Path(folder), opened, asked, machine)
    inputs = [path for paths in opened.bundle.files.values() for path in paths]
    if opened.archive is not None:
        inputs.append(opened.archive.path)
    used = sorted(opened.bundle.ledgers), sorted(opened.bundle.rules), opened.bundle.timeline.empty
    claim(asked.spill, inputs, (asked.filters(0), asked.most, asked.held, asked.partitions, *used))
    return _through(asked.spill, opened, asked, machine)


def _through(folder: Path, opened: Opened, asked: Asked, machine: Local | Cluster) -> Connections:
    if opened.archive is not None:
        return _archived(opened.archive, folder, opened, asked, machine)
    scanned = scan(opened, machine)
    bundle = scanned.bundle
    count = asked.partitions or max(machine.processes, math.ceil(scanned.rows / OBSERVATIONS_AT_ONCE))
    dealt = deal(scanned.links, count)
    around = surroundings(scanned.seen, bundle.points, bundle.links, bundle.timeline)
    files, points = scanned.files, scanned.first_points
    del scanned  # what was linked is as large as many partitions
    folder = folder / f"parts-{count}"  # their number may follow that of processes, which another run has more or less of
    folder.mkdir(exist_ok=True)
    machine.deal_out(files, dealt, folder)
    return _stitched(_work(asked, bundle, around, dealt), machine, partial(spill.packets_of, folder, points), folder)


def _archived(archive: Archive, folder: Path, opened: Opened, asked: Asked, machine: Local | Cluster) -> Connections:
    """The connections of an archive, whose parts are there as they are wanted."""
    if asked.partitions not in (None, archive.contents.parts):
        raise SpillError(f"{archive.folder} has {archive.contents.parts} parts, and keeps them (leave --partitions out)")
    bundle = opened.archived(archive, OBSERVATIONS.empty())
    around = surroundings(archive.contents.seen, bundle.points, bundle.links, bundle.timeline)
    return _stitched(_work(asked, bundle, around, archive.dealt()), machine, archive.part, folder)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the first reading of all captures tells: `bundle` is without packets, `files` are those that could be opened.

    `first_points[i]` is the number that point 0 of `files[i]` has, `rows` how many observations there are.
    """

    bundle: Bundle
    files: list[CaptureFile]
    first_points: list[int]
    links: list[Links]
    seen: Glimpse
    rows: int


def scan(opened: Opened, machine: Local | Cluster) -> Scanned:
    """Read all captures for the first time."""
    found = machine.scan(opened.captures)
    scans = [each for each in found if not isinstance(each, Problem)]
    files = [file for file, each in zip(opened.captures, found, strict=True) if not isinstance(each, Problem)]
    points = np.cumsum([0, *(len(each.points) for each in scans)]).tolist()[:-1]  # before those of each capture
    bundle = opened.complete(
        OBSERVATIONS.empty(), [point for each in scans for point in each.points],
        [file.path for file, each in zip(files, scans, strict=True) for _ in each.points],
        {file.name: each.statistics for file, each in zip(files, scans, strict=True)},
        [*(each for each in found if isinstance(each, Problem)), *(problem for each in scans for problem in each.problems)],
    )  # fmt: skip
    links = Links()
    link_evidence(links, bundle.ledgers, bundle.sockets)
    seen = together([each.seen for each in scans], points)
    return Scanned(bundle, files, points, [links, *(each.links for each in scans)], seen, sum(each.rows for each in scans))


def _work(asked: Asked, bundle: Bundle, around: Surroundings, dealt: Deal | None) -> Work:
    return Work(bundle, around, dealt, asked.filters(_first_ns(bundle)), asked.most, asked.held)


def _stitched(work: Work, machine: Local | Cluster, packets: Packets, folder: Path) -> Connections:
    assert work.dealt is not None
    parts = range(work.dealt.count)
    found = {part: stitched for part in parts if (stitched := finished(folder, part)) is not None}
    found |= machine.stitch(work, packets, [part for part in parts if part not in found], folder)
    sums = None if work.held is None else machine.sums(parts, folder)
    return Connections(work.bundle, [found[part] for part in parts], [text_of(folder, part) for part in parts], sums)


def _first_ns(bundle: Bundle) -> int:
    return min((each.first_ns for each in bundle.captures.values() if each.first_ns is not None), default=0)
