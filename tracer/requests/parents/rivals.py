"""Calls that compete for the same requests, directly or through others: nothing of one such group tells anything of another.

So each is matched by itself, several at a time where there are processors for it: the answer is the same for any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from probes.processors import in_threads
from probes.schema import Array

Share = TypeVar("Share")
Result = TypeVar("Result")
LEAST_AT_ONCE = 2000  # pairs, for a thread


@dataclass(frozen=True, slots=True)
class Rivals:
    """`label` is the first call (int64) of each call's group.

    `pairs` are those of one group behind those of another, the largest first, in each of them by call; `bounds` is where each group begins,
    and the last one ends.
    """

    label: Array
    pairs: Array
    bounds: Array

    def groups(self) -> list[Array]:
        """The pairs of each group."""
        return [self.pairs[begin:end] for begin, end in pairwise(self.bounds.tolist())]

    def turns(self) -> list[Array]:
        """`bounds` of the groups that a thread takes at a time."""
        cuts = np.flatnonzero(np.diff(self.bounds[:-1] // LEAST_AT_ONCE, prepend=-1)).tolist()
        return [self.bounds[first : last + 1] for first, last in pairwise([*cuts, len(self.bounds) - 1])]


def rivals(call: Array, slot: Array, exclusive: Array) -> Rivals:
    """Who competes: of pairs sorted by `call`, exclusive calls (bool) that have a `slot` in common."""
    label = labels(call, slot, exclusive)
    mine = label[call]
    pairs = np.lexsort((mine, -np.bincount(mine, minlength=len(label))[mine]))
    return Rivals(label, pairs, np.flatnonzero(np.diff(mine[pairs], prepend=-1, append=-1)))


def labels(call: Array, slot: Array, exclusive: Array) -> Array:
    """For each call (int64) the first call of its group: those that exclude one another, directly or through others."""
    label = np.arange(len(exclusive))
    contested = np.flatnonzero(exclusive[call])
    lowest = np.empty(int(slot.max(initial=-1)) + 1, "i8")
    while True:
        lowest[:] = len(label)
        np.minimum.at(lowest, slot[contested], label[call[contested]])
        lower = label.copy()
        np.minimum.at(lower, call[contested], lowest[slot[contested]])
        if (lower == label).all():
            return label
        label = lower


def side_by_side(work: Callable[[Share], Result], shares: Sequence[Share], pairs: int = LEAST_AT_ONCE) -> list[Result]:
    """What the `work` gives for each of all shares, none of which writes to what is another's; by one thread if `pairs` are few."""
    return in_threads(work, shares, 1 + pairs // LEAST_AT_ONCE)
