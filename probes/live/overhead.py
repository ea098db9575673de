"""What recording costs the node, and the limits to it: above one, fewer connections are kept, and when is written down."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

LEAST_SHARE = 1 / 4096
CALM_SECONDS = 10  # below half the limit for so long: twice as many connections again
STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What recording may cost; None is no limit."""

    cpu_percent: float | None = None  # of one core: this process, and its socket filters inside the kernel
    memory_bytes: int | None = None  # resident

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return self.cpu_percent is not None or self.memory_bytes is not None


@dataclass(frozen=True, slots=True)
class Shed:
    """From `time_ns` (wall) on only `share` of the connections were kept, because `limit` stood at `value`; or more again."""

    time_ns: int
    limit: str
    value: float
    share: float


@dataclass(slots=True)
class Overhead:
    """Looks at the cost once a second. `share` is what may be kept, at most `asked`."""

    ceiling: Ceiling
    asked: float
    share: float = 0.0
    cpu_percent: float = 0.0  # over the last second
    memory_bytes: int = 0
    sheds: list[Shed] = field(default_factory=list)
    _last: tuple[int, int] = (0, 0)
    _calm: int = 0

    def __post_init__(self) -> None:
        self.share = self.asked

    def check(self, time_ns: int, kernel_ns: int, keep: Callable[[float], None]) -> Shed | None:
        """Measure; `keep` another share where a limit is passed, or is far away again. `kernel_ns`: spent in socket filters so far."""
        now, spent = time.monotonic_ns(), time.process_time_ns() + kernel_ns
        (then, before), self._last = self._last, (now, spent)
        self.memory_bytes = int(STATM.read_text().split()[1]) * mmap.PAGESIZE
        self.cpu_percent = 100 * (spent - before) / max(now - then, 1) if then else 0.0
        worst, value, limit = max(self._pressures(), default=(0.0, 0.0, ""))
        if worst > 1:
            self._calm = 0
            return self._set(max(LEAST_SHARE, self.share / 2), time_ns, limit, value, keep)
        self._calm = self._calm + 1 if worst < 0.5 else 0
        if self._calm >= CALM_SECONDS and self.share < self.asked:
            self._calm = 0
            return self._set(min(self.asked, self.share * 2), time_ns, limit, value, keep)
        return None

    def _pressures(self) -> list[tuple[float, float, str]]:
        """(share of the limit, value, limit) of each limit."""
        found = []
        if self.ceiling.cpu_percent is not None:
            found.append((self.cpu_percent / self.ceiling.cpu_percent, self.cpu_percent, "max-cpu"))
        if self.ceiling.memory_bytes is not None:
            found.append((self.memory_bytes / self.ceiling.memory_bytes, float(self.memory_bytes), "max-memory"))
        return found

    def _set(self, share: float, time_ns: int, limit: str, value: float, keep: Callable[[float], None]) -> Shed | None:
        if share == self.share:
            return None
        self.share = share
        keep(share)
        self.sheds.append(Shed(time_ns, limit, round(value, 1), share))
        return self.sheds[-1]
