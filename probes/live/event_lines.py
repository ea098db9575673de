"""A probe whose program tells events through one ring, each a line of one file: what such probes have in common, counted on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from probes.live.bpf import Program
from probes.live.budget import Budget
from probes.live.lines import Lines
from probes.live.rings import Ring
from probes.schema import Array

STATISTICS = ("seen", "submitted", "failed")  # of the programs that count in an array of that name


def counted_by_processor(program: Program) -> tuple[int, int]:
    """How many events a program saw and had no room for, where it counts in `struct counts` of sockets.c and threads.c."""
    counts = program.map("counts")[0]
    return sum(each.seen for each in counts), sum(each.dropped for each in counts)


class EventLines(ABC):
    """The part from ring to file. A probe attaches its program, hands it over, and says what its events' lines are."""

    FORM: ClassVar[np.dtype[Any]]  # of an event

    def __init__(self, program: Program, ring: str, ring_bytes: int, path: Path, budget: Budget | None) -> None:
        """Read the map `ring` of `program`, write to `path`. BpfError or OSError where that cannot be; the program is closed then."""
        self._program = program
        self._written = self._lost = 0
        self._closed: dict[str, int] | None = None
        try:
            self._ring = Ring(program.map(ring).map_fd, ring_bytes)
            self._lines = Lines(path, budget)
        except BaseException:
            program.close()
            raise

    @abstractmethod
    def _text(self, events: Array) -> Iterable[str]:
        """A line, with its newline, for each of `events` (FORM)."""

    def _detach(self) -> None:
        """See nothing more."""
        self._program.detach_all()

    def _counted(self) -> tuple[int, int]:
        """How many events the program saw, and for how many of them there was no room in the ring."""
        table = self._program.map("statistics")
        found = {name: int(table.sum(table.Key(number)).value) for number, name in enumerate(STATISTICS)}
        return found["seen"], found["failed"]

    def drain(self) -> None:
        """Write the events that are there."""
        self._write(self._ring.records(self.FORM))

    def _write(self, events: Array) -> None:
        written = self._lines.write_text(self._text(events))
        self._written += written
        self._lost += len(events) - written

    def counters(self) -> dict[str, int]:
        """Events: seen == written + dropped (ring or disk were full), once drained; after `close` the last."""
        if self._closed is not None:
            return self._closed
        seen, dropped = self._counted()
        return {"seen": seen, "written": self._written, "dropped": dropped + self._lost}

    def close(self) -> None:
        """Detach, write the last events, close the file."""
        self._detach()
        self.drain()
        self._closed = self.counters()
        self._program.close()
        self._lines.close()
