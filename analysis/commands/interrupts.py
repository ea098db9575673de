"""Ctrl-C, once, twice and three times; and what others end a command by."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Protocol, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_INTERRUPTED = 130
_STEPS = (
    "ending the recording; what was recorded is fetched (Ctrl-C again to drop it)",
    "cleaning up; nothing more is fetched (Ctrl-C again to leave at once)",
    "left without cleaning up: recorders end by themselves, and agents delete their recordings later",
)


def end_tidily() -> None:
    """Have SIGTERM and SIGHUP end this process as Ctrl-C does: what it has in temporary folders goes with it.

    Processes that it forks have nothing to tidy, and end at once.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has one of them ignored
            signal.signal(number, _end)
    os.register_at_fork(after_in_child=_end_at_once)


def _end(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # tidying up is not disturbed
    sys.exit(128 + number)


def _end_at_once() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


class Said(Protocol):
    """Who tells the operator."""

    def note(self, event: str, **told: object) -> None:
        """Tell an event."""


class Interrupts:
    """The first signal sets `stop`, the second `abandon` too, the third ends the process."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self._number = 0
        self.stop, self.abandon = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _signal: int, _frame: object) -> None:
        number, self._number = self._number, self._number + 1  # first of all: the next signal may come before this handler is over
        # Not in this thread, which may hold a lock that the step takes.
        threading.Thread(target=self._step, args=(number,), daemon=True).start()

    def _step(self, number: int) -> None:
        (self.stop if number == 0 else self.abandon).set()
        self._said.note("interrupted", what=_STEPS[min(number, len(_STEPS) - 1)])
        if number >= len(_STEPS) - 1:
            os._exit(EXIT_INTERRUPTED)  # threads may be waiting for a server that does not answer
