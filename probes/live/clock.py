"""Kernel time (CLOCK_MONOTONIC) and wall time (CLOCK_REALTIME), one fixed offset apart for a whole recording."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

STEP_NS = 500_000  # a change of the offset that is no slewing: NTP slews both clocks alike (kernel/time/timekeeping.c)
_TRIES = 7


@dataclass(frozen=True, slots=True)
class Step:
    """The wall clock was set while recording: at `monotonic_ns` at the latest, by `by_ns`."""

    monotonic_ns: int
    by_ns: int


def _offset_ns() -> int:
    """Wall minus monotonic time, read between two readings that are close together."""
    best = (1 << 62, 0)
    for _ in range(_TRIES):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        best = min(best, (after - before, wall - (before + after) // 2))
    return best[1]


@dataclass(slots=True)
class Clock:
    """Turns kernel times into wall times. A step of the wall clock moves no record: it is noticed, and told by `steps`."""

    offset_ns: int = field(default_factory=_offset_ns)
    steps: list[Step] = field(default_factory=list)
    _last_ns: int = 0

    def __post_init__(self) -> None:
        self._last_ns = self.offset_ns

    def wall_ns(self, monotonic_ns: Any) -> Any:
        """Nanoseconds since the epoch of a kernel time, or of an array of them (i8)."""
        return monotonic_ns + self.offset_ns

    def now_ns(self) -> int:
        """This moment as the recording's times have it, whatever the wall clock was set to since."""
        return time.monotonic_ns() + self.offset_ns

    def check(self) -> Step | None:
        """Look at the clock again: the step since the last look, where there was one."""
        offset_ns = _offset_ns()
        by_ns, self._last_ns = offset_ns - self._last_ns, offset_ns
        if abs(by_ns) < STEP_NS:
            return None
        self.steps.append(Step(time.monotonic_ns(), by_ns))
        return self.steps[-1]
