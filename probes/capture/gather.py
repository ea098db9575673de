"""What the readers of both file formats fill: frames they find become observations, and what the file says about itself is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from probes.capture import records
from probes.capture.columns import Columns
from probes.capture.points import PointNumbers
from probes.capture.records import FRAME, INTERFACE, NO_TIME, NOWHERE, UNDECIDED, Interface
from probes.capture.stream import ByteWindow
from probes.decode import LINK_TYPES, VIEWS_PER_FRAME, decode_frames, tie_fragments
from probes.jit import kernel
from probes.schema import OBSERVATIONS, Array, ObservationPoint, Problem, Table

BACKWARD_NS = 100_000_000  # packets of several CPUs may be written slightly out of order; more is a clock that was set back
MAX_COMMENTS = 1000
MAX_PROBLEMS = 50  # a line each; of those beyond, only how many

# `(data, from, whether the file ends with data)` to `(place, FOUND | NOWHERE | UNDECIDED)`
Search = Callable[[Array, int, bool], tuple[int, int]]


@dataclass(slots=True)
class CaptureStatistics:
    """Counters of one file. `dropped` is what the capture itself says it missed (pcapng interface statistics), None where it cannot say."""

    frames: int = 0
    bytes: int = 0
    truncated: int = 0  # frames captured shorter than they were
    other: int = 0  # frames that are not IP (ARP, LLDP, …)
    dropped: int | None = None
    first_ns: int | None = None  # time of the first frame in the file,
    last_ns: int | None = None  # and of the last
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


@kernel
def _watch_clocks(frames: Array, interfaces: Array, first_frame: int) -> int:
    """Note in `interfaces` where one's clock goes back; returns how many frames have no time.

    Interfaces are captured apart, so a file may hold them out of each other's order.
    """
    timeless = 0
    for index in range(len(frames)):
        frame = frames[index]
        if frame["time_ns"] == NO_TIME:
            timeless += 1
            continue
        interface = interfaces[frame["interface"]]
        back = interface["last_ns"] - frame["time_ns"]
        if interface["last_ns"] != NO_TIME and back > BACKWARD_NS:
            if interface["jumps"] == 0:
                interface["jump_frame"], interface["jump_ns"] = first_frame + index, back
            interface["jumps"] += 1
        interface["last_ns"] = frame["time_ns"]
    return timeless


class Gatherer:
    """The state of reading one file: its bytes, the interfaces so far, the frames of this chunk, the observations of all chunks."""

    def __init__(self, window: ByteWindow, node: str, progress: Callable[[int], None]) -> None:
        self.window, self.file, self.node, self.progress = window, window.file, node, progress
        self.interfaces: list[Interface] = []
        self.clocks: Array = np.zeros(8, INTERFACE)
        self.frames: Array = np.zeros(records.FRAMES_PER_CHUNK, FRAME)
        self.statistics = CaptureStatistics()
        self.drops: dict[int, int] = {}  # by interface
        self._problems: list[Problem] = []
        self._problems_beyond = 0
        self._comments_beyond = 0
        self._timeless = 0
        self._left_out = 0
        self._left_out_at = (0, 0)  # frames before the first one, and its offset
        self._rows: Array = np.zeros(len(self.frames) * VIEWS_PER_FRAME, OBSERVATIONS.dtype)
        self._ifindexes: Array = np.zeros(len(self._rows), "i8")
        self._columns = Columns(OBSERVATIONS)
        self._points = PointNumbers()

    def report(self, what: str, remedy: str, offset: int | None = None, severity: str = "warning") -> None:
        """Add a line to the file's problems; `offset` counts from the stream's beginning."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(Problem(self.file, what, remedy, offset, severity))
        else:
            self._problems_beyond += 1

    def comment(self, frame: int | None, text: str) -> None:
        """Keep a comment of a frame, or of a section or interface."""
        if len(self.statistics.comments) < MAX_COMMENTS:
            self.statistics.comments.append((frame, text))
        else:
            self._comments_beyond += 1

    def judge(self, interface: Interface) -> None:
        """Say so where the frames of `interface`, which is about to be added, cannot be read."""
        if interface.link_type not in LINK_TYPES:
            self.report(
                f"unknown link type {interface.link_type} on interface {interface.name or len(self.interfaces)}",
                "its packets are left out; capture with tcpdump -y EN10MB or -i any",
            )

    def interface(self, interface: Interface) -> None:
        """The next interface that the file describes."""
        number = len(self.interfaces)
        self.judge(interface)
        if interface.comment:
            self.comment(None, interface.comment)
        if number == len(self.clocks):
            self.clocks = np.concatenate([self.clocks, np.zeros(number, INTERFACE)])
        self.clocks[number] = (interface.link_type, interface.resolution, interface.offset_s, interface.snaplen, NO_TIME, 0, 0, 0)
        self.interfaces.append(interface)

    def decode(self, count: int) -> None:
        """Turn the first `count` of `frames` into observations."""
        if not count:
            return
        frames, statistics = self.frames[:count], self.statistics
        first = statistics.frames + 1
        found = decode_frames(self.window.data, frames, self.clocks, first, self._columns.size, self._rows, self._ifindexes)
        rows = self._rows[:found]
        rows["point"] = self._points.number(rows["point"], self._ifindexes[:found])
        self._columns.append(rows, self.window.share)
        self._timeless += _watch_clocks(frames, self.clocks, first)
        statistics.other += count - int(np.count_nonzero(rows["outer"] < 0))
        statistics.truncated += int(np.count_nonzero(frames["captured"] < frames["wire"]))
        statistics.bytes += int(frames["captured"].sum())
        if statistics.first_ns is None:
            statistics.first_ns = int(frames["time_ns"][0])
        statistics.last_ns = int(frames["time_ns"][-1])
        statistics.frames += count
        rows.view("u1")[:] = 0  # as `decode_frames` wants them; as bytes, because NumPy clears fields one by one
        self.progress(self.window.base)

    def leave_out(self, at: int) -> None:
        """Count the packet at `at`, which contradicts what the file says about itself."""
        if not self._left_out:
            self._left_out_at = self.statistics.frames, self.window.base + at
        self._left_out += 1

    def skip_damage(self, at: int, search: Search, *, cut: bool) -> int:
        """Where `search` says that reading can go on behind the damage at `at`, or the end of the data; says so in one line.

        `cut`: the file ends before the record at `at` does. If nothing sound stands behind, that is the record's own end.
        """
        window, lost_from = self.window, self.window.base + at
        at, verdict = search(window.data, at + 1, window.ended)
        while verdict == UNDECIDED:
            window.more(at)
            at, verdict = search(window.data, 0, window.ended)
        lost = window.base + at - lost_from
        after = f"after frame {self.statistics.frames}" if self.statistics.frames else "before the first frame"
        if not (cut and verdict == NOWHERE):
            remedy = f"{lost} bytes were skipped and everything else was used; copy the file again"
            self.report(f"damaged record {after}", remedy, lost_from)
        elif not window.cut:
            remedy = f"all whole frames were used, the last {lost} bytes were not; copy the file again if it should be longer"
            self.report(f"the file ends in the middle of a record, {after}", remedy, lost_from, "note")
        return at

    def finish(self) -> Capture:
        """Everything gathered. To be called once."""
        self._report_clocks()
        self._report_limits()
        if self.drops:
            self.statistics.dropped = sum(self.drops.values())
        table = self._columns.table()
        points = self._name_points(table)
        tie_fragments(table)
        problems = [*self.window.problems, *self._problems]
        return Capture(self.file, self.node, OBSERVATIONS.check(table), points, self.statistics, problems)

    def _report_clocks(self) -> None:
        for number in np.flatnonzero(self.clocks["jumps"] > 0).tolist():
            clock = self.clocks[number]
            more = f"; {clock['jumps']} jumps in all" if clock["jumps"] > 1 else ""
            name = self.interfaces[number].name or (f"interface {number}" if len(self.interfaces) > 1 else "")
            self.report(
                f"the clock jumps back by {clock['jump_ns'] / 1e9:.3f} s at frame {clock['jump_frame']}{name and f' on {name}'}{more}",
                "its times are used as they are: durations across the jump are wrong; slew clocks instead of stepping them",
            )
        if self._timeless:
            self.report(f"frames without a time: {self._timeless}", "they count as of 1970; capture with tcpdump or dumpcap")

    def _report_limits(self) -> None:
        if self._left_out:
            frames, offset = self._left_out_at
            what = "packet blocks that name an interface which is not described, or are shorter than their packet"
            self.report(f"{what}: {self._left_out}, the first after frame {frames}", "they were left out; copy the file again", offset)
        if self._comments_beyond:
            what = f"comments beyond the first {MAX_COMMENTS}: {self._comments_beyond}"
            self.report(what, "they were left out", None, "note")
        if self._problems_beyond:
            what = f"problems beyond the first {MAX_PROBLEMS}: {self._problems_beyond}"
            self._problems.append(Problem(self.file, what, "everything else was used; copy the file again"))

    def _name_points(self, table: Table) -> list[ObservationPoint]:
        """The observation points by interface and ifindex; `table` comes to refer to them in this order."""
        pairs, rank = self._points.ranked()
        points = []
        for index, ifindex in pairs:
            interface = self.interfaces[index]
            name = f"if{ifindex}" if ifindex >= 0 else interface.name or ("any" if len(self.interfaces) == 1 else f"interface {index}")
            points.append(ObservationPoint(self.node, name, ifindex, self.file, interface.link_type, interface.resolution_ns))
        table["point"] = rank[table["point"]]
        return points
