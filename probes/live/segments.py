"""Packets on disk: pcapng files that follow one another, each whole on its own, under a budget; a full disk costs packets, never a file.

What could not be written is counted, and said in the header of the segment that comes after the gap.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from probes.live.blockfile import BlockFile
from probes.live.budget import Budget, Closed
from probes.live.pcapng import InterfaceCounters, InterfaceDescription, interface_description, interface_statistics, tally, whole_blocks
from probes.schema import Array

FULL = {errno.ENOSPC: "disk full", errno.EDQUOT: "disk quota reached"}
BUDGET = "disk budget reached"
RETRY_NS = 1_000_000_000  # after a refusal, by the packets' own time: a full disk is not asked at every write
STATISTICS_BYTES = 112  # of one interface, at most; room for them is kept
PARTS = 8  # a segment is at most this part of what there is room for: deleting the oldest must leave the rest
SMALLEST_BYTES = 1 << 16
NOTHING: Array = np.empty(0, "u1")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a segment ends: at a size, or when a packet comes so much later than its first."""

    segment_bytes: int = 1 << 26
    segment_ns: int = 60_000_000_000


@dataclass(slots=True)
class _Gap:
    """Packets that were not written, for one reason."""

    frames: int
    first_ns: int
    last_ns: int


class Segments:
    """Writes `folder`/000001.pcapng and so on, after those that are there; `prefix` goes before the number.

    `section` makes the section header, given `comments=` for it: `partial(section_header, …)`. `counters` is asked at each segment's end
    what was counted before packets came here, by interface number, since the recording began. `say` is told about every gap, in one line
    when it is over. OSError where the folder cannot be written to; no later method raises one.
    """

    def __init__(
        self, folder: Path, section: Callable[..., bytes], budget: Budget, limits: Limits | None = None, *, prefix: str = "",
        counters: Callable[[], Mapping[int, InterfaceCounters]] = dict, say: Callable[[str], None] = lambda _line: None,
    ) -> None:  # fmt: skip
        self._folder, self._prefix, self._section, self._budget = folder, prefix, section, budget
        self._counters, self._say = counters, say
        self.reasons: dict[str, int] = {}  # why packets were dropped, and how many
        self._seen = self._bytes = self._files = 0
        self._numbers: dict[InterfaceDescription, int] = {}
        self._descriptions: list[bytes] = []
        self._description_bytes = 0
        self._written: Array = np.zeros(16, "i8")  # packets by interface
        self._dropped: Array = np.zeros(16, "i8")
        self._told: dict[int, InterfaceCounters] = {}  # what statistics have said so far,
        self._told_ns = self._last_ns = 0  # up to when; time of the latest packet
        self._gaps: dict[str, _Gap] = {}
        self._removed = 0  # packets in open segments that somebody deleted
        self._why, self._refused_ns = "", -RETRY_NS  # the last refusal
        folder.mkdir(parents=True, exist_ok=True)
        self._number = self._adopt()
        room = min(budget.limit_bytes or 1 << 62, shutil.disk_usage(folder).free + budget.used) // PARTS
        limits = limits or Limits()
        self._segment_bytes, self._segment_ns = min(limits.segment_bytes, max(room, SMALLEST_BYTES)), limits.segment_ns
        self._segment: BlockFile | None = None
        self._open()
        self._append(NOTHING, 0, 0, 0)

    def _adopt(self) -> int:
        """Count what an earlier recording left in the folder into the budget; the highest number there."""
        name, last = re.compile(re.escape(self._prefix) + r"(\d+)\.pcapng"), 0
        for path in self._folder.iterdir():
            if numbered := name.fullmatch(path.name):
                status, last = path.stat(), max(last, int(numbered[1]))
                self._budget.adopt(Closed(status.st_mtime_ns, path, status.st_size))
        return last

    def _create(self) -> BlockFile:
        """The next file, whose number nobody has."""
        while True:
            self._number += 1
            try:
                return BlockFile(self._folder / f"{self._prefix}{self._number:06}.pcapng")
            except FileExistsError:
                continue

    def interface(self, description: InterfaceDescription) -> int:
        """The number of an observation point, the same in every segment."""
        number = self._numbers.setdefault(description, len(self._numbers))
        if number == len(self._descriptions):
            self._descriptions.append(interface_description(description))
            self._description_bytes += len(self._descriptions[-1])
            if number == len(self._written):
                self._written, self._dropped = (np.concatenate([each, np.zeros_like(each)]) for each in (self._written, self._dropped))
        return number

    def write(self, blocks: Array) -> int:
        """Write `blocks` (u1), whole enhanced packet blocks of numbered interfaces; how many are on disk, the others are dropped."""
        counts = np.zeros_like(self._written)
        frames, first_ns, last_ns = tally(blocks, counts)
        self._seen += frames
        self._told_ns, self._last_ns = self._told_ns or first_ns, max(self._last_ns, last_ns)
        end, written, why = 0, 0, ""
        while end < len(blocks) and not why:
            kept, why = self._append(blocks[end:], frames - written, first_ns, last_ns)
            if kept == len(blocks):  # nearly always: there is no need to look at them again
                self._written += counts
                return frames
            written += tally(blocks[end : end + kept], self._written)[0]
            end += kept
        if why:
            self._drop(blocks[end:], why)
        return written

    def _drop(self, blocks: Array, why: str) -> None:
        frames, first_ns, last_ns = tally(blocks, self._dropped)
        self.reasons[why] = self.reasons.get(why, 0) + frames
        gap = self._gaps.setdefault(why, _Gap(0, first_ns, last_ns))
        gap.frames, gap.first_ns, gap.last_ns = gap.frames + frames, min(gap.first_ns, first_ns), max(gap.last_ns, last_ns)

    def counters(self) -> dict[str, int]:
        """Packets: seen == written + dropped. Of those written, `removed` were in an open segment that somebody deleted."""
        return {
            "seen": self._seen, "written": int(self._written.sum()), "dropped": sum(self.reasons.values()), "removed": self._removed,
            "bytes": self._bytes, "files": self._files, "deleted_files": self._budget.deleted,
        }  # fmt: skip

    def close(self) -> None:
        """End the open segment. A gap that no header has told is told in one more, if there is room."""
        if self._segment or self._gaps:
            self._append(NOTHING, 0, 0, 0)
        self._finish()
        self._tell_gaps()

    def _append(self, blocks: Array, frames_in_all: int, first_ns: int, last_ns: int) -> tuple[int, str]:
        """Write the first of `blocks`, or only what introduces them: `(bytes of them that are on disk, why there can be no more)`.

        `blocks` are `frames_in_all` packets; the times are those of all that is to be written now.
        """
        if self._budget.stopped:
            return 0, self._refuse(BUDGET, last_ns)
        if abs(last_ns - self._refused_ns) < RETRY_NS:
            return 0, self._why
        while True:
            try:
                segment = self._open()
            except OSError as error:
                return 0, self._refuse(_reason(error), last_ns)
            head, held = self._head(segment), STATISTICS_BYTES * len(self._descriptions)
            most = max(self._segment_bytes, 2 * (self._description_bytes + held))  # half of it for packets, however many interfaces
            room = most - segment.size - len(head) - held
            end, frames = (len(blocks), frames_in_all) if room >= len(blocks) else whole_blocks(blocks, 0, room)
            late = last_ns - segment.first_ns >= self._segment_ns
            if len(blocks) and segment.frames and (late or not frames):
                self._finish()
                continue
            if len(blocks) and not frames:  # larger than a segment: it gets one for itself
                end, frames = int(blocks[4:8].view("u4")[0]), 1
            need = len(head) + end + held - segment.held
            if not self._budget.take(need):
                if segment.frames and not self._budget.stopped:
                    self._finish()  # now it can be deleted, if nothing else can
                    continue
                return 0, self._refuse(BUDGET, last_ns)
            try:
                kept = segment.append(head, blocks[:end])
            except OSError as error:
                self._budget.give(need)
                if error.errno in FULL and self._budget.delete_oldest():
                    continue
                if error.errno in FULL and segment.frames and self._budget.when_full == "delete":
                    self._finish()
                    continue
                return 0, self._refuse(_reason(error), last_ns)
            self._budget.give(end - kept)
            self._bytes += len(head) + kept
            segment.first_ns = segment.first_ns or first_ns
            segment.frames += frames if kept == end else whole_blocks(blocks, 0, kept)[1]
            segment.described, segment.held = len(self._descriptions), held
            self._tell_gaps()
            return kept, ""

    def _open(self) -> BlockFile:
        """The segment to write to. OSError where there is none and none can be made."""
        if self._segment and self._segment.removed():
            self._removed += self._segment.frames
            self._say(f"{self._segment.path.name} was deleted while it was written: its {self._segment.frames} packets are gone")
            self._budget.give(self._segment.size + self._segment.held)
            self._segment.size = 0
            self._segment.close()
            self._segment = None
        if self._segment is None:
            self._folder.mkdir(exist_ok=True)
            self._segment = self._create()
            self._files += 1
        return self._segment

    def _head(self, segment: BlockFile) -> bytes:
        """What has to stand before the next packets: the header of a new segment, interfaces that it does not know yet."""
        header = b""
        if not segment.size:
            comments = [_gap_line(why, gap) for why, gap in self._gaps.items()]
            if self._budget.deleted:
                until = _clock(self._budget.deleted_until_ns)
                comments.append(f"{self._budget.deleted} older files were deleted to make room: what they held, until {until}, is missing")
            header = self._section(comments=comments)
        return header + b"".join(self._descriptions[segment.described :])

    def _tell_gaps(self) -> None:
        for why, gap in self._gaps.items():
            self._say(_gap_line(why, gap))
        self._gaps.clear()

    def _refuse(self, why: str, now_ns: int) -> str:
        """End the open segment, and rest."""
        self._why, self._refused_ns = why, now_ns
        self._finish()
        return why

    def _finish(self) -> None:
        """Close the open segment behind its statistics, or without them where there is no room: then they come with the next one's."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        counted = self._counted(segment.described)
        blocks = [
            interface_statistics(number, since, start_ns=self._told_ns, end_ns=self._last_ns) for number, (_, since) in counted.items()
        ]
        before = segment.size
        with contextlib.suppress(OSError):
            segment.append(b"".join(blocks), NOTHING)
            self._told |= {number: total for number, (total, _) in counted.items()}
            self._told_ns = self._last_ns
        segment.close()
        self._bytes += segment.size - before
        self._budget.give(segment.held - (segment.size - before))
        if segment.size:
            self._budget.closed(Closed(self._last_ns, segment.path, segment.size))
        else:
            self._number -= 1
            self._files -= 1

    def _counted(self, described: int) -> dict[int, tuple[InterfaceCounters, InterfaceCounters]]:
        """Of the interfaces that counted something since the last statistics: the totals, and how much they grew."""
        before, counted = self._counters(), {}
        for number in range(described):
            outside = before.get(number, InterfaceCounters())
            dropped = (outside.dropped_by_system or 0) + int(self._dropped[number])
            total = replace(outside, dropped_by_system=dropped, delivered=int(self._written[number]))
            told = astuple(self._told.get(number, InterfaceCounters()))
            since = [None if now is None else now - (then or 0) for now, then in zip(astuple(total), told, strict=True)]
            if any(since):
                counted[number] = total, InterfaceCounters(*since)
        return counted


def _reason(error: OSError) -> str:
    return FULL.get(error.errno or 0) or os.strerror(error.errno or 0).lower()


def _clock(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}.{time_ns % 10**9:09}Z"


def _gap_line(why: str, gap: _Gap) -> str:
    return f"dropped {gap.frames} packets from {_clock(gap.first_ns)} to {_clock(gap.last_ns)}: {why}"
