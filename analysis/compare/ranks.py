"""Which of two sides is slower, and by how much: ranks of values that come in clusters.

Latencies have long tails, two or three modes and the clock's ticks: a mean is moved by one retransmission and a median jumps between modes.
Ranks ask the question that matters (how often is a request of B slower than one of A?), and the shift that makes it even is
Hodges and Lehmann's estimate (Ann. Math. Stat. 34, 1963): the median of all differences between one of B and one of A. Its variance is
that of placements summed by cluster (Obuchowski, Biometrics 53, 1997; without clusters DeLong 1988, Brunner & Munzel 2000), so that sides
may have different spreads. The interval holds every shift that the test does not refuse, and so cannot disagree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compare.clusters import normal_of
from analysis.compare.placements import among, dealt, rows, shifted
from probes.schema import Array

STEPS = 60  # halvings: of any range of ns to far below one
FARTHEST = 40.0  # normal deviates; a side all above the other has no spread to measure by


class Pooled:
    """Values of both sides, sorted once, so that any number of divisions of them can be tested with one pass for each."""

    def __init__(self, values: Array, cluster: Array) -> None:
        """`values` (float64) and the code of the cluster of each (i8); a cluster is on one side as a whole."""
        self._present, code = np.unique(cluster, return_inverse=True)
        self._rows = rows(values, code)
        self._ends = np.flatnonzero(np.diff(self._rows.value, append=np.inf) > 0) + 1
        smaller = np.concatenate(((0.0,), np.cumsum(self._rows.many)))[np.concatenate(((0,), self._ends))]
        placement = np.repeat(smaller[:-1] + smaller[1:], np.diff(self._ends, prepend=0))  # of each row, among all values
        self._lower = np.bincount(self._rows.cluster, placement * self._rows.many)

    def tests(self, is_b: Array) -> tuple[Array, Array]:
        """Whether the values of B's clusters are larger: (superiority, deviates), float64 per division.

        `is_b` is bool of shape (divisions, clusters), by code. Superiority is the chance that a value of B exceeds one of A (ties
        are half), deviates how far that is from 1/2, as a normal deviate: 0 where a side is worth fewer than two clusters.
        """
        mine, sizes = np.take(is_b, self._present, axis=1), self._rows.sizes
        n_b, over, *squares = dealt(mine.view("u1"), self._rows, self._ends, self._lower)  # numba reads bools more slowly
        squared_b = among(mine, (sizes * sizes).astype("i8"))
        return _tested(over, squares, (sizes.sum() - n_b, n_b), (sizes @ sizes - squared_b, squared_b))


def _tested(over: Array, squares: Sequence[Array], n: Sequence[Array], squared: Sequence[Array]) -> tuple[Array, Array]:
    """Superiority and deviates from what `placements.dealt` gives, each side's number of values, and its clusters' squared sizes summed."""
    whole = 2 * n[0] * n[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # sides without values or variance are told apart below
        theta = over / whole
        (variance_a, free_a), (variance_b, free_b) = (
            _variance(each / whole**2, *of) for each, *of in zip(squares, n, squared, strict=True)
        )
        variance = variance_a + variance_b
        freedom = variance**2 / (variance_a**2 / free_a + variance_b**2 / free_b)  # Welch and Satterthwaite
        z = normal_of((theta - 0.5) / np.sqrt(variance), freedom)
    apart = np.sign(theta - 0.5) * FARTHEST
    z = np.where(variance > 0, np.clip(z, -FARTHEST, FARTHEST), apart)
    return theta, np.where(np.minimum(free_a, free_b) >= 1, z, 0.0)


def _variance(squares: Array, n: Array, squared: Array) -> tuple[Array, Array]:
    """Of the mean of one side's placements, from their sums by cluster; and its degrees of freedom, from Kish's number of clusters."""
    worth = n**2 / squared
    return squares / n**2 * worth / (worth - 1), np.where(worth > 1, worth - 1, 0.0)


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much B's values exceed A's: estimate and interval, in the values' unit."""

    estimate: float
    low: float
    high: float


def shift(a: Array, cluster_a: Array, b: Array, cluster_b: Array, bound: float) -> Shift:
    """Hodges and Lehmann's shift from `a` to `b` (float64), and all shifts at which the test of ranks stays within `bound` deviates."""
    of_a, of_b = (rows(values, np.unique(cluster, return_inverse=True)[1]) for values, cluster in ((a, cluster_a), (b, cluster_b)))
    n, squared = [np.array([len(each)]) for each in (a, b)], [np.array([each.sizes @ each.sizes]) for each in (of_a, of_b)]
    sums_a, sums_b = (np.empty_like(each.sizes) for each in (of_a, of_b))
    least, most = float(of_b.value[0] - of_a.value[-1]), float(of_b.value[-1] - of_a.value[0])
    reach = max(most - least, 1e-9) * 1e-6
    even = len(a) * len(b)

    def z(by: float) -> float:
        over = shifted(of_a, of_b, by, sums_a, sums_b)
        off = sums_a * len(a) - of_a.sizes * (2 * even - over), sums_b * len(b) - of_b.sizes * over
        return float(_tested(np.array([over]), [np.array([(each * each).sum()]) for each in off], n, squared)[1][0])

    middle = _crossing(lambda by: shifted(of_a, of_b, by, sums_a, sums_b) - even, least - reach, most + reach)
    low = _crossing(lambda by: z(by) - bound, least - reach, middle)
    high = _crossing(lambda by: z(by) + bound, middle, most + reach)
    return Shift(middle, min(low, middle), max(high, middle))


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls from above zero at `low` to below it at `high` crosses it: by halving."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
