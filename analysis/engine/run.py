"""The connections of a bundle: in memory where it fits there, else by way of files."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.engine import local, spill
from analysis.engine.connections import Connections
from analysis.engine.local import Packets, Progress
from analysis.engine.work import Work, node_names
from analysis.filters import Filters
from probes.schema import OBSERVATIONS, Problem, size
from tracer.bundle import Bundle, CaptureFile, Opened, read_packets
from tracer.partitions import Cut, Deal, Links, deal, link_evidence
from tracer.surroundings import Surroundings, glimpse, surroundings, together

WORTH_FORKING = 200_000  # observations
OBSERVATIONS_AT_ONCE = 1_000_000  # in a partition that comes from files; one takes about 0.5 kB
MEMORY_PER_BYTE = 5  # of a capture with packets of 96 bytes; larger ones need less
COMPRESSED = 5  # a capture shrinks to a fifth
READERS = 2
Reading = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of the connections: `filters` (given the time of the first packet) and how many records at `most`, in what way.

    `partitions` and `processes` are as many as fits by themselves (None); packets go through files in the folder `spill`.
    """

    filters: Callable[[int], Filters] = lambda _first_ns: Filters()
    most: int | None = None
    partitions: int | None = None
    processes: int | None = None
    spill: Path | None = None


def trace_connections(opened: Opened, asked: Asked, reading: Reading, progress: Progress) -> Connections:
    """The connections of a bundle. `reading` is told of positions in captures, `progress` what is done, how much of it, and of how much."""
    through = asked.spill is not None or not _fits(opened)
    return through_files(opened, asked, reading, progress) if through else in_memory(opened, asked, reading, progress)


def _fits(opened: Opened) -> bool:
    """Whether a bundle's packets, of which only the size of their files is known, surely fit into memory."""
    sizes = [
        file.path.stat().st_size * (COMPRESSED if file.path.suffix in (".gz", ".zst") else 1)
        for file in opened.captures
        if file.path.is_file()
    ]
    return sum(sizes) * MEMORY_PER_BYTE < available_bytes() // 2


def available_bytes() -> int:
    """Memory that can be had without taking it from others; where the system does not tell, half of what there is."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def in_memory(opened: Opened, asked: Asked, reading: Reading, progress: Progress) -> Connections:
    """All packets at once."""
    bundle = read_packets(opened, reading)
    packets = bundle.observations
    processes = asked.processes or local.workers()
    count = asked.partitions or (processes if size(packets) >= WORTH_FORKING else 1)
    around = surroundings(glimpse(packets, len(bundle.points)), bundle.points, bundle.links, bundle.timeline)
    if count == 1:
        whole = Work(bundle, around, None, asked.filters(_first_ns(bundle)), asked.most)
        stitched, text = local.stitch_here(whole, packets)
        return Connections(bundle, [stitched], [text])
    links = Links()
    numbers = links.add(packets, node_names([point.node for point in bundle.points]))
    link_evidence(links, bundle.ledgers, bundle.sockets)
    dealt = deal([links], count)
    cut = Cut(packets, np.append(dealt.of(links.numbers.flows), np.int32(-1))[numbers], count)
    with tempfile.TemporaryDirectory(prefix="hopline-") as folder:
        return _stitched(_work(bundle, around, dealt, asked), cut.table, Path(folder), processes, progress)


def through_files(opened: Opened, asked: Asked, reading: Reading, progress: Progress) -> Connections:
    """A piece of the packets, then a partition of them at a time."""
    if asked.spill is not None:
        asked.spill.mkdir(parents=True, exist_ok=True)
        return _through(asked.spill, opened, asked, reading, progress)
    with tempfile.TemporaryDirectory(prefix="hopline-") as folder:
        return _through(Path(folder), opened, asked, reading, progress)


def _through(folder: Path, opened: Opened, asked: Asked, reading: Reading, progress: Progress) -> Connections:
    files = opened.captures

    def told(file: CaptureFile, times: int) -> Callable[[int], None]:
        return lambda position: reading(f"{file.path}{' again' if times else ''}", position)

    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(lambda file: spill.scan(opened, file, told(file, 0)), files))
    scans = [each for each in found if not isinstance(each, Problem)]
    files = [file for file, each in zip(files, found, strict=True) if not isinstance(each, Problem)]
    bases = np.cumsum([0, *(len(each.points) for each in scans)]).tolist()
    bundle = opened.complete(
        OBSERVATIONS.empty(), [point for each in scans for point in each.points],
        [file.path for file, each in zip(files, scans, strict=True) for _ in each.points],
        {file.name: each.statistics for file, each in zip(files, scans, strict=True)},
        [*(each for each in found if isinstance(each, Problem)), *(problem for each in scans for problem in each.problems)],
    )  # fmt: skip
    links = Links()
    link_evidence(links, bundle.ledgers, bundle.sockets)
    processes = asked.processes or local.workers()
    rows = sum(each.rows for each in scans)
    dealt = deal([links, *(each.links for each in scans)], asked.partitions or max(processes, math.ceil(rows / OBSERVATIONS_AT_ONCE)))
    seen = together([each.seen for each in scans], bases[:-1])
    around = surroundings(seen, bundle.points, bundle.links, bundle.timeline)
    del scans, found, links
    with ThreadPoolExecutor(READERS) as readers:
        list(readers.map(lambda each: spill.deal_out(opened, each[1], each[0], dealt, folder, told(each[1], 1)), enumerate(files)))
    work = _work(bundle, around, dealt, asked)
    return _stitched(work, lambda part: spill.packets_of(folder, part, bases[:-1]), folder, processes, progress)


def _work(bundle: Bundle, around: Surroundings, dealt: Deal, asked: Asked) -> Work:
    return Work(bundle, around, dealt, asked.filters(_first_ns(bundle)), asked.most)


def _stitched(work: Work, packets: Packets, folder: Path, processes: int, progress: Progress) -> Connections:
    parts = range(len(work.dealt.packets) if work.dealt else 1)
    found = dict(local.stitch_parts(work, packets, parts, folder, processes, progress))
    return Connections(work.bundle, [found[part] for part in parts], [local.text_of(folder, part) for part in parts])


def _first_ns(bundle: Bundle) -> int:
    return min((each.first_ns for each in bundle.captures.values() if each.first_ns is not None), default=0)
