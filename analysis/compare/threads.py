"""Work of many pieces, none of which needs another's result, by a thread for each processor: kernels and random numbers hold up none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from probes.processors import PROCESSORS

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]  # how many are done, of how many
Steps = Callable[[str, int, int], None]  # the same, of what


def side_by_side(work: Callable[[Piece], Result], pieces: Sequence[Piece], progress: Progress) -> list[Result]:
    """What `work` gives for each of `pieces`, in their order."""
    found = []
    with ThreadPoolExecutor(PROCESSORS, "hopline-compare") as pool:
        for result in pool.map(work, pieces):
            found.append(result)
            progress(len(found), len(pieces))
    return found


def untold(_done: int, _total: int) -> None:
    """Nobody watches."""


def unseen(_what: str, _done: int, _total: int) -> None:
    """The same, of steps."""
