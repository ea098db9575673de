"""How `hopline collect` tells what happens, on standard error: a bar per node on a terminal, else lines; or JSON."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from analysis.commands.logs import json_sayer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from probes.schema import Problem
    from tracer.live.collecting import Outcome

# What is said of an event, given its node's name and what it tells; an event that is not here is not said in words.
NOTES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "error": lambda told: f"{told['what']}",
    "warning": lambda told: f"warning: {told['what']}",
    "interrupted": lambda told: f"{told['what']}",
    "deploying": lambda told: f"putting agents on the nodes (namespace {told['namespace']}); they are deleted afterwards",
    "recording": lambda told: f"recording {told['name']} on {told['nodes']} nodes for {told['seconds']:g} s (Ctrl-C ends it early)",
    "endpoint": lambda told: (
        f"warning: the Service got the endpoint {told['endpoint']} {told['after_seconds']} s after the beginning: "
        "its packets were recorded only where they had the Service's address"
    ),
}
NODE_NOTES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "clock": lambda told: (
        f"its clock is off by {told['from_seconds']:+.1f} to {told['to_seconds']:+.1f} s: it begins by ours, its packets have its own time"
    ),
    "late": lambda told: f"it began {told['seconds']:.1f} s after the others (give recorders more time with --start-in)",
    "unavailable": lambda told: f"no {told.get('probe')}: {told.get('why')}",
    "failed": lambda told: str(told.get("what") or f"{told.get('probe')} ended early: {told.get('why')}"),
    "gap": lambda told: str(told.get("told")),
    "clock-step": lambda told: f"its clock was set by {told.get('by_ns', 0) / 1e9:+.3f} s meanwhile",
    "share": lambda told: f"{told.get('share', 1.0):.2%} of the connections are kept from now on: {told.get('limit')} was reached",
    "fetched": lambda told: f"{told['files']} files, {told['bytes'] / 1e6:,.1f} MB",
}
# What a bar says while it shows how far a node is.
BAR_NOTES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "started": lambda _: "getting ready",
    "recording": lambda _: "recording",
    "progress": lambda told: f"{told.get('written', 0):,} packets written, {told.get('dropped', 0):,} dropped",
    "clean": lambda _: "done",
    "fetching": lambda told: f"fetched {told['bytes'] / 1e6:,.1f} of {told['of'] / 1e6:,.1f} MB",
}


class Show:
    """What happens, in words. Called from several threads."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._until = 0.0
        self._seconds = 0.0
        self._lock = threading.Lock()

    def warn(self, problem: Problem) -> None:
        """Something that is missing."""
        self.note("warning", what=str(problem))

    def note(self, event: str, **told: Any) -> None:
        """An event of the whole."""
        if event in NOTES:
            self._print(f"hopline: {NOTES[event](told)}")

    def begin(self, name: str, nodes: Sequence[str], seconds: float) -> None:
        """The recording begins; `seconds` until it ends."""
        self.note("recording", name=name, nodes=len(nodes), seconds=seconds)
        self._seconds, self._until = seconds, time.monotonic() + seconds
        if self._bars is not None:
            self._tasks = {node: self._bars.add_task(node, total=seconds, status="") for node in nodes}

    def node(self, node: str, told: Mapping[str, Any]) -> None:
        """An event of one node."""
        event = str(told.get("event"))
        if event in NODE_NOTES:
            self._print(f"{node}: {_in_words(NODE_NOTES[event], told).removeprefix(f'{node}: ')}")
        if self._bars is not None and node in self._tasks and event in BAR_NOTES:
            recorded = self._seconds - max(self._until - time.monotonic(), 0.0)
            done, of = (told["bytes"], told["of"]) if event == "fetching" else (recorded, self._seconds)
            self._bars.update(self._tasks[node], status=_in_words(BAR_NOTES[event], told), completed=done, total=of or None)

    def end(self, outcomes: Sequence[Outcome], folder: Path) -> None:
        """What became of it."""
        if self._bars is not None:
            self._bars.stop()
        for outcome in outcomes:
            self._print(f"{outcome.node}: {summary(outcome)}")
        files, size_bytes = sum(outcome.files for outcome in outcomes), sum(outcome.size_bytes for outcome in outcomes)
        self._print(f"hopline: {files} files, {size_bytes / 1e6:,.1f} MB in {folder}" + (f" (hopline trace {folder})" if files else ""))

    def _print(self, line: str) -> None:
        line = "".join(each if each.isprintable() else "·" for each in line)  # nodes do not steer the terminal
        with self._lock:
            if self._bars is not None and self._bars.live.is_started:
                self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                typer.echo(line, err=True)


class ShowJson(Show):
    """The same as JSON lines."""

    def __init__(self, say: Callable[..., None]) -> None:
        super().__init__(None)
        self._say = say

    def note(self, event: str, **told: Any) -> None:
        """An event of the whole."""
        self._say(event, **told)

    def node(self, node: str, told: Mapping[str, Any]) -> None:
        """An event of one node."""
        self._say(str(told.get("event")), node=node, **{name: value for name, value in told.items() if name not in _OURS})

    def end(self, outcomes: Sequence[Outcome], folder: Path) -> None:
        """What became of it."""
        for outcome in outcomes:
            self._say("outcome", node=outcome.node, complete=outcome.complete, summary=summary(outcome))
        self._say("collected", folder=str(folder), bytes=sum(outcome.size_bytes for outcome in outcomes))


def _in_words(note: Callable[[Mapping[str, Any]], str], told: Mapping[str, Any]) -> str:
    """What a note makes of an event, or the event itself: what nodes say may lack anything."""
    try:
        return note(told)
    except (KeyError, TypeError, ValueError):
        return str(dict(told))


_OURS = frozenset(("event", "node", "level", "timestamp"))  # set here; a recorder's own stand in its own record


def summary(outcome: Outcome) -> str:
    """One node's outcome in a line."""
    parts = []
    if "seen" in outcome.last:
        parts.append(f"{outcome.last['seen']:,} packets seen = {outcome.last['written']:,} written + {outcome.last['dropped']:,} dropped")
    parts.append("complete" if outcome.complete else "NOT complete" if outcome.files else "NOTHING fetched")
    parts += [problem.removeprefix(f"{outcome.node}: ") for problem in outcome.problems]
    return "; ".join(parts)


@contextmanager
def shown(log: str) -> Iterator[Show]:
    """Tells what happens while the block runs."""
    if log == "json":
        yield ShowJson(json_sayer())
    elif not sys.stderr.isatty():
        yield Show(None)
    else:
        from rich.console import Console  # noqa: PLC0415 - only where somebody looks
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            yield Show(bars)
