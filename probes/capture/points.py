"""Numbers for observation points: a capture's rows know an interface of the file and perhaps an interface index in the kernel."""

from __future__ import annotations

import numpy as np

from probes.jit import bare, place, wide
from probes.schema import Array

PLACES = 1 << 10  # four times as many as a node has interfaces; doubled where there are more


@bare
def _number(points: Array, ifindexes: Array, first: int, places: Array, pairs: Array, count: int) -> tuple[int, int]:
    """Number the rows from `first` on; `(how far it came, how many pairs there are then)`: not to the end where `pairs` is full.

    `places` has the number of each pair, -1 elsewhere: at the place that its bits give, or the next free one. A power of two of them,
    twice as many as `pairs` has room for.
    """
    for row in range(first, len(points)):
        pair = (wide(points[row]) << 32) | (ifindexes[row] + 1)
        here = place((pair ^ (pair >> 32)) & (len(places) - 1))
        while places[here] >= 0 and pairs[place(places[here])] != pair:
            here = place((here + 1) & (len(places) - 1))
        if places[here] < 0:
            if count == len(pairs):
                return row, count
            places[here], pairs[count] = count, pair
            count += 1
        points[row] = places[here]
    return len(points), count


class PointNumbers:
    """Numbers every (interface of the file, ifindex or -1) pair in the order they appear."""

    def __init__(self) -> None:
        self._count = 0
        self._places: Array = np.full(PLACES, -1, "i8")
        self._pairs: Array = np.empty(PLACES // 2, "i8")

    def number(self, points: Array, ifindexes: Array) -> None:
        """Replace the interfaces in `points` (uint32), together with the `ifindexes` (int64) beside them, by the numbers of such pairs."""
        row = 0
        while True:
            row, self._count = _number(points, ifindexes, row, self._places, self._pairs, self._count)
            if row == len(points):
                return
            self._grow()

    def _grow(self) -> None:
        known = self._pairs
        self._places, self._pairs, self._count = np.full(2 * len(self._places), -1, "i8"), np.empty(2 * len(known), "i8"), 0
        self.number((known >> 32).astype("u4"), (known & 0xFFFF_FFFF) - 1)

    def pairs(self) -> list[tuple[int, int]]:
        """The pairs so far, in the order of their numbers."""
        return [(pair >> 32, (pair & 0xFFFF_FFFF) - 1) for pair in self._pairs[: self._count].tolist()]
