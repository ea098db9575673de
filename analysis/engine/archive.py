"""A bundle's packets as an archive: dealt out as for tracing, then each part written by itself, by time and along its connections."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from analysis.engine import spill
from analysis.engine.errors import ArchiveError
from analysis.engine.files import claim, whole
from analysis.engine.local import Local
from analysis.engine.run import scan
from analysis.engine.shares import BEFORE, shares
from analysis.progress import Working
from probes.decode.numbers import OUTER
from probes.schema import Array, ObservationPoint, Problem, Table, take
from tracer.archive import DEAL_FILE, Contents, PacketFile, depths, save_deal, write_packets
from tracer.bundle import Bundle, Opened
from tracer.bundle_files import ARCHIVE_FILE, CAPTURE, CLUSTER, UNFINISHED_FILE, BundleError, kind_of
from tracer.partitions import Deal, deal, evidence_flows, flow_hashes
from tracer.tuples import FIELDS

ROWS_PER_PART = 500_000
BUCKETS_S = (60, 600, 3600, 6 * 3600, 24 * 3600)
ROWS_PER_FILE = 30_000  # about
MOST_BUCKETS = 10_000
PACKETS = "packets"


@dataclass(frozen=True, slots=True)
class Layout:
    """How an archive is laid out: buckets of so many seconds, so many parts; None is what fits."""

    bucket_s: int | None
    parts: int | None


def write_archive(opened: Opened, folders: frozenset[Path], folder: Path, layout: Layout, machine: Local, working: Working) -> Contents:
    """Make `folder` an archive of a bundle, all that its captures hold but payload; an interrupted run goes on.

    `folders` are the bundle's: where a file lies in them, it will lie in the archive. ArchiveError where that cannot be, SpillError where
    the folder is in use for something else, BundleError where there are no packets, OSError where a disk is full.
    """
    if opened.archive is not None:
        raise ArchiveError(f"{opened.archive.folder} is an archive itself (give the bundle that it was made of)")
    if (folder / ARCHIVE_FILE).exists():
        raise ArchiveError(f"{folder} is an archive already (name another folder, or remove it)")
    evidence = _places(opened.bundle.files, folders)
    inputs = [path for paths in opened.bundle.files.values() for path in paths]
    claim(folder, inputs, layout, UNFINISHED_FILE)
    scanned = scan(opened, machine)
    bundle = scanned.bundle
    if not any(each.frames for each in bundle.captures.values()):
        (folder / UNFINISHED_FILE).unlink()
        with suppress(OSError):  # in an object store it is gone by now
            folder.rmdir()
        raise BundleError("no packets could be read")
    sizes = {name: _copied(path, folder / PurePosixPath(name)) for name, path in evidence.items()}
    count = layout.parts or max(1, math.ceil(scanned.rows / ROWS_PER_PART))
    bucket_s = layout.bucket_s or _fitting_bucket_s(bundle, scanned.rows // count)
    dealt = deal(scanned.links, count)
    capture_of_point = np.searchsorted(scanned.first_points, np.arange(len(bundle.points)), "right") - 1
    files, points, seen, cut = scanned.files, scanned.first_points, scanned.seen, shares(scanned.frames, machine.readers, BEFORE)
    del scanned  # what was linked is as large as many parts
    _save_evidence_deal(folder, bundle, dealt)
    contents = Contents(
        bucket_s, count, bundle.captures, bundle.points, capture_of_point.tolist(),
        [path.name for path in bundle.files[CAPTURE]], _of_captures(bundle), seen, sizes,
    )  # fmt: skip
    marks = [folder / f"part-{part:03d}.unfinished.json" for part in range(count)]
    left = [part for part in range(count) if not marks[part].exists()]
    with tempfile.TemporaryDirectory(prefix="hopline-") as temporary, ThreadPoolExecutor(machine.processes) as writers:
        if left:
            machine.deal_out(files, cut, dealt, Path(temporary), rest=True)

        def write(part: int) -> None:
            written = _write_part(folder, part, spill.packets_of(Path(temporary), cut, points, part), bundle.points, dealt, bucket_s)
            _whole(marks[part], lambda file: file.write(json.dumps([asdict(each) for each in written]).encode()))

        for done, _ in enumerate(writers.map(write, left), count - len(left) + 1):
            working("writing", done, count)
    packets = [PacketFile(**each) for mark in marks for each in json.loads(mark.read_text())]
    contents = replace(contents, packets=packets)
    _whole(folder / ARCHIVE_FILE, contents.save)
    for path in (*marks, folder / UNFINISHED_FILE, *(folder / PACKETS).glob("**/*.part")):
        path.unlink()
    return contents


def _fitting_bucket_s(bundle: Bundle, rows_of_part: int) -> int:
    """The shortest of BUCKETS_S that leaves ROWS_PER_FILE to a file, if packets come evenly."""
    times = [time_ns for each in bundle.captures.values() for time_ns in (each.first_ns, each.last_ns) if time_ns is not None]
    span_s = (max(times, default=0) - min(times, default=0)) / 1e9
    most = max(1, rows_of_part // ROWS_PER_FILE)
    return next((each for each in BUCKETS_S if span_s <= most * each), BUCKETS_S[-1])


def _places(files: Mapping[str, list[Path]], folders: frozenset[Path]) -> dict[str, Path]:
    """Where each file but captures will be in the archive."""
    places: dict[str, Path] = {}
    for kind, path in ((kind, path) for kind, paths in files.items() if kind != CAPTURE for path in paths):
        inside = path.parent not in folders and path.parent.parent in folders
        name = f"{path.parent.name}/{path.name}" if inside else path.name
        if kind == CLUSTER and kind_of(path) != CLUSTER:
            name = f"cluster-{path.name}"
        if kind_of(Path(name)) != kind:
            raise ArchiveError(f"{path}: its name does not tell that it is of kind {kind} (call it as docs/bundle.md does)")
        if places.setdefault(name, path) != path:
            raise ArchiveError(f"{places[name]} and {path} would be one file of the archive (make one of each bundle, or rename one)")
    return places


def _of_captures(bundle: Bundle) -> list[Problem]:
    """The problems of a bundle that reading its captures gave."""
    names = {name for path in bundle.files[CAPTURE] for name in (str(path), path.name)}
    return [problem for problem in bundle.problems if problem.file in names]


def _save_evidence_deal(folder: Path, bundle: Bundle, dealt: Deal) -> None:
    flows = evidence_flows(bundle.ledgers, bundle.sockets)
    groups, known = dealt.groups_of(flows)
    _whole(folder / DEAL_FILE, lambda file: save_deal(Deal(flows[known], groups[known], dealt.count), file))


def _write_part(
    folder: Path, part: int, observations: Table, points: list[ObservationPoint], dealt: Deal, bucket_s: int
) -> list[PacketFile]:  # fmt: skip
    """One file for each bucket that `observations`, the packets of a part, are in."""
    depth = depths(observations)
    bucket = observations["time_ns"] // (bucket_s * 1_000_000_000)
    outer = observations["view"] == OUTER  # which has none of the numbers that those before and behind it have
    order = np.lexsort((observations["time_ns"], outer, _ranks(observations, depth, dealt), bucket))
    first = np.flatnonzero(np.diff(bucket[order], prepend=bucket.min(initial=0) - 1))
    if len(first) > MOST_BUCKETS:
        raise ArchiveError(
            f"packets are of {len(first):,} different times (give a longer --bucket, or leave out the capture with wrong times)"
        )
    written = []
    for begin, end in pairwise([*first.tolist(), len(order)]):
        rows = order[begin:end]
        path = PurePosixPath(PACKETS, f"bucket={_start(int(bucket[rows[0]]) * bucket_s)}", f"part={part:03d}", "packets.parquet")
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        size_bytes = _whole(folder / path, _packets(take(observations, rows), depth[rows], points))
        written.append(PacketFile(str(path), part, len(rows), size_bytes))
    return written


def _packets(observations: Table, depth: Array, points: list[ObservationPoint]) -> Callable[[IO[bytes]], object]:
    return lambda file: write_packets(file, observations, depth, points)


def _start(seconds: int) -> str:
    """The start of a bucket as the name of its folder: RFC 3339, escaped as Hive does it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z").replace(":", "%3A")


def _ranks(observations: Table, depth: Array, dealt: Deal) -> Array:
    """Numbers that put rows in order: linked flows together, those whose first packets have one destination behind each other."""
    groups = dealt.groups_of(flow_hashes({name: observations[name] for name in FIELDS}))[0].copy()
    for level in range(int(depth.max(initial=0)), 0, -1):  # what is in it tells whose a packet of a tunnel is
        inside = np.flatnonzero(depth == level)
        groups[observations["outer"][inside]] = groups[inside]
    order = np.lexsort((observations["time_ns"], observations["view"] == OUTER, groups))
    begins = np.diff(groups[order], prepend=~groups[order[:1]]) != 0
    first = order[begins]
    rank = np.empty(len(first), "i8")
    rank[np.lexsort((groups[first], *(observations[name][first] for name in ("dport", "dst_lo", "dst_hi"))))] = np.arange(len(first))
    ranks = np.empty(len(order), "i8")
    ranks[order] = rank[np.cumsum(begins) - 1]
    return ranks


def _copied(path: Path, to: Path) -> int:
    """The size of the copy of `path` that is at `to`."""
    if to.exists():
        return to.stat().st_size
    to.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as content:
        return _whole(to, lambda file: shutil.copyfileobj(content, file, 1 << 20))


def _whole(path: Path, write: Callable[[IO[bytes]], object]) -> int:
    """Have `write` write a file that is there whole or not at all; returns its size in bytes."""
    with whole(path) as file:
        write(file)
    return path.stat().st_size
