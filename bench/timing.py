"""Seconds by the clock and of processors' time, so that a figure tells what it cost also where other work was running."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Timing:
    """How long something took: by the clock, and of all processors it used (its children's too). `count` is of packets or bytes."""

    seconds: float
    cpu_seconds: float
    count: int

    def without(self, start_up: Timing) -> Timing:
        """This, less the time that it takes to start."""
        return Timing(self.seconds - start_up.seconds, self.cpu_seconds - start_up.cpu_seconds, self.count)


def _cpu_seconds() -> float:
    """Of this process and the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def timed(run: Callable[[], int]) -> Timing:
    """One run of what returns a count."""
    began, worked = time.perf_counter(), _cpu_seconds()
    count = run()
    return Timing(time.perf_counter() - began, _cpu_seconds() - worked, count)


def median(runs: list[Timing]) -> Timing:
    """The medians of several runs of one thing."""
    return Timing(statistics.median(run.seconds for run in runs), statistics.median(run.cpu_seconds for run in runs), runs[0].count)


def resident_bytes() -> int:
    """What of this process is in memory."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The most that was, since `begin_peak` or the process's start."""
    return _status_bytes("VmHWM")


def begin_peak() -> None:
    """The peak begins anew (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def _status_bytes(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
