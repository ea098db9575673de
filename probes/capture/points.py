"""Numbers for observation points: a capture's rows know an interface of the file and perhaps an interface index in the kernel."""

from __future__ import annotations

import numpy as np

from probes.jit import bare, wide
from probes.schema import Array

KNOWN = 1 << 12  # more points than a node has interfaces; with still more, numbering gets slower, not wrong


@bare
def _look_up(points: Array, ifindexes: Array, known: Array, numbers: Array, missing: Array, pairs: Array) -> int:
    """Replace `points` by what the tables `known` and `numbers` have; the rows that are not there go to `missing`, their pairs to `pairs`.

    Returns how many those are.
    """
    count = 0
    for row in range(len(points)):
        pair = (wide(points[row]) << 32) | (ifindexes[row] + 1)
        place = (pair ^ (pair >> 32)) & (KNOWN - 1)
        if known[place] == pair:
            points[row] = numbers[place]
        else:
            missing[count], pairs[count] = row, pair
            count += 1
    return count


class PointNumbers:
    """Numbers every (interface of the file, ifindex or -1) pair in the order they appear."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        # the pairs seen last, each at the place its low bits give
        self._known_pairs: Array = np.full(KNOWN, -1, "i8")
        self._known_numbers: Array = np.zeros(KNOWN, "u4")

    def number(self, points: Array, ifindexes: Array) -> None:
        """Replace the interfaces in `points` (uint32), together with the `ifindexes` (int64) beside them, by the numbers of such pairs."""
        missing, pairs = np.empty(len(points), "i8"), np.empty(len(points), "i8")
        count = _look_up(points, ifindexes, self._known_pairs, self._known_numbers, missing, pairs)
        if count:
            new, first, inverse = np.unique(pairs[:count], return_index=True, return_inverse=True)
            for pair in new[np.argsort(first)].tolist():
                self._numbers.setdefault(pair, len(self._numbers))
            numbers = np.array([self._numbers[pair] for pair in new.tolist()], "u4")
            points[missing[:count]] = numbers[inverse]
            place = (new ^ (new >> 32)) & (KNOWN - 1)
            self._known_pairs[place], self._known_numbers[place] = new, numbers

    def pairs(self) -> list[tuple[int, int]]:
        """The pairs so far, in the order of their numbers."""
        return [(pair >> 32, (pair & 0xFFFF_FFFF) - 1) for pair in self._numbers]
