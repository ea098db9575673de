"""One recording on one node: the probes that were asked for and that this kernel allows, drained in one loop into one bundle."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from probes.live.bpf import BpfError
from probes.live.budget import Budget, WhenFull
from probes.live.clock import Clock
from probes.live.journal import Journal, packet_stages
from probes.live.links import Links
from probes.live.overhead import Ceiling, Overhead
from probes.live.packets import RING_BYTES, Packets, Selection
from probes.live.pcapng import InterfaceCounters, section_header
from probes.live.probe_table import PROBES, Probe, packets_of
from probes.live.rules import dumps
from probes.live.segments import Limits, Segments

POLL_SECONDS = 0.02
LOOK_SECONDS = 1.0  # at the clock, the cost, namespaces and interfaces
WRITE_EVERY = 5  # looks
Say = Callable[..., None]  # an event's name, and what there is to tell of it


@dataclass(frozen=True, slots=True)
class Recording:
    """What is asked for."""

    folder: Path
    node: str
    probes: tuple[str, ...] = ("packets", "ledger")
    selection: Selection = field(default_factory=Selection)
    netns: tuple[str, ...] = ()  # patterns of further namespaces' files
    tc: tuple[str, ...] = ()  # interfaces whose packets are seen by a TC program
    ledger_events: bool = True
    rules: bool = True
    ceiling: Ceiling = field(default_factory=Ceiling)
    disk_bytes: int | None = None
    when_full: WhenFull = "delete"
    buffer_bytes: int = RING_BYTES
    segments: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A probe that this machine refuses, and why."""

    probe: str
    why: str


class NothingToRecordError(Exception):
    """No probe that was asked for can be had; the message has each one's reason."""


class AlreadyRecordingError(Exception):
    """Another recorder writes for a node of this name into this folder; the message has the remedy."""


class Recorder:
    """A recording that is set up: `run` it, then `close` it."""

    def __init__(self, asked: Recording, say: Say) -> None:
        """Attach the probes. NothingToRecordError where there is none; AlreadyRecordingError; OSError where nothing can be written."""
        self.asked, self._say = asked, say
        self._lock = _locked(asked.folder / asked.node)
        self.clock = Clock()
        self.budget = Budget(asked.disk_bytes, asked.when_full)
        self.probes: dict[str, Probe] = {}
        self.unavailable: list[Unavailable] = []
        self.overhead = Overhead(asked.ceiling, asked.selection.share)
        self.started_ns = self.clock.now_ns()
        self.ended_ns: int | None = None
        self._ended: dict[str, dict[str, int]] = {}
        self._gone: list[Packets] = []  # of namespaces that ended
        self.segments = Segments(
            asked.folder / asked.node, self.section, self.budget, asked.segments,
            counters=self._statistics, say=self.say_gap,
        )  # fmt: skip
        self._journal = Journal(asked.folder / f"{asked.node}.recording.json")
        self._journal.write(self.account())
        self._describe_node()
        for name, make in PROBES.items():
            if name in asked.probes:
                self._begin(name, make)
        if not self.probes:
            self.segments.close()
            raise NothingToRecordError("; ".join(f"{each.probe}: {each.why}" for each in self.unavailable))
        self._follow_namespaces()

    def _begin(self, name: str, make: Callable[[Recorder], Probe]) -> None:
        try:
            self.probes[name] = make(self)
        except (BpfError, OSError) as error:
            self.lack(name, str(error))

    def lack(self, probe: str, why: str) -> None:
        """Note that a probe cannot be had, or only in part."""
        self.unavailable.append(Unavailable(probe, why))
        self._say("unavailable", probe=probe, why=why)

    def file(self, what: str) -> Path:
        """Where a probe writes its lines."""
        return self.asked.folder / f"{self.asked.node}.{what}.jsonl"

    def say_gap(self, line: str) -> None:
        """Tell what is missing."""
        self._say("gap", told=line)

    def section(self, comments: Sequence[str]) -> bytes:
        """The header of every file of this recording, with comments."""
        system = os.uname()
        told = [f"hopline recording of node {self.asked.node}", *comments]
        return section_header(
            hardware=system.machine, system=f"{system.sysname} {system.release}", application="hopline record", comments=told
        )

    def _packets(self) -> list[Packets]:
        return [probe for probe in self.probes.values() if isinstance(probe, Packets)]

    def _statistics(self) -> dict[int, InterfaceCounters]:
        found: dict[int, InterfaceCounters] = {}
        for probe in [*self._gone, *self._packets()]:
            found |= probe.statistics()
        return found

    def _describe_node(self) -> None:
        """Interfaces with their addresses, and kube-proxy's rules."""
        links = Links()
        try:
            (self.asked.folder / f"{self.asked.node}.links.txt").write_text(links.text())
        finally:
            links.close()
        for name, text in dumps() if self.asked.rules else ():
            (self.asked.folder / f"{self.asked.node}.{name}.txt").write_text(text)

    def _follow_namespaces(self) -> None:
        """Begin with namespaces that are new; end with those that are gone: a socket in one would keep it alive."""
        if not self.asked.netns or "packets" not in self.asked.probes:
            return
        there = {Path(path) for pattern in self.asked.netns for path in glob.glob(pattern)}  # noqa: PTH207 - patterns are absolute
        known = {probe.netns: name for name, probe in self.probes.items() if isinstance(probe, Packets)}
        for path in there - known.keys():
            self._begin(f"packets in {path.name}", partial(packets_of, netns=path))
        for gone in known.keys() - there - {None}:
            self._close(known[gone])

    def run(self, stop: threading.Event, seconds: float | None = None, every: Callable[[], None] = lambda: None) -> None:
        """Record until `stop` is set, `seconds` are over, or the disk budget says so; `every` is called once a second."""
        begun = time.monotonic()
        looked, looks = begun, 0
        while not stop.is_set() and not self.budget.stopped and (seconds is None or time.monotonic() - begun < seconds):
            for name in list(self.probes):
                self._drain(name)
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked, looks = time.monotonic(), looks + 1
                self._look()
                if looks % WRITE_EVERY == 0:
                    self._journal.write(self.account())
                every()
            stop.wait(POLL_SECONDS)

    def _drain(self, name: str) -> None:
        """One probe's failure ends that probe, not the recording."""
        try:
            self.probes[name].drain()
        except (BpfError, OSError, RuntimeError, ValueError) as error:
            self.unavailable.append(Unavailable(name, f"failed while recording: {error}"))
            self._say("failed", probe=name, why=str(error))
            self._close(name)

    def _look(self) -> None:
        if step := self.clock.check():
            self._say("clock-step", by_ns=step.by_ns)
        self._follow_namespaces()
        for probe in self._packets():
            probe.look_for_interfaces()
        cost_ns = sum(probe.counters()["cost_ns"] for probe in self._packets())
        if shed := self.overhead.check(self.clock.now_ns(), cost_ns, self._keep):
            self._say("share", **asdict(shed))

    def _keep(self, share: float) -> None:
        for probe in self._packets():
            probe.keep(share)

    def stages(self) -> dict[str, dict[str, int]]:
        """By probe and stage, what was seen, written and dropped: seen == written + dropped + left_out + waiting."""
        found = {name: probe.counters() for name, probe in list(self.probes.items())} | self._ended  # asked for by /metrics too
        return found | {"segments": self.segments.counters()}

    def account(self) -> dict[str, Any]:
        """What NODE.recording.json says."""
        asked = self.asked
        stages = self.stages()
        return {
            "node": asked.node, "kernel": os.uname().release, "start_ns": self.started_ns, "end_ns": self.ended_ns,
            "complete": self.ended_ns is not None,
            "packets": packet_stages(stages), "probes": {name: counters for name, counters in stages.items() if name != "segments"},
            "unavailable": [asdict(each) for each in self.unavailable],
            "selection": asdict(asked.selection), "share": self.overhead.share, "shares": [asdict(shed) for shed in self.overhead.sheds],
            "clock_steps": [{"time_ns": int(self.clock.wall_ns(step.monotonic_ns)), "by_ns": step.by_ns} for step in self.clock.steps],
            "drop_reasons": self.segments.reasons,
        }  # fmt: skip

    def _close(self, name: str) -> None:
        probe = self.probes[name]
        with contextlib.suppress(BpfError, OSError):
            probe.close()
        self._ended[name] = probe.counters()
        del self.probes[name]
        if isinstance(probe, Packets):
            self._gone.append(probe)

    def close(self) -> dict[str, Any]:
        """End all probes, write everything; the account of the recording."""
        for name in list(self.probes):
            self._close(name)
        self.segments.close()
        self.ended_ns = self.clock.now_ns()
        told = self.account()
        self._journal.write(told)
        os.close(self._lock)
        return told


def _locked(folder: Path) -> int:
    """The descriptor that holds `folder` for this process, until it is closed or the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRecordingError(f"{folder} is being recorded into: name this node by --node, or give another folder") from None
    return descriptor
