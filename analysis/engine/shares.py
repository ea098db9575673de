"""Captures cut into shares, so that any number of workers have as much to read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

REPEATED = 1 / 4  # of the time that a capture takes, about: who has a share of it decodes all of it
BEFORE = 1 / 5  # of what a share takes, where frames are known: to decode as many before it
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


def shares(sizes: Sequence[int], workers: int, before: float = 0) -> list[Share]:
    """Captures of these `sizes`, one behind the other, cut into stretches that take so many `workers` equally long; longest shares first.

    What is `before` a share of its capture takes so much of what it would take in the share. Where a cut would leave little of a capture,
    there is none: reading twice would take longer.
    """
    bounds = [*accumulate(sizes, initial=0)]
    all_cuts = _cuts(bounds, workers, before)
    found = []
    for capture, (begin, end) in enumerate(pairwise(bounds)):
        near = min(end - begin, bounds[-1] / workers) * REPEATED
        cuts = [cut for cut in all_cuts if begin + near < cut < end - near]
        found += [Share(capture, first - begin, last - begin, end - begin) for first, last in pairwise([begin, *cuts, end])]
    return sorted(found, key=lambda share: (1 - before) * share.first - share.end)


def _cuts(bounds: Sequence[int], workers: int, before: float) -> list[int]:
    """Where stretches begin, but the first, that take so many `workers` equally long: how long that is, is found by halving."""
    least, most, cuts = bounds[-1] / workers, float(bounds[-1]), [0.0]
    while most - least > least * 1e-9:
        each = (least + most) / 2
        cuts = [0.0]
        for _ in range(workers):
            at = cuts[-1]
            cuts.append(at + max(each - before * (at - bounds[bisect_right(bounds, at) - 1]), 0))
        least, most = (least, each) if cuts[-1] >= bounds[-1] else (each, most)
    return sorted({round(cut) for cut in cuts[1:-1]})


def in_order(found: Sequence[Share]) -> list[Share]:
    """Shares as what they have stands in the captures."""
    return sorted(found, key=lambda share: (share.capture, share.first))
