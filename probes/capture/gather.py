"""What the readers of both file formats fill: the frames they find, a chunk at a time, and what the file says about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from probes.capture import records
from probes.capture.records import FRAME, INTERFACE, NO_TIME, NOWHERE, UNDECIDED, Interface
from probes.capture.stream import ByteWindow
from probes.decode import LINK_TYPES
from probes.schema import Array, ObservationPoint, Problem, Table

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


@dataclass(frozen=True, slots=True)
class CapturePieces:
    """What `read_pieces` returns. Each of `tables` (OBSERVATIONS) is read when it is asked for, and its asker's own.

    `points` are those of all tables so far, in the order in which they first appear. `statistics` are of what has been read so far,
    `problems` are there after the last table.
    """

    tables: Iterator[Table]
    points: list[ObservationPoint]
    statistics: CaptureStatistics
    problems: list[Problem]


class Gatherer:
    """The state of reading one file: its bytes, the interfaces so far, the frames of this chunk, what the file says about itself.

    Who wants something of the frames goes through `walk(gatherer)`: each of its steps says how many of `frames` are the next ones.
    """

    def __init__(self, window: ByteWindow) -> None:
        self.window, self.file = window, window.file
        self.interfaces: list[Interface] = []
        self.clocks: Array = np.zeros(8, INTERFACE)
        self.frames: Array = np.zeros(records.FRAMES_PER_CHUNK, FRAME)
        self.statistics = CaptureStatistics()
        self.drops: dict[int, int] = {}  # by interface
        self._problems: list[Problem] = []
        self._problems_beyond = 0
        self._comments_beyond = 0
        self._left_out = 0
        self._left_out_at = (0, 0)  # frames before the first one, and its offset

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

    def told(self) -> list[Problem]:
        """All problems of the file. To be called once, at its end."""
        self._report_limits()
        if self.drops:
            self.statistics.dropped = sum(self.drops.values())
        return [*self.window.problems, *self._problems]

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
