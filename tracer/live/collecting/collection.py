"""The recording of all nodes: five phases, each on all nodes at once; a node that fails in one is left out of the next, except the last."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tracer.live.api import Api, Backoff
from tracer.live.collecting.agents import Agent
from tracer.live.collecting.fetching import fetch, offered
from tracer.live.collecting.link import Link
from tracer.live.errors import ClusterError

AT_ONCE = 256  # nodes spoken to at once: a connection and a thread each
FETCHED_AT_ONCE = 4  # a careful guest of the API server, which all that is fetched goes through
CLOCK_SECONDS = 1.0  # a node that is off by more is told
LATE_SECONDS = 0.5  # a node that begins later is told
LEAD_SECONDS = 6.0  # from the last node's answer to the first packet: recorders compile their programs meanwhile
GREETING_PATIENCE_SECONDS = 15.0
PATIENCE_SECONDS = 120.0
TELL_SECONDS = 0.5
COUNTERS = ("seen", "written", "dropped")  # packets, in what a recorder says each second and at its end

Tell = Callable[[str, Mapping[str, Any]], None]  # (node, event)


class AbandonedError(Exception):
    """The operator does not want the recording any more."""


class _StopAskedError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record: under which name on the nodes, with which options of `hopline record`, into which folder here."""

    name: str
    folder: Path
    duration_seconds: float
    options: tuple[str, ...] = ()
    lead_seconds: float = LEAD_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    backoff: Callable[[], Backoff] = Backoff


@dataclass(slots=True)
class Outcome:
    """What became of a node."""

    node: str
    clock_ns: tuple[int, int] | None = None  # the node's clock minus ours is between these
    version: str | None = None  # of hopline there
    started: bool = False
    late_seconds: float | None = None  # from the common moment to its own beginning
    code: int | None = None  # of `hopline record`
    last: dict[str, float] = field(default_factory=dict)  # the recorder's last counters: COUNTERS and others
    words: list[str] = field(default_factory=list)  # what it said that is no JSON, the last lines
    files: int = 0
    size_bytes: int = 0
    complete: bool = False  # recorded to the end, and everything fetched
    clean: bool = True  # nothing is left on the node
    problems: list[str] = field(default_factory=list)


def collect(
    api: Api,
    agents: Sequence[Agent],
    plan: Plan,
    tell: Tell = lambda _node, _event: None,
    stop: threading.Event | None = None,
    abandon: threading.Event | None = None,
) -> list[Outcome]:
    """Record on all `agents` together and fetch what they recorded into `plan.folder`, a folder for each node.

    `tell` gets events from several threads: `clock`, `started`, `progress` and whatever else recorders say, `fetching`, `fetched`,
    `failed`, `clean`. `stop` ends the recording early and keeps it; `abandon` fetches nothing more. Nodes are cleaned up in any case;
    where that fails, the outcome says so. Never raises for a node's trouble.
    """
    stop, abandon = stop or threading.Event(), abandon or threading.Event()
    nodes = [_Node(api, agent, plan, tell, stop, abandon) for agent in agents]
    gate = threading.Semaphore(FETCHED_AT_ONCE)
    with ThreadPoolExecutor(max(min(len(nodes), AT_ONCE), 1), "node") as threads:
        try:
            list(threads.map(_Node.greet, nodes))
            start_ns = time.time_ns() + round(plan.lead_seconds * 1e9)
            list(threads.map(lambda node: node.start(start_ns), nodes))
            list(threads.map(_Node.follow, nodes))
            list(threads.map(lambda node: node.fetch(gate), nodes))
        finally:
            list(threads.map(_Node.clean, nodes))
    return [node.outcome for node in nodes]


class _Node:
    """One node on its way through the phases."""

    def __init__(self, api: Api, agent: Agent, plan: Plan, tell: Tell, stop: threading.Event, abandon: threading.Event) -> None:
        self._plan, self._stop, self._abandon = plan, stop, abandon
        self._tell: Callable[[Mapping[str, Any]], None] = partial(tell, agent.node)
        self.outcome = Outcome(agent.node)
        self._greeting = Link(api, agent, self._tick, min(GREETING_PATIENCE_SECONDS, plan.patience_seconds), plan.backoff())
        self._link = Link(api, agent, self._tick, plan.patience_seconds, plan.backoff())
        self._cleaning = Link(api, agent, lambda: None, min(GREETING_PATIENCE_SECONDS, plan.patience_seconds), plan.backoff())
        self._asked_to_start = False
        self._stopped = False
        self._start_at = 0.0  # seconds since the epoch, by the node's clock
        self._told = 0.0  # when it was said how much has come

    def _tick(self) -> None:
        if self._abandon.is_set():
            raise AbandonedError("given up by the operator")

    @property
    def _going(self) -> bool:
        return not self.outcome.problems and not self._abandon.is_set()

    def _failed(self, error: Exception) -> None:
        self.outcome.problems.append(str(error))
        self._tell({"event": "failed", "what": str(error)})

    def greet(self) -> None:
        """Ask whether it is there, and what its clock shows."""
        try:
            before = time.time_ns()
            answer = self._greeting.ask("hello")
            after = time.time_ns()
        except (ClusterError, AbandonedError) as error:
            self._failed(error)
            return
        self.outcome.version = str(answer.get("version"))
        if isinstance(shown_ns := answer.get("time_ns"), int):
            self.outcome.clock_ns = (shown_ns - after, shown_ns - before)
        if self._clock_off_ns():
            low, high = (each / 1e9 for each in self.outcome.clock_ns or (0, 0))
            self._tell({"event": "clock", "from_seconds": low, "to_seconds": high})

    def _clock_off_ns(self) -> int:
        """How far the node's clock is off, 0 where it is not certain that it is by more than CLOCK_SECONDS."""
        low, high = self.outcome.clock_ns or (0, 0)
        return (low + high) // 2 if low > CLOCK_SECONDS * 1e9 or high < -CLOCK_SECONDS * 1e9 else 0

    def start(self, start_ns: int) -> None:
        """Start the recorder, to begin at `start_ns` of our clock."""
        if not self._going or self._stop.is_set():
            return
        self._start_at = (start_ns + self._clock_off_ns()) / 1e9
        options = ["--node", self.outcome.node, "--duration", f"{self._plan.duration_seconds:g}s"]
        options += ["--start-at", f"{self._start_at:.6f}", *self._plan.options]
        self._asked_to_start, self.outcome.clean = True, False
        try:
            self._greeting.ask("start", self._plan.name, "--", *options)
        except (ClusterError, AbandonedError) as error:
            self._failed(error)
            return
        self.outcome.started = True
        self._link.be_patient(max(start_ns - time.time_ns(), 0) / 1e9 + self._plan.duration_seconds)
        self._tell({"event": "started"})

    def follow(self) -> None:
        """Listen to the recorder until it ends, also when the API server is away meanwhile."""
        if not self.outcome.started or not self._going:
            return
        position = 0

        def listen() -> None:
            nonlocal position
            for line in self._link.lines("follow", self._plan.name, "--from", str(position), tick=self._tick_or_stop):
                said = _event(line)
                if said is None or "agent" not in said:
                    position += len(line)
                if said is not None and said.get("agent") == "ended":
                    self.outcome.code = said.get("code")
                    return
                self._take(line, said)

        def listen_or_stop() -> None:
            while True:
                try:
                    return listen()
                except _StopAskedError:
                    self._stopped = True
                    self._link.ask("stop", self._plan.name)

        try:
            self._link.patiently(listen_or_stop)
        except (ClusterError, AbandonedError) as error:
            self._failed(error)
            return
        if self.outcome.code != 0:
            ended = "was killed" if self.outcome.code is None else f"ended with {self.outcome.code}"
            self._failed(RuntimeError(f"{self.outcome.node}: the recorder {ended}: {' '.join(self.outcome.words) or 'no word why'}"))

    def _tick_or_stop(self) -> None:
        self._tick()
        if self._stop.is_set() and not self._stopped:
            raise _StopAskedError

    def _take(self, line: bytes, said: dict[str, Any] | None) -> None:
        if said is None:
            self.outcome.words = [*self.outcome.words, line.decode(errors="replace").strip()][-5:]
        elif "agent" not in said:
            if all(isinstance(said.get(name), int) for name in COUNTERS):
                self.outcome.last = {name: value for name, value in said.items() if isinstance(value, int | float)}
            self._tell(said)
            if said.get("event") == "recording":
                self._begins(said.get("timestamp"))

    def _begins(self, timestamp: object) -> None:
        """Compare the moment at which the recorder says that it begins with the one that it was told: both are of its clock."""
        try:
            late_seconds = datetime.fromisoformat(str(timestamp)).timestamp() - self._start_at
        except ValueError:
            return
        self.outcome.late_seconds = max(round(late_seconds, 3), 0.0)
        if late_seconds > LATE_SECONDS:
            self._tell({"event": "late", "seconds": self.outcome.late_seconds})

    def fetch(self, gate: threading.Semaphore) -> None:
        """Fetch what there is: of a recorder that failed, too."""
        if not self.outcome.started or self._abandon.is_set():
            return
        went_well = self._going
        folder = self._plan.folder / self.outcome.node
        with gate:
            try:
                if not went_well:  # it may be recording still
                    self._link.ask("stop", self._plan.name)
                files = offered(self._link, self._plan.name)
                paths = fetch(self._link, self._plan.name, files, folder, self._came)
            except (ClusterError, AbandonedError, OSError) as error:
                self._failed(error)
                paths = [path for path in folder.rglob("*") if path.is_file()]
            else:
                self.outcome.complete = went_well
        self.outcome.files, self.outcome.size_bytes = len(paths), sum(path.stat().st_size for path in paths)
        self._tell({"event": "fetched", "files": self.outcome.files, "bytes": self.outcome.size_bytes})

    def _came(self, done: int, total: int) -> None:
        if time.monotonic() - self._told > TELL_SECONDS or done == total:
            self._told = time.monotonic()
            self._tell({"event": "fetching", "bytes": done, "of": total})

    def clean(self) -> None:
        """Leave nothing on the node."""
        if not self._asked_to_start:
            return
        try:
            self._cleaning.ask("remove", self._plan.name)
        except ClusterError as error:
            remedy = f"the recorder ends by itself, and the agent deletes the recording {self._plan.name} later"
            self._failed(RuntimeError(f"{self.outcome.node} could not be cleaned up: {error}; {remedy}"))
            return
        self.outcome.clean = True
        self._tell({"event": "clean"})


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
