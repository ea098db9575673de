"""Which of two sides is slower, and by how much: ranks of values that come in clusters.

Latencies have long tails, two or three modes and the clock's ticks: a mean is moved by one retransmission and a median jumps between modes.
Ranks ask the question that matters (how often is a request of B slower than one of A?), and the shift that makes it even is
Hodges and Lehmann's estimate (Ann. Math. Stat. 34, 1963): the median of all differences between one of B and one of A. Its variance is
that of placements summed by cluster (Obuchowski, Biometrics 53, 1997; without clusters DeLong 1988, Brunner & Munzel 2000), so that sides
may have different spreads. The interval holds every shift that the test does not refuse, and so cannot disagree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.compare.clusters import normal_of
from probes.schema import Array

STEPS = 60  # halvings: of any range of ns to far below one
FARTHEST = 40.0  # normal deviates; a side all above the other has no spread to measure by
ROOM = 1_000_000  # values of divisions to test at once: memory for some ten columns of float64


class Pooled:
    """Values of both sides, sorted once, so that any number of divisions of them can be tested with a few passes over the columns."""

    def __init__(self, values: Array, cluster: Array) -> None:
        """`values` (float64) and the code of the cluster of each (i8); a cluster is on one side as a whole."""
        self._order = np.argsort(values, kind="stable")
        ordered = values[self._order]
        begins = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > 0)
        sizes = np.diff(begins, append=len(ordered))
        self._low = np.repeat(begins, sizes)  # of each value, how many are smaller
        self._high = self._low + np.repeat(sizes, sizes)  # and how many are not larger
        mine = cluster[self._order]
        self._by_cluster = np.argsort(mine, kind="stable")
        self._starts = np.flatnonzero(np.diff(mine[self._by_cluster], prepend=-1))
        self._sizes = np.diff(self._starts, append=len(mine)).astype("f8")

    def tests(self, is_b: Array) -> tuple[Array, Array]:
        """Whether the values that `is_b` names are larger: (superiority, deviates), float64 per division.

        `is_b` is bool of shape (divisions, values), in the order given. Superiority is the chance that a value of B exceeds one of A (ties
        are half), deviates how far that is from 1/2, as a normal deviate: 0 where a side is worth fewer than two clusters.
        """
        second = is_b[:, self._order]
        before = np.zeros((len(is_b), second.shape[1] + 1), "i4")
        np.cumsum(second, axis=1, out=before[:, 1:])
        b = (before[:, self._low] + before[:, self._high]) / 2
        a = (self._low + self._high) / 2 - b
        n_b = before[:, -1:].astype("f8")
        n_a = second.shape[1] - n_b
        with np.errstate(divide="ignore", invalid="ignore"):  # sides without values or variance are told apart below
            placement = np.where(second, a / n_a, b / n_b)  # where each value stands among the other side's
            theta = np.where(second, placement, 0).sum(axis=1, keepdims=True) / n_b
            deviation = (placement - np.where(second, theta, 1 - theta))[:, self._by_cluster]
            sums = np.add.reduceat(deviation, self._starts, axis=1)
            side = second[:, self._by_cluster[self._starts]]
            (variance_a, free_a), (variance_b, free_b) = (self._variance(sums, each, n) for each, n in ((~side, n_a), (side, n_b)))
            variance = variance_a + variance_b
            freedom = variance**2 / (variance_a**2 / free_a + variance_b**2 / free_b)  # Welch and Satterthwaite
            z = normal_of((theta[:, 0] - 0.5) / np.sqrt(variance), freedom)
        apart = np.sign(theta[:, 0] - 0.5) * FARTHEST
        z = np.where(variance > 0, np.clip(z, -FARTHEST, FARTHEST), apart)
        return theta[:, 0], np.where(np.minimum(free_a, free_b) >= 1, z, 0.0)

    def _variance(self, sums: Array, side: Array, n: Array) -> tuple[Array, Array]:
        """Of the mean of one side's placements, from their sums by cluster; and its degrees of freedom, from Kish's number of clusters."""
        squares = (sums * sums * side).sum(axis=1) / n[:, 0] ** 2
        worth = n[:, 0] ** 2 / (side @ self._sizes**2)
        return squares * worth / (worth - 1), np.where(worth > 1, worth - 1, 0.0)


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much B's values exceed A's: estimate and interval, in the values' unit."""

    estimate: float
    low: float
    high: float


def shift(a: Array, cluster_a: Array, b: Array, cluster_b: Array, bound: float) -> Shift:
    """Hodges and Lehmann's shift from `a` to `b` (float64), and all shifts at which the test of ranks stays within `bound` deviates."""
    cluster = np.concatenate((cluster_a, cluster_b + (cluster_a.max() + 1)))
    is_b = (np.arange(len(cluster)) >= len(a))[None]
    a_sorted, b_sorted = np.sort(a), np.sort(b)
    least, most = float(b_sorted[0] - a_sorted[-1]), float(b_sorted[-1] - a_sorted[0])
    reach = max(most - least, 1e-9) * 1e-6

    def z(by: float) -> float:
        return float(Pooled(np.concatenate((a, b - by)), cluster).tests(is_b)[1][0])

    middle = _crossing(lambda by: _superiority(a_sorted, b_sorted - by) - 0.5, least - reach, most + reach)
    low = _crossing(lambda by: z(by) - bound, least - reach, middle)
    high = _crossing(lambda by: z(by) + bound, middle, most + reach)
    return Shift(middle, min(low, middle), max(high, middle))


def _superiority(a_sorted: Array, b_sorted: Array) -> float:
    below = np.searchsorted(a_sorted, b_sorted, "left") + np.searchsorted(a_sorted, b_sorted, "right")
    return float(below.mean()) / (2 * len(a_sorted))


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls from above zero at `low` to below it at `high` crosses it: by halving."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
