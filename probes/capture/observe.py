"""Frames become observations: chunk by chunk decoded (`probes.decode`) into columns, in several threads (`lanes`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from probes.capture.columns import Columns, by_size
from probes.capture.gather import Gatherer
from probes.capture.lanes import Lanes
from probes.capture.points import PointNumbers
from probes.capture.records import FRAME, NO_TIME
from probes.capture.spans import Span
from probes.capture.stream import ByteWindow
from probes.decode import VIEWS_PER_FRAME, FragmentTies, decode_frames, empty_rows, find_fragments
from probes.jit import bare, place
from probes.schema import OBSERVATIONS, Array, ObservationPoint, Problem, Table

BACKWARD_NS = 100_000_000  # packets of several CPUs may be written slightly out of order; more is a clock that was set back


@bare
def _survey(frames: Array, interfaces: Array, first_frame: int) -> tuple[int, int, int]:
    """Note in `interfaces` where one's clock goes back; `(frames without a time, frames cut short, bytes captured)`.

    Interfaces are captured apart, so a file may hold them out of each other's order.
    """
    timeless, truncated, captured = 0, 0, 0
    for index in range(len(frames)):
        frame = frames[index]
        captured += frame["captured"]
        truncated += frame["captured"] < frame["wire"]
        if frame["time_ns"] == NO_TIME:
            timeless += 1
            continue
        interface = interfaces[place(frame["interface"])]
        back = interface["last_ns"] - frame["time_ns"]
        if interface["last_ns"] != NO_TIME and back > BACKWARD_NS:
            if interface["jumps"] == 0:
                interface["jump_frame"], interface["jump_ns"] = first_frame + index, back
            interface["jumps"] += 1
        interface["last_ns"] = frame["time_ns"]
    return timeless, truncated, captured


@bare
def _count_from(outer: Array, first_row: int) -> None:
    """Have rows that are counted from 0 counted from `first_row`."""
    for index in range(len(outer)):
        if outer[index] >= 0:
            outer[index] += first_row


class _Lane:
    """What one thread decodes with."""

    def __init__(self, frames: Array, begin: float) -> None:
        self.begin = begin  # with which columns, when they are moved
        self.frames = frames
        self.rows = empty_rows(len(frames) * VIEWS_PER_FRAME)
        self.columns = by_size(self.rows)
        self.ifindexes: Array = np.empty(len(self.rows.point), "i8")
        self.pieces: Array = np.empty(len(self.rows.point), "i8")  # which rows of the chunk are fragments,
        self.fragments = 0  # so many,
        self.found = 0  # of so many rows in all,
        self.other = 0  # and frames that gave none


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Frames to decode, and what belongs to them."""

    data: Array
    span: Span  # which it is in
    frames: Array
    interfaces: Array
    first_frame: int
    share: float  # up to its end, of the table it comes into


class Observer(Gatherer):
    """Reads a file into observations. `points` are those of all tables so far, `problems` are there after the last."""

    def __init__(self, window: ByteWindow, node: str, progress: Callable[[int], None]) -> None:
        super().__init__(window)
        self.points: list[ObservationPoint] = []
        self.problems: list[Problem] = []
        self._node, self._progress = node, progress
        self._steps: Iterator[int] = iter(())
        self._ended = False
        self._timeless = 0
        self._numbers = PointNumbers()
        self._frames_per_table = self._frames_left = 0
        self._share_before = 0.0  # of the file, that is in the tables before
        self._columns = Columns(OBSERVATIONS)  # of this table
        self._first_row = 0  # of it, in the file
        self._fragments: list[Array] = []  # rows of it
        self._ties = FragmentTies()

    def tables(self, steps: Iterator[int], frames: int) -> Iterator[Table]:
        """Everything in the file, whose frames `steps` (a `walk` of this gatherer) finds, in tables of about as many `frames`.

        To be called once. At least one table; `outer` counts through all of them, and is of the same table.
        """
        self._steps, self._frames_per_table = steps, frames
        lanes = Lanes(self._lane, self.window.read_ahead, self._take, self._is_last, self._decode, self._is_full, self._place, self._store)
        ended = False
        while not ended:
            self._frames_left, self._share_before = frames, self.window.share
            lanes.run()
            self.points[:] = self._named_points()
            ended = self._ended
            if ended:
                self._report_clocks()
                self.problems[:] = self.told()
            yield self._next_table()  # which nobody here refers to

    def _next_table(self) -> Table:
        """The rows so far, but those that wait for more of the file, with which the next table begins."""
        columns, fragments = self._columns, np.concatenate([*self._fragments, np.empty(0, "i8")])
        done = self._ties.tie(columns.rows(), fragments, self._first_row)
        if self._ended:
            done = columns.size
        else:
            self._columns = Columns(OBSERVATIONS)
            self._columns.append(columns.rows(done), 0)
        self._fragments = [fragments[fragments >= done] - done]
        self._first_row += done
        return OBSERVATIONS.check(columns.table(done, more=not self._ended))

    def _lane(self, begin: float) -> _Lane:
        return _Lane(np.empty(len(self.frames), FRAME), begin)

    def _take(self, lane: _Lane) -> _Chunk | None:
        """The next frames, in the lane's own memory; None also where the table has enough."""
        if self._ended or self._frames_left <= 0:
            return None
        self.frames = lane.frames
        count = next(self._steps, 0)
        if not count:
            self._ended = True
            return None
        frames, statistics, first = lane.frames[:count], self.statistics, self.statistics.frames + 1
        timeless, truncated, captured = _survey(frames, self.clocks, first)
        self._timeless += int(timeless)
        statistics.truncated += int(truncated)  # a NumPy number where nothing is compiled
        statistics.bytes += int(captured)
        if statistics.first_ns is None:
            statistics.first_ns = int(frames["time_ns"][0])
        statistics.last_ns = int(frames["time_ns"][-1])
        statistics.frames += count
        self._frames_left -= count
        self._progress(self.window.base)
        return _Chunk(self.window.data, self.window.hold(), frames, self.clocks, first, self._share())

    def _share(self) -> float:
        """How much of this table has been found: of its frames, or of what the file has left for it."""
        of_frames, before = 1 - self._frames_left / self._frames_per_table, self._share_before
        return min(max(of_frames, (self.window.share - before) / (1 - before) if before < 1 else 1), 1)

    def _is_last(self, chunk: _Chunk) -> bool:
        return chunk.share == 1

    def _decode(self, lane: _Lane, chunk: _Chunk) -> None:
        rows = lane.rows
        lane.found, lane.other, fragments = decode_frames(
            chunk.data, chunk.frames, chunk.interfaces, chunk.first_frame, 0, rows, lane.ifindexes
        )
        self.window.release(chunk.span)
        lane.fragments = fragments and find_fragments(rows.fragment_offset[: lane.found], rows.known[: lane.found], lane.pieces)

    def _is_full(self, lane: _Lane) -> bool:
        return not self._columns.has_room(lane.found)

    def _place(self, lane: _Lane, chunk: _Chunk) -> int:
        """Which row of the table is the chunk's first."""
        self._numbers.number(lane.rows.point[: lane.found], lane.ifindexes[: lane.found])
        self.statistics.other += lane.other
        first = self._columns.reserve(lane.found, chunk.share)
        if lane.fragments:
            self._fragments.append(first + lane.pieces[: lane.fragments])
        return first

    def _store(self, lane: _Lane, _chunk: _Chunk, first_row: int) -> None:
        _count_from(lane.rows.outer[: lane.found], self._first_row + first_row)
        self._columns.move(lane.columns, lane.found, first_row, lane.begin)

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

    def _named_points(self) -> list[ObservationPoint]:
        """The observation points so far, in the order of their numbers."""
        points = []
        for index, ifindex in self._numbers.pairs():
            interface = self.interfaces[index]
            name = f"if{ifindex}" if ifindex >= 0 else interface.name or ("any" if len(self.interfaces) == 1 else f"interface {index}")
            points.append(ObservationPoint(self._node, name, ifindex, self.file, interface.link_type, interface.resolution_ns))
        return points
