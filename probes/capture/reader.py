"""One capture file into observations, and what the file says about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from probes.capture import pcap, pcapng
from probes.capture.records import CORRUPT, FRAMES_PER_CHUNK, FULL, MAX_FRAME_BYTES, NEED_MORE, Frames
from probes.capture.stream import ByteWindow
from probes.decode import LINK_TYPES, decode_frames
from probes.decode.fragments import tie_fragments
from probes.decode.frames import VIEWS_PER_FRAME
from probes.schema import OBSERVATIONS, Array, ObservationPoint, Problem, Table

BACKWARD_NS = 100_000_000  # packets of several CPUs may be written slightly out of order; more is a clock that was set back
MAX_COMMENTS = 1000


@dataclass(slots=True)
class CaptureStatistics:
    """Counters of one file. `dropped` is what the capture itself says it missed (pcapng interface statistics), None where it cannot say."""

    frames: int = 0
    bytes: int = 0
    truncated: int = 0  # frames captured shorter than they were
    other: int = 0  # frames that are not IP (ARP, LLDP, …)
    dropped: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    comments: list[tuple[int | None, str]] = field(default_factory=list)  # (frame, or None for section and interface; text)


@dataclass(slots=True)
class Capture:
    """What `read_capture` returns; `observations.point` indexes `points`."""

    file: str
    node: str
    observations: Table
    points: list[ObservationPoint]
    statistics: CaptureStatistics
    problems: list[Problem]


class _Reader:
    """The state of reading one file: the window, the interfaces so far, the decoded chunks."""

    def __init__(self, window: ByteWindow, node: str, progress: Callable[[int], None]) -> None:
        self.window, self.file, self.node, self.progress = window, window.file, node, progress
        self.interfaces: list[pcapng.Interface] = []
        self.statistics = CaptureStatistics()
        self.problems = window.problems
        self.frames = Frames()
        self.link_types: Array = np.empty(0, "i8")
        self._rows = np.zeros(FRAMES_PER_CHUNK * VIEWS_PER_FRAME, OBSERVATIONS.dtype)
        self._ifindexes = np.zeros(len(self._rows), "i4")
        self._chunks: list[Table] = []
        self._last_ns: dict[int, int] = {}
        self._seen_ifindexes: list[Array] = []

    def report(self, what: str, remedy: str, at: int | None = None, severity: str = "warning") -> None:
        self.problems.append(Problem(self.file, what, remedy, None if at is None else self.window.base + at, severity))

    def interface(self, interface: pcapng.Interface) -> None:
        if interface.link_type not in LINK_TYPES:
            self.report(
                f"unknown link type {interface.link_type} on interface {interface.name or len(self.interfaces)}",
                "its packets are left out; capture with tcpdump -y EN10MB or -i any",
            )
        if interface.comment:
            self.statistics.comments.append((None, interface.comment))
        self.interfaces.append(interface)
        self.link_types = np.array([each.link_type for each in self.interfaces], "i8")

    def decode(self, count: int) -> None:
        """Decode the first `count` of `frames` and clear the rows again."""
        if not count:
            return
        frames, statistics = self.frames, self.statistics
        captured, wire, times = frames.captured[:count], frames.wire[:count], frames.times[:count]
        rows = decode_frames(
            self.window.data, frames.offsets[:count], captured, wire, times, frames.interfaces[:count], frames.directions[:count],
            self.link_types, statistics.frames + 1, self._rows, self._ifindexes,
        )  # fmt: skip
        table = {name: np.ascontiguousarray(self._rows[name][:rows]) for name in OBSERVATIONS.dtype.names or ()}
        self._rows[:rows] = np.zeros((), OBSERVATIONS.dtype)
        self._chunks.append(table)
        self._seen_ifindexes.append(self._ifindexes[:rows].copy())
        self._clock_jumps(times, frames.interfaces[:count])
        statistics.other += count - int(np.count_nonzero(table["outer"] < 0))
        statistics.truncated += int(np.count_nonzero(captured < wire))
        statistics.bytes += int(captured.sum())
        statistics.first_ns = int(times[0]) if statistics.first_ns is None else statistics.first_ns
        statistics.last_ns = int(times[-1])
        statistics.frames += count
        self.progress(self.window.base)

    def _clock_jumps(self, times: Array, interfaces: Array) -> None:
        """Report where one interface's clock goes back. Interfaces are captured apart, so a file may hold them out of each other's order."""
        for interface in np.unique(interfaces).tolist():
            frames = np.flatnonzero(interfaces == interface)
            before = self._last_ns.get(interface, times[frames[0]])
            steps = np.diff(times[frames], prepend=before)
            self._last_ns[interface] = int(times[frames[-1]])
            for index in np.flatnonzero(steps < -BACKWARD_NS)[:3].tolist():
                self.report(
                    f"the clock jumps back by {-steps[index] / 1e9:.3f} s at frame {self.statistics.frames + 1 + int(frames[index])}",
                    "its times are used as they are: durations across the jump are wrong; slew clocks instead of stepping them",
                )

    def finish(self) -> Capture:
        offset = 0
        for chunk in self._chunks:
            chunk["outer"][chunk["outer"] >= 0] += offset
            offset += len(chunk["outer"])
        table = OBSERVATIONS.concat(self._chunks)
        ifindexes = np.concatenate([*self._seen_ifindexes, np.empty(0, "i4")])
        points = self._points(table, ifindexes)
        tie_fragments(table)
        return Capture(self.file, self.node, OBSERVATIONS.check(table), points, self.statistics, self.problems)

    def _points(self, table: Table, ifindexes: Array) -> list[ObservationPoint]:
        key = table["point"].astype("i8") << 32 | (ifindexes.astype("i8") + 1)
        pairs, inverse = np.unique(key, return_inverse=True)
        points = []
        for pair in pairs.tolist():
            interface, ifindex = self.interfaces[pair >> 32], (pair & 0xFFFF_FFFF) - 1
            name = f"if{ifindex}" if ifindex >= 0 else interface.name or ("any" if len(self.interfaces) == 1 else f"interface {pair >> 32}")
            points.append(ObservationPoint(self.node, name, ifindex, self.file, interface.link_type))
        table["point"] = inverse.astype("u4")
        return points


def _read_pcap(reader: _Reader, header: pcap.PcapHeader) -> None:
    window, frames, at = reader.window, reader.frames, pcap.HEADER_BYTES
    reader.interface(pcapng.Interface(None, header.link_type, header.snaplen, 9, 0, None))
    limit = header.snaplen if 0 < header.snaplen <= MAX_FRAME_BYTES else MAX_FRAME_BYTES
    limit = max(limit, 262_144)
    while True:
        count, at, status = pcap.pcap_records(
            window.data, at, header.big, header.unit_ns, limit, frames.offsets, frames.captured, frames.wire, frames.times
        )
        reader.decode(count)
        if status == FULL:
            continue
        if status == CORRUPT:
            seconds = (reader.statistics.last_ns or 0) // 1_000_000_000
            at = _skip_damage(reader, at, lambda data, start: pcap.pcap_resynchronise(data, start, header.big, limit, seconds))
        elif not window.more(at):
            break
        else:
            at = 0
    _check_tail(reader, len(window.data))


def _skip_damage(reader: _Reader, at: int, find: Callable[[Array, int], int]) -> int:
    """Where reading can go on behind the damage at `at`, or the end of the data; says so in one line."""
    window, lost_from = reader.window, reader.window.base + at
    found = find(window.data, at + 1)
    while found < 0 and window.more(max(at, len(window.data) - (1 << 17))):
        at, found = 0, find(window.data, 0)
    resumed = found if found >= 0 else len(window.data)
    lost = window.base + resumed - lost_from
    reader.problems.append(
        Problem(
            reader.file, f"damaged record after frame {reader.statistics.frames}: its length cannot be true",
            f"{lost} bytes were skipped and everything else was used; copy the file again", lost_from,
        )
    )  # fmt: skip
    return resumed


def _check_tail(reader: _Reader, left: int) -> None:
    if left:
        reader.report(
            f"the file ends in the middle of a record, after frame {reader.statistics.frames}",
            f"all whole frames were used, the last {left} bytes were not; copy the file again if it should be longer",
            0, "note",
        )  # fmt: skip


def _section(window: ByteWindow, at: int) -> tuple[bool, int] | None:
    """`(big-endian, length)` of the section header at `at`, None where it is damaged."""
    magic = window.data[at + 8 : at + 12].tobytes()
    if magic not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
        return None
    big = magic == b"\x1a\x2b\x3c\x4d"
    length = int.from_bytes(window.data[at + 4 : at + 8].tobytes(), "big" if big else "little")
    return (big, length) if 28 <= length <= pcapng.MAX_BLOCK_BYTES and length % 4 == 0 else None


def _read_pcapng(reader: _Reader) -> None:
    window, frames, statistics = reader.window, reader.frames, reader.statistics
    at, big, first_interface = 0, False, 0
    while True:
        columns = pcapng.interface_columns(reader.interfaces)
        count, at, status = pcapng.pcapng_records(
            window.data, at, big, first_interface, *columns, frames.offsets, frames.captured, frames.wire, frames.times,
            frames.interfaces, frames.directions, frames.comments,
        )  # fmt: skip
        for index in np.flatnonzero(frames.comments[:count] >= 0)[:MAX_COMMENTS].tolist():
            start = int(frames.comments[index])
            length = int.from_bytes(window.data[start : start + 2].tobytes(), "big" if big else "little")
            text = window.data[start + 2 : start + 2 + length].tobytes().decode(errors="replace")
            statistics.comments.append((statistics.frames + 1 + index, text))
        reader.decode(count)
        if status == FULL:
            continue
        if status == NEED_MORE:
            if not window.more(at):
                break
            at = 0
            continue
        kind = int.from_bytes(window.data[at : at + 4].tobytes(), "big" if big else "little")
        section = _section(window, at) if kind == pcapng.SECTION else None
        if section:
            length = section[1]
        elif status == CORRUPT or kind == pcapng.SECTION:
            at = _skip_damage(reader, at, lambda data, start, big=big: pcapng.pcapng_resynchronise(data, start, big))  # type: ignore[misc]
            continue
        else:
            length = int.from_bytes(window.data[at + 4 : at + 8].tobytes(), "big" if big else "little")
        if at + length > len(window.data):
            if not window.more(at):
                break
            at = 0
            continue
        body = window.data[at + 8 : at + length - 4].tobytes()
        if section:
            big, first_interface = section[0], len(reader.interfaces)
            statistics.comments.extend((None, value.decode(errors="replace")) for code, value in pcapng.options(body, 16, big) if code == 1)
        elif kind == pcapng.INTERFACE and len(body) >= 8:
            reader.interface(pcapng.read_interface(body, big))
        elif kind == pcapng.STATISTICS and len(body) >= 12:
            statistics.dropped = (statistics.dropped or 0) + pcapng.read_drops(body, big)[1]
        at += length
    _check_tail(reader, len(window.data))


def read_capture(stream: BinaryIO, file: str, node: str, progress: Callable[[int], None] = lambda _position: None) -> Capture:
    """Read a capture from `stream` (binary, not seeked). `file` names it in messages, `node` is whose packets these are.

    `progress` is called with the position in the decompressed stream. Damage never raises: what is readable is decoded, the rest is a
    line in `problems`. A stream that is no capture at all gives no observations and one problem of severity "error".
    """
    window = ByteWindow(stream, file)
    while len(window.data) < pcap.HEADER_BYTES and window.more(0):
        pass
    start = window.data[: pcap.HEADER_BYTES].tobytes()
    reader = _Reader(window, node, progress)
    if start[:4] in pcap.MAGICS and len(start) == pcap.HEADER_BYTES:
        _read_pcap(reader, pcap.read_header(start))
    elif start[:4] == b"\x0a\x0d\x0d\x0a":
        _read_pcapng(reader)
    else:
        what = "the file is empty" if not start else f"not a capture: it starts with {start[:4].hex(' ')}"
        reader.report(what, "give pcap or pcapng, plain, gzip or zstd", 0, "error")
    return reader.finish()


def merge_captures(captures: list[Capture]) -> tuple[Table, list[ObservationPoint]]:
    """All observations of `captures` in one table, `point` and `outer` counted through all of them, and the points themselves."""
    points: list[ObservationPoint] = []
    rows = 0
    for capture in captures:
        capture.observations["point"] += np.uint32(len(points))
        capture.observations["outer"][capture.observations["outer"] >= 0] += rows
        points += capture.points
        rows += len(capture.observations["outer"])
    return OBSERVATIONS.concat([capture.observations for capture in captures]), points
