"""One node's agent, spoken to through the API server: patient with connections that break, and with nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tracer.live.api import Api, Backoff
from tracer.live.collecting.agents import Agent
from tracer.live.errors import BusyError, ClusterError, UnreachableError
from tracer.live.executing import OUTPUT

LONGEST_LINE_BYTES = 1 << 20
MOST_LINES = 100_000  # of one answer
WORDS_BYTES = 2000  # of what a command says on standard error, the last
_STRANGER = "is this hopline's agent, and of this version?"
Given = TypeVar("Given")
Tick = Callable[[], None]


class AgentError(ClusterError):
    """The agent could not do what it was asked for."""


class Link:
    """Commands to one agent. `tick` is called often while there is something to wait for, and may raise to end the waiting."""

    def __init__(self, api: Api, agent: Agent, tick: Tick, patience_seconds: float, backoff: Backoff) -> None:
        self._api, self.agent, self._tick, self._backoff = api, agent, tick, backoff
        self._patience_seconds = patience_seconds
        self._until = 0.0

    def be_patient(self, seconds: float) -> None:
        """A connection that breaks before `seconds` from now, and the usual time on top, is always tried again."""
        self._until = time.monotonic() + seconds + self._patience_seconds

    def output(self, *words: str, tick: Tick | None = None) -> Iterator[bytes]:
        """What `hopline agent WORDS` writes, as it comes. Raises a `ClusterError`; AgentError where the command says that it failed."""
        execution = self._api.execute(self.agent.namespace, self.agent.pod, self.agent.container, ["hopline", "agent", *words])
        errors = b""
        for channel, content in execution.pieces(tick or self._tick):
            if channel == OUTPUT:
                self._until = max(self._until, time.monotonic() + self._patience_seconds)
                self._backoff.reset()
                yield content
            else:
                errors = (errors + content)[-WORDS_BYTES:]
        if execution.code:
            said = " ".join(errors.decode(errors="replace").split())
            what = f"{self.agent.node}: hopline agent {words[0]} ended with {execution.code}: {said or 'no word why'}"
            raise AgentError(what, "the agent's image and this hopline should be of one version")

    def lines(self, *words: str, tick: Tick | None = None) -> Iterator[bytes]:
        """`output`, line by line, each with its newline."""
        pending = b""
        for content in self.output(*words, tick=tick):
            *whole, pending = (pending + content).split(b"\n")
            yield from (line + b"\n" for line in whole)
            if len(pending) > LONGEST_LINE_BYTES:
                raise AgentError(f"{self.agent.node}: a line without end", _STRANGER)
        if pending:
            yield pending

    def ask(self, *words: str) -> dict[str, Any]:
        """The one JSON object that `hopline agent WORDS` answers with. Asked again where the connection broke."""
        return self.patiently(lambda: self.objects(*words)[-1])

    def objects(self, *words: str) -> list[dict[str, Any]]:
        """The JSON objects of all lines, one at least."""
        found = []
        for line in self.lines(*words):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise AgentError(f"{self.agent.node}: hopline agent {words[0]} answers no JSON: {error}", _STRANGER) from error
            if len(found) > MOST_LINES or not isinstance(found[-1], dict):
                raise AgentError(f"{self.agent.node}: hopline agent {words[0]} answers too much, or something else", _STRANGER)
        if not found:
            raise UnreachableError(f"{self.agent.node}: hopline agent {words[0]} gave no answer", "it is asked again")
        return found

    def patiently(self, attempt: Callable[[], Given]) -> Given:
        """`attempt`, again and again while connections break, until nothing was heard for the time that this link is patient."""
        self._until = max(self._until, time.monotonic() + self._patience_seconds)
        while True:
            try:
                return attempt()
            except (UnreachableError, BusyError) as error:
                if time.monotonic() > self._until:
                    raise
                pause = max(self._backoff.seconds(), error.after_seconds if isinstance(error, BusyError) else 0.0)
                self._wait(min(pause, max(self._until - time.monotonic(), 0.1)))

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._tick()
            time.sleep(min(left, 0.2))
