"""Captures cut into shares, so that any number of workers have as much to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

REPEATED = 1 / 4  # of the time that a capture takes, about: who has a share of it decodes all of it, or all before
GOLDEN = (5**0.5 - 1) / 2  # its multiples, less whole numbers, are spread evenly between 0 and 1 however many there are


@dataclass(frozen=True, slots=True)
class Share:
    """From `first` up to `end` of the capture of that number, which has `of`: bytes, or frames."""

    capture: int
    first: int
    end: int
    of: int

    def has(self, block: int) -> bool:
        """Whether that block of a capture is in this share; every block is in one, whatever is not known yet about how many there are."""
        return self.first <= block * GOLDEN % 1 * self.of < self.end


def shares(sizes: Sequence[int], workers: int) -> list[Share]:
    """Captures of these `sizes`, one behind the other, cut into equal stretches for so many `workers`; longest shares first.

    Where a cut would leave little of a capture, there is none: reading twice would take longer.
    """
    bounds = [*accumulate(sizes, initial=0)]
    found = []
    for capture, (begin, end) in enumerate(pairwise(bounds)):
        near = min(end - begin, bounds[-1] / workers) * REPEATED
        cuts = [cut for cut in (bounds[-1] * each // workers for each in range(1, workers)) if begin + near < cut < end - near]
        found += [Share(capture, first - begin, last - begin, end - begin) for first, last in pairwise([begin, *cuts, end])]
    return sorted(found, key=lambda share: share.first - share.end)


def in_order(found: Sequence[Share]) -> list[Share]:
    """Shares as what they have stands in the captures."""
    return sorted(found, key=lambda share: (share.capture, share.first))
