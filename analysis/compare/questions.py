"""Questions that any division of a set of clusters into two sides can be asked: two bundles, or a capture and its own halves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.compare.clusters import FEWEST, worth
from analysis.compare.placements import among
from analysis.compare.ranks import Pooled
from analysis.compare.samples import METRICS, Key, Sample
from analysis.statistics import smallest_sample
from probes.schema import Array

MEDIAN = 0.5
TAILS = (0.99, 0.95, 0.9)
TYPICAL, SLOWEST, SHARE = "typical", "slowest", "share"


@dataclass(frozen=True)
class Question:
    """Values of both sides together (float64), with the code of each one's cluster (i8); `threshold` of "slowest" is of both together."""

    key: Key
    kind: str
    values: Array
    cluster: Array
    apart_ns: float = 0.0
    threshold: float | None = None
    tail: float | None = None

    @cached_property
    def pooled(self) -> Pooled:
        """The values, sorted once for all divisions."""
        return Pooled(self.values, self.cluster)

    @cached_property
    def hit(self) -> Array:
        """Which values count (bool), of a question about shares."""
        return self.values > (0 if self.threshold is None else self.threshold)

    @property
    def open(self) -> bool:
        """Whether there is anything that could differ."""
        return self.kind == TYPICAL or bool(self.hit.any() and not self.hit.all())

    @property
    def quantile(self) -> float | None:
        """Which quantile of each side tells most about it; None of shares."""
        return MEDIAN if self.kind == TYPICAL else self.tail

    def clusters(self, is_b: Array) -> tuple[float, float]:
        """What each side's values are worth in independent clusters."""
        return worth(self.cluster[~is_b]), worth(self.cluster[is_b])

    def answerable(self, is_b: Array) -> bool:
        """Whether both sides are large enough, and anything varies."""
        return self.open and min(self.clusters(is_b)) >= FEWEST

    def lean(self, is_b: Array) -> tuple[Array, Array]:
        """Which way each division (bool of shape (divisions, clusters)) leans, and how far from even, in deviates: float64 per division."""
        if self.kind == TYPICAL:
            superiority, z = self.pooled.tests(is_b)
            return superiority - 0.5, z
        n_b, hits = (among(is_b, np.bincount(each, minlength=is_b.shape[1])) for each in (self.cluster, self.cluster[self.hit]))
        n_a = len(self.values) - n_b
        gap = hits / np.maximum(n_b, 1) - (np.count_nonzero(self.hit) - hits) / np.maximum(n_a, 1)
        gap = np.where((n_a > 0) & (n_b > 0), gap, 0.0)
        return gap, gap * np.sqrt(n_a * n_b / self._variance) if self._variance else np.zeros(len(gap))

    @cached_property
    def _variance(self) -> float:
        """How the hits of a cluster vary, with both sides as one: what has few hits has no spread on one side alone to measure by."""
        _, code = np.unique(self.cluster, return_inverse=True)
        sizes = np.bincount(code)
        residual = np.bincount(code, self.hit.astype("f8")) - self.hit.mean() * sizes
        return float((residual * residual).sum()) * len(sizes) / max(len(sizes) - 1, 1)


def tail_of(size: int) -> float | None:
    """The highest quantile of TAILS that `size` values can tell anything about; None of too few."""
    return next((each for each in TAILS if size >= smallest_sample(each)), None)


def questions(samples: Mapping[Key, Sample], least: Mapping[Key, int]) -> Iterator[Question]:
    """All questions about `samples` (both sides' together); `least` says how many values the smaller side has."""
    for key, sample in samples.items():
        if not len(sample.values):
            continue
        if METRICS[key[0]].unit == "share":
            yield Question(key, SHARE, sample.values, sample.cluster)
            continue
        yield Question(key, TYPICAL, sample.values, sample.cluster, sample.apart_ns)
        tail = tail_of(least[key])
        if tail is not None:
            threshold = float(np.quantile(sample.values, tail, method="inverted_cdf"))
            yield Question(key, SLOWEST, sample.values, sample.cluster, sample.apart_ns, threshold, tail)
