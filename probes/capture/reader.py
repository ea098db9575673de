"""The entrance: one capture file into observations, and several captures into one table."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import BinaryIO

import numpy as np

from probes.capture import pcap, pcapng
from probes.capture.gather import Capture, CapturePieces, CaptureStatistics, Gatherer
from probes.capture.observe import Observer
from probes.capture.stream import ByteWindow
from probes.pages import hand_over, pages
from probes.schema import OBSERVATIONS, ObservationPoint, Table, size

__all__ = ["Capture", "CapturePieces", "CaptureStatistics", "line_up", "merge_captures", "read_capture", "read_pieces", "walk"]


def read_capture(stream: BinaryIO, file: str, node: str, progress: Callable[[int], None] = lambda _position: None) -> Capture:
    """Read a capture from `stream` (binary, not seeked). `file` names it in messages, `node` is whose packets these are.

    `progress` is called with the position in the decompressed stream. Damage never raises: what is readable is decoded, the rest is a
    line in `problems`. A stream that is no capture at all gives no observations and one problem of severity "error".
    """
    pieces = read_pieces(stream, file, node, sys.maxsize, progress)
    (observations,) = pieces.tables
    return Capture(file, node, observations, pieces.points, pieces.statistics, pieces.problems)


def read_pieces(
    stream: BinaryIO, file: str, node: str, frames: int = 1 << 20, progress: Callable[[int], None] = lambda _position: None
) -> CapturePieces:  # fmt: skip
    """Like `read_capture`, for captures of any size: in tables of about as many `frames` each, decoded as they are asked for.

    One after the other they are `read_capture`'s observations.
    """
    observer = Observer(ByteWindow(stream, file), node, progress)
    tables = observer.tables(walk(observer), frames)
    return CapturePieces(tables, observer.points, observer.statistics, observer.problems)


def walk(gatherer: Gatherer) -> Iterator[int]:
    """Go through the stream of `gatherer`, whichever format it is in; at each step, so many of `gatherer.frames` are the next ones."""
    window = gatherer.window
    while len(window.data) < pcap.HEADER_BYTES and window.more(0):
        pass
    start = window.data[: pcap.HEADER_BYTES].tobytes()
    if start[:4] == pcapng.MAGIC:
        yield from pcapng.read_pcapng(gatherer)
    elif start[:4] in pcap.MAGICS and len(start) == pcap.HEADER_BYTES:
        yield from pcap.read_pcap(gatherer, pcap.read_header(start))
    elif not (window.cut and _may_be_capture(start)):
        gatherer.report(_why_not(start), "give pcap or pcapng, plain, gzip or zstd", 0, "error")


def _may_be_capture(start: bytes) -> bool:
    """Whether a file whose reading was cut after `start` may be one."""
    return any(magic.startswith(start[:4]) for magic in (*pcap.MAGICS, pcapng.MAGIC))


def _why_not(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if start[:4] in pcap.MAGICS:
        return f"the file ends inside its header, after {len(start)} of {pcap.HEADER_BYTES} bytes"
    return f"not a capture: it starts with {start[:4].hex(' ')}"


def merge_captures(captures: list[Capture]) -> tuple[Table, list[ObservationPoint]]:
    """All observations of `captures` in one table, `point` and `outer` counted through all of them, and the points themselves.

    The captures' own tables are taken apart on the way, so that memory never holds everything twice.
    """
    points = _count_through(captures, [0, *accumulate(size(capture.observations) for capture in captures)])
    if len(captures) == 1:
        return captures[0].observations, points
    merged = {}
    for column in OBSERVATIONS.columns:
        parts = [capture.observations.pop(column.name) for capture in captures]
        merged[column.name] = np.concatenate(parts) if parts else np.empty(0, column.dtype)
    return merged, points


def line_up(captures: list[Capture]) -> tuple[Table, list[range]]:
    """Like `merge_captures`, but nothing is copied that is large: pages move. Which rows of the table are each capture's is told beside it.

    They begin where a page does in every column; what is in rows between them means nothing.
    """
    sizes = [size(capture.observations) for capture in captures]
    begins = [0, *accumulate(-(-rows // mmap.PAGESIZE) * mmap.PAGESIZE for rows in sizes)]
    _count_through(captures, begins)
    ranges = [range(begin, begin + rows) for begin, rows in zip(begins, sizes, strict=False)]
    if len(captures) == 1:
        return captures[0].observations, ranges
    table: Table = {}
    for column in OBSERVATIONS.columns:
        table[column.name] = whole = np.frombuffer(pages(max(begins[-1], 1) * np.dtype(column.dtype).itemsize), column.dtype)[: begins[-1]]
        for capture, begin in zip(captures, begins, strict=False):
            hand_over(capture.observations.pop(column.name), whole[begin:])
    return table, ranges


def _count_through(captures: list[Capture], begins: list[int]) -> list[ObservationPoint]:
    """Count `point` and `outer` through all captures, whose rows will begin at `begins`; returns all points."""
    points: list[ObservationPoint] = []
    for capture, begin in zip(captures, begins, strict=False):
        capture.observations["point"] += np.uint32(len(points))
        capture.observations["outer"][capture.observations["outer"] >= 0] += begin
        points += capture.points
    return points
