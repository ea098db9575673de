"""Two shares of things that come in clusters: their difference with an interval.

Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10) holds for few and for none, too. Clusters are allowed for as
in surveys: counts are divided by the design effect (Rao & Scott, Biometrics 48, 1992), and the normal deviate becomes Student's with the
clusters' degrees of freedom (Korn & Graubard, Survey Methodology 24, 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.compare.clusters import student_of, worth
from probes.schema import Array


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total` values, worth `effective` independent ones in `clusters` independent clusters."""

    hits: int
    total: int
    effective: float
    clusters: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.hits / self.total

    def wilson(self, z: float) -> tuple[float, float]:
        """Wilson's score interval of `effective` values, `z` in normal deviates."""
        n, share = self.effective, self.value
        t = student_of(z, max(self.clusters - 1, 1.0))
        middle, scale = share + t * t / (2 * n), 1 + t * t / n
        reach = t * math.sqrt(share * (1 - share) / n + (t / (2 * n)) ** 2)
        return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def share(hit: Array, cluster: Array) -> Share:
    """The share of `hit` (bool) among values with `cluster` codes (i8)."""
    total, hits, clusters = len(hit), int(np.count_nonzero(hit)), worth(cluster)
    sizes = np.bincount(cluster)
    if hits in (0, total):  # nothing varies, so the worst is taken: all of a cluster are one
        return Share(hits, total, clusters, clusters)
    part = hits / total
    residual = np.bincount(cluster, hit.astype("f8")) - part * sizes
    variance = float((residual * residual).sum()) / total**2 * clusters / max(clusters - 1, 1e-9)
    effect = max(1.0, variance / (part * (1 - part) / total))
    return Share(hits, total, total / effect, clusters)


def difference(a: Share, b: Share, bound: float) -> tuple[float, float, float]:
    """B's share less A's: estimate, low and high, `bound` in normal deviates."""
    low_a, high_a = a.wilson(bound)
    low_b, high_b = b.wilson(bound)
    gap = b.value - a.value
    return gap, gap - math.hypot(b.value - low_b, high_a - a.value), gap + math.hypot(high_b - b.value, a.value - low_a)
