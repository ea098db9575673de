"""Packets of bundles larger than memory: read in pieces, and dealt out into a file per capture and partition (Arrow IPC, LZ4).

Every capture is read twice, first to tell which flows belong together: decoding is faster than what a disk writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from analysis.engine.work import node_names
from probes.capture import CaptureStatistics, read_pieces
from probes.schema import OBSERVATIONS, ObservationPoint, Problem, Table, size
from tracer.bundle_files import CaptureFile, afresh
from tracer.partitions import Cut, Deal, FlowNumbers, Links, flow_hashes, with_rest
from tracer.sightings import linked_rows
from tracer.surroundings import Glimpse, glimpse, together

if TYPE_CHECKING:  # connections alone need none of it
    from tracer.requests.dissection import Content

PIECE_FRAMES = 1 << 19
Progress = Callable[[int], None]


def nothing(_position: int) -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Scan:
    """What the first reading of a capture tells."""

    points: list[ObservationPoint]
    statistics: CaptureStatistics
    problems: list[Problem]
    seen: Glimpse
    links: Links
    rows: int


def scan(file: CaptureFile, stream: BinaryIO, progress: Progress = nothing) -> Scan:
    """Read the bytes of `file` for the first time."""
    (name,) = node_names([file.node])
    seen, links, rows = [], Links(), 0
    pieces = read_pieces(stream, file.name, file.node, PIECE_FRAMES, progress)
    for table in pieces.tables:
        links.add(table, np.full(len(pieces.points), name))
        seen.append(glimpse(table, len(pieces.points)))
        rows += size(table)
    return Scan(pieces.points, pieces.statistics, pieces.problems, together(seen, [0] * len(seen)), links, rows)


def part_file(folder: Path, capture: int, part: int) -> Path:
    """Where the packets of a capture and partition are."""
    return folder / f"packets-{part}-{capture}.arrow"


def deal_out(
    file: CaptureFile, stream: BinaryIO, number: int, dealt: Deal, folder: Path, progress: Progress = nothing, *, rest: bool = False,
    again: BinaryIO | None = None,
) -> None:  # fmt: skip
    """Read the bytes of `file`, the capture of that `number`, again and write each partition's `part_file`: all of them, or none.

    Packets of no connection are left out, unless `rest`. Where the same bytes also come from `again`, payloads are written beside them.
    """
    import pyarrow as pa  # noqa: PLC0415 - packets in memory do without

    from analysis.engine.payload_files import PayloadWriter, payload_file  # noqa: PLC0415

    schema = pa.schema([(column.name, pa.from_numpy_dtype(np.dtype(column.dtype))) for column in OBSERVATIONS.columns])
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    count = dealt.count
    beside = [] if again is None else [payload_file(folder, number, part) for part in range(count)]
    paths = [*(part_file(folder, number, part) for part in range(count)), *beside]
    if all(path.exists() for path in paths):
        return
    flows, parts, first = FlowNumbers(), np.empty(0, "i4"), 0
    unfinished = [path.with_name(f"{path.name}.{os.getpid()}.part") for path in paths]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in unfinished]
        writers = [stack.enter_context(pa.ipc.new_file(each, schema, options=options)) for each in files[:count]]
        payloads = None if again is None else stack.enter_context(closing(PayloadWriter(again, file.name, files[count:])))
        for table in read_pieces(stream, file.name, file.node, PIECE_FRAMES, progress).tables:
            rows, part = linked_rows(table), np.full(size(table), -1, "i4")
            numbers = flows.of(flow_hashes(table, rows))
            parts = np.concatenate([parts, dealt.of(flows.flows[len(parts) :])])
            part[rows] = parts[numbers]
            cut = Cut(table, with_rest(table, part, dealt, first) if rest else part, count, first)
            if payloads is not None:
                payloads.add(table, cut)
            for which, writer in enumerate(writers):
                mine = cut.table(which)
                if size(mine):
                    writer.write_batch(pa.record_batch([mine[column.name] for column in OBSERVATIONS.columns], schema=schema))
            first += size(table)
    for path, whole in zip(unfinished, paths, strict=True):
        path.rename(whole)


def packets_of(folder: Path, points: Sequence[int], part: int) -> Table:
    """The observations of a partition, from all its files in order; `points[i]` is the number that point 0 of capture i has."""
    tables, rows, here = [], 0, afresh(folder)
    for capture, base in enumerate(points):
        for table in _batches(part_file(here, capture, part)):
            table["point"] = table["point"] + np.uint32(base)
            table["outer"] = np.where(table["outer"] >= 0, table["outer"] + rows, -1)
            rows += size(table)
            tables.append(table)
    return OBSERVATIONS.concat(tables)


def content_of(folder: Path, captures: int, part: int) -> Content:
    """What reads the payloads of a partition."""
    from analysis.engine.payload_files import payloads_of  # noqa: PLC0415

    return partial(payloads_of, folder, captures, part)


def _batches(path: Path) -> Iterator[Table]:
    import pyarrow as pa  # noqa: PLC0415

    with path.open("rb") as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            yield {column.name: batch.column(column.name).to_numpy() for column in OBSERVATIONS.columns}
