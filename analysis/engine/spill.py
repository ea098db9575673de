"""Packets of bundles larger than memory: read in pieces, and dealt out into a file per capture and partition (Arrow IPC, LZ4).

Every capture is read twice, first to tell which flows belong together: decoding is faster than what a disk writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from analysis.engine.shares import Share, in_order
from analysis.engine.work import node_names
from probes.capture import CaptureStatistics, lanes, read_pieces
from probes.capture.columns import Columns
from probes.schema import OBSERVATIONS, ObservationPoint, Problem, Table, size
from tracer.bundle_files import CaptureFile, afresh
from tracer.numbering import HashNumbers
from tracer.partitions import Cut, Deal, Links, flow_hashes, with_rest
from tracer.sightings import linked_rows
from tracer.surroundings import Glimpse, glimpse, together

if TYPE_CHECKING:  # connections alone need none of it
    import pyarrow as pa

    from tracer.requests.dissection import Content

PIECE_FRAMES = 1 << 19
BLOCK_FRAMES = 1 << 17  # what shares are made of where nobody knows yet how many frames there are
Progress = Callable[[int], None]


def nothing(_position: int) -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Scan:
    """What the first reading of a capture tells; `seen`, `links` and `rows` are those of a share of it, if no more was asked for."""

    points: list[ObservationPoint]
    statistics: CaptureStatistics
    problems: list[Problem]
    seen: Glimpse
    links: list[Links]
    rows: int


def scan(file: CaptureFile, stream: BinaryIO, progress: Progress = nothing, share: Share | None = None) -> Scan:
    """Read the bytes of `file` for the first time, and look at all of it, or at a `share`."""
    (name,) = node_names([file.node])
    seen, links, rows = [], Links(), 0
    pieces = read_pieces(stream, file.name, file.node, PIECE_FRAMES, progress)
    for whole in pieces.tables:
        for table in [whole] if share is None else _blocks(whole, share):
            links.add(table, np.full(len(pieces.points), name))
            seen.append(glimpse(table, len(pieces.points)))
            rows += size(table)
            del table
        del whole  # the next one gets its memory
    return Scan(pieces.points, pieces.statistics, pieces.problems, together(seen, [0] * len(seen)), [links], rows)


def put_together(scans: Sequence[Scan]) -> Scan:
    """All shares of one capture."""
    seen = together([each.seen for each in scans], [0] * len(scans))
    return replace(scans[0], seen=seen, links=[links for each in scans for links in each.links], rows=sum(each.rows for each in scans))


def _blocks(table: Table, share: Share) -> Iterator[Table]:
    if size(table):
        first, last = ((int(table["frame"][row]) - 1) // BLOCK_FRAMES for row in (0, -1))
        for block in range(first, last + 1):
            if share.has(block):
                yield _of_frames(table, block * BLOCK_FRAMES, (block + 1) * BLOCK_FRAMES)[0]


def _of_frames(table: Table, first: int, end: int) -> tuple[Table, int]:
    """The rows of frames `first` up to `end`, counted from 0 (`table` counts them from 1), and the number of the first row."""
    begin, stop = np.searchsorted(table["frame"], [first, end], "right").tolist()
    return {name: column[begin:stop] for name, column in table.items()}, begin


def part_file(folder: Path, share: Share, part: int) -> Path:
    """Where the packets of a share and partition are."""
    return folder / f"packets-{part}-{_named(share)}.arrow"


def _payload_file(folder: Path, share: Share, part: int) -> Path:
    """Where their payloads are, row by row."""
    return folder / f"payloads-{part}-{_named(share)}.arrow"


def _named(share: Share) -> str:
    return f"{share.capture}-{share.first}-{share.end}"


def deal_out(
    file: CaptureFile, stream: BinaryIO, share: Share, dealt: Deal, folder: Path, progress: Progress = nothing, *, rest: bool = False,
    again: BinaryIO | None = None,
) -> None:  # fmt: skip
    """Read the bytes of `file` again, and write the `part_file` of each partition for a `share` (of its frames): all of them, or none.

    Packets of no connection are left out, unless `rest`. Where the same bytes also come from `again`, payloads are written beside them.
    """
    import pyarrow as pa  # noqa: PLC0415 - packets in memory do without

    from analysis.engine.payload_files import PayloadWriter  # noqa: PLC0415

    schema = pa.schema([(column.name, pa.from_numpy_dtype(np.dtype(column.dtype))) for column in OBSERVATIONS.columns])
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=lanes.LANES > 1)
    count = dealt.count
    beside = [] if again is None else [_payload_file(folder, share, part) for part in range(count)]
    paths = [*(part_file(folder, share, part) for part in range(count)), *beside]
    if all(path.exists() for path in paths):
        return
    flows, parts, first_row, cut = HashNumbers(), np.empty(0, "i4"), 0, Cut(count)
    unfinished = [path.with_name(f"{path.name}.{os.getpid()}.part") for path in paths]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in unfinished]
        writers = [stack.enter_context(pa.ipc.new_file(each, schema, options=options)) for each in files[:count]]
        payloads = None if again is None else stack.enter_context(closing(PayloadWriter(again, file.name, files[count:], options)))
        for whole in read_pieces(stream, file.name, file.node, PIECE_FRAMES, progress).tables:
            table, before = _of_frames(whole, share.first, share.end)
            first = first_row + before
            rows, part = linked_rows(table), np.full(size(table), -1, "i4")
            numbers = flows.of(flow_hashes(table, rows))
            parts = np.concatenate([parts, dealt.of(flows.hashes[len(parts) :])])
            part[rows] = parts[numbers]
            cut.take(table, with_rest(table, part, dealt, first) if rest else part, first)
            if payloads is not None:
                payloads.add(table, cut)
            for which, writer in enumerate(writers):
                mine = cut.table(which)
                if size(mine):
                    writer.write_batch(_batch(mine, schema))
            first_row += size(whole)
            if size(whole) and whole["frame"][-1] >= share.end:
                break
            del whole, table  # the next one gets their memory
    for path, finished in zip(unfinished, paths, strict=True):
        path.rename(finished)


def _batch(table: Table, schema: pa.Schema) -> pa.RecordBatch:
    """As buffers: for arrays pyarrow imports pandas, where that is installed, which takes as long as reading half a million packets."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    columns = [pa.Array.from_buffers(each.type, size(table), [None, pa.py_buffer(table[each.name])]) for each in schema]
    return pa.record_batch(columns, schema=schema)


def packets_of(folder: Path, shares: Sequence[Share], points: Sequence[int], part: int) -> Table:
    """The observations of a partition, from all its files in order; `points[i]` is the number that point 0 of capture i has.

    The next partition gets their memory.
    """
    packets, here, cut = Columns(OBSERVATIONS), afresh(folder), in_order(shares)
    for done, share in enumerate(cut):
        for read, table in _batches(part_file(here, share, part)):
            table["point"] = table["point"] + np.uint32(points[share.capture])
            table["outer"] = np.where(table["outer"] >= 0, table["outer"] + packets.size, -1)
            packets.append(table, (done + read) / len(cut))
    return packets.table(packets.size, more=True)


def content_of(folder: Path, shares: Sequence[Share], part: int) -> Content:
    """What reads the payloads of a partition."""
    from analysis.engine.payload_files import payloads_of  # noqa: PLC0415

    return partial(payloads_of, [_payload_file(folder, share, part) for share in in_order(shares)])


def _batches(path: Path) -> Iterator[tuple[float, Table]]:
    """The tables in a file, and how much of it has been read with each."""
    import pyarrow as pa  # noqa: PLC0415

    alone = pa.ipc.IpcReadOptions(use_threads=False)  # other partitions have the other processors
    with path.open("rb") as file, pa.ipc.open_file(file, options=alone) as reader:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            columns = {column: batch.column(column.name).buffers()[1] for column in OBSERVATIONS.columns}
            table = {column.name: np.frombuffer(content, column.dtype, batch.num_rows) for column, content in columns.items()}
            yield (number + 1) / reader.num_record_batches, table
