"""Several threads read one file: each in turn takes the next chunk of it, then all work on theirs, and what they find keeps its order.

A chunk is mostly read, and always found, by whoever decodes it, so that its bytes are in that core's cache. Compiled code holds no lock of
Python's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from probes.processors import PROCESSORS

MOST = 4  # finding a chunk takes an eighth of the time, and only one does it at a time
LANES = min(PROCESSORS, MOST)

Lane = TypeVar("Lane")  # what one thread works in
Chunk = TypeVar("Chunk")


class Lanes(Generic[Lane, Chunk]):
    """Runs four steps on each chunk, in as many threads as there are LANES, this one among them; a lane has one chunk at a time.

    `new_lane(begin)` makes a lane; `begin` is from 0 to 1, another one for each. `prepare()` comes first, at any time. `take(lane)` gives
    the next chunk, None after the last: never two at once; `last(chunk)` is true where that is known to be the last. `work(lane, chunk)` is
    done side by side. Then `place(lane, chunk)` comes in the order of the chunks; before one of which `moves(lane)` is true, every
    `finish` has ended. `finish(lane, chunk, placed)` gets what `place` returned, and is done side by side again.
    """

    def __init__(
        self,
        new_lane: Callable[[float], Lane],
        prepare: Callable[[], None],
        take: Callable[[Lane], Chunk | None],
        last: Callable[[Chunk], bool],
        work: Callable[[Lane, Chunk], None],
        moves: Callable[[Lane], bool],
        place: Callable[[Lane, Chunk], int],
        finish: Callable[[Lane, Chunk, int], None],
    ) -> None:
        self._new_lane, self._prepare, self._take, self._last, self._work = new_lane, prepare, take, last, work
        self._moves, self._place, self._finish = moves, place, finish
        self._lanes: list[Lane] = []
        self._turn = threading.Lock()
        self._taken = 0
        self._change = threading.Condition()  # guards what follows
        self._placed = 0
        self._finishing = 0
        self._stopped = False

    def run(self) -> None:
        """Until there are no more chunks; raises what any step raised. If more chunks come later, it may be called again.

        Other threads begin when one chunk has been taken and is not the `last`: most files have one.
        """
        if not self._lanes:
            self._lanes = [self._new_lane(number / LANES) for number in range(LANES)]
        first, *others = self._lanes
        taken = self._take_next(first)
        if not taken:
            return
        helpers: list[Future[None]] = []
        with ThreadPoolExecutor(max(len(others), 1), "hopline-decode") as threads:
            if not self._last(taken[1]):
                helpers = [threads.submit(self._steps, lane) for lane in others]
            self._steps(first, taken)
        for helper in helpers:
            helper.result()

    def _steps(self, lane: Lane, taken: tuple[int, Chunk] | None = None) -> None:
        try:
            taken = taken or self._take_next(lane)
            while taken and self._step(lane, *taken):
                taken = self._take_next(lane)
        except BaseException:
            with self._change:
                self._stopped = True
                self._change.notify_all()
            raise

    def _take_next(self, lane: Lane) -> tuple[int, Chunk] | None:
        """The next chunk and its number; None where there is none, or another thread failed."""
        self._prepare()
        with self._turn:
            chunk = None if self._stopped else self._take(lane)
            if chunk is None:
                return None
            self._taken += 1
            return self._taken - 1, chunk

    def _step(self, lane: Lane, number: int, chunk: Chunk) -> bool:
        """Everything else of one chunk; False where another thread failed."""
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
