"""How many processors this process may use, and work that threads share on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]  # how many are done, of how many


def untold(_done: int, _total: int) -> None:
    """Nobody watches."""


def in_threads(
    work: Callable[[Piece], Result], pieces: Sequence[Piece], most: int | None = None, progress: Progress = untold
) -> list[Result]:
    """What `work` gives for each of `pieces`, in their order; none writes to what is another's.

    There are as many threads as processors, or pieces, or `most`: of use where work holds up no other (kernels, NumPy's random numbers).
    """
    threads = min(PROCESSORS, len(pieces), PROCESSORS if most is None else most)
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        found = []
        for result in map(work, pieces) if pool is None else pool.map(work, pieces):
            found.append(result)
            progress(len(found), len(pieces))
    return found
