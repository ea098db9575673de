"""Several threads read one file: each in turn takes the next chunk of it, then all work on theirs, and what they find keeps its order.

A chunk is found by whoever decodes it, so that its bytes are in that core's cache. Compiled code holds no lock of Python's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

MOST = 4  # finding a chunk takes a quarter of the time, and only one does it at a time
LANES = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST)

Lane = TypeVar("Lane")  # what one thread works in
Chunk = TypeVar("Chunk")


class Lanes(Generic[Lane, Chunk]):
    """Runs four steps on every chunk, in as many threads as there are LANES, this one among them; a lane has one chunk at a time.

    `take(lane)` gives the next chunk, None after the last: never two at once. `work(lane, chunk)` is done side by side. Then
    `place(lane, chunk)` comes in the order of the chunks; before one of which `moves(lane)` is true, every `finish` has ended.
    `finish(lane, chunk, placed)` gets what `place` returned, and is done side by side again.
    """

    def __init__(
        self,
        new_lane: Callable[[], Lane],
        take: Callable[[Lane], Chunk | None],
        work: Callable[[Lane, Chunk], None],
        moves: Callable[[Lane], bool],
        place: Callable[[Lane, Chunk], int],
        finish: Callable[[Lane, Chunk, int], None],
    ) -> None:
        self._new_lane, self._take, self._work, self._moves, self._place, self._finish = new_lane, take, work, moves, place, finish
        self._lanes: list[Lane] = []
        self._turn = threading.Lock()
        self._taken = 0
        self._change = threading.Condition()  # guards what follows
        self._placed = 0
        self._finishing = 0
        self._stopped = False

    def run(self) -> None:
        """Until there are no more chunks; raises what any step raised. Other threads start with the second chunk: most files have one.

        If more chunks come later, it may be called again.
        """
        if not self._step(self._lane(0)):
            return
        with ThreadPoolExecutor(max(LANES - 1, 1), "hopline-decode") as others:
            helpers = [others.submit(self._steps, self._lane(number)) for number in range(1, LANES)]
            self._steps(self._lane(0))
        for helper in helpers:
            helper.result()

    def _lane(self, number: int) -> Lane:
        if number == len(self._lanes):
            self._lanes.append(self._new_lane())
        return self._lanes[number]

    def _steps(self, lane: Lane) -> None:
        try:
            while self._step(lane):
                pass
        except BaseException:
            with self._change:
                self._stopped = True
                self._change.notify_all()
            raise

    def _step(self, lane: Lane) -> bool:
        """One chunk; False where there is none, or another thread failed."""
        with self._turn:
            number = self._taken
            chunk = None if self._stopped else self._take(lane)
            if chunk is None:
                return False
            self._taken += 1
        self._work(lane, chunk)
        with self._change:
            self._change.wait_for(lambda: self._placed == number or self._stopped)
            if self._moves(lane):
                self._change.wait_for(lambda: self._finishing == 0 or self._stopped)
            if self._stopped:
                return False
            placed = self._place(lane, chunk)
            self._placed += 1
            self._finishing += 1
            self._change.notify_all()
        self._finish(lane, chunk, placed)
        with self._change:
            self._finishing -= 1
            self._change.notify_all()
        return True
