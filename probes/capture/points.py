"""Numbers for observation points: a capture's rows know an interface of the file and perhaps an interface index in the kernel."""

from __future__ import annotations

import numpy as np

from probes.jit import kernel, wide
from probes.schema import Array

KNOWN = 1 << 12  # more points than a node has interfaces; with still more, numbering gets slower, not wrong


@kernel
def _look_up(interfaces: Array, ifindexes: Array, pairs: Array, known: Array, numbers: Array, found: Array, missing: Array) -> int:
    """Fill `pairs` and, from the tables `known` and `numbers`, `found`; the rows that are not there go to `missing`, which is counted."""
    count = 0
    for row in range(len(interfaces)):
        pair = (wide(interfaces[row]) << 32) | (ifindexes[row] + 1)
        place = (pair ^ (pair >> 32)) & (KNOWN - 1)
        pairs[row] = pair
        if known[place] == pair:
            found[row] = numbers[place]
        else:
            missing[count] = row
            count += 1
    return count


class PointNumbers:
    """Numbers every (interface of the file, ifindex or -1) pair in the order they appear."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        # the pairs seen last, each at the place its low bits give
        self._known_pairs: Array = np.full(KNOWN, -1, "i8")
        self._known_numbers: Array = np.zeros(KNOWN, "u4")

    def number(self, interfaces: Array, ifindexes: Array) -> Array:
        """The number of each row's pair."""
        rows = len(interfaces)
        pairs, missing, found = np.empty(rows, "i8"), np.empty(rows, "i8"), np.empty(rows, "u4")
        count = _look_up(interfaces, ifindexes, pairs, self._known_pairs, self._known_numbers, found, missing)
        if count:
            missing = missing[:count]
            new, inverse = np.unique(pairs[missing], return_inverse=True)
            numbers = np.array([self._numbers.setdefault(pair, len(self._numbers)) for pair in new.tolist()], "u4")
            found[missing] = numbers[inverse]
            place = (new ^ (new >> 32)) & (KNOWN - 1)
            self._known_pairs[place], self._known_numbers[place] = new, numbers
        return found

    def ranked(self) -> tuple[list[tuple[int, int]], Array]:
        """`(interface, ifindex)` of all pairs in ascending order, and the place in that order of each number."""
        rank = np.zeros(len(self._numbers), "u4")
        pairs = []
        for place, (pair, number) in enumerate(sorted(self._numbers.items())):
            rank[number] = place
            pairs.append((pair >> 32, (pair & 0xFFFF_FFFF) - 1))
        return pairs, rank
