"""How far two sides' quantiles are apart, with intervals from resampled clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.compare.clusters import NORMAL, critical, student_of, worth
from analysis.statistics import LEVEL
from probes.schema import Array

REPLICATES = 1999  # Davison & Hinkley (1997), 5.2.3: (R + 1) x level is whole
ROOM = 4_000_000  # weights held at once


@dataclass(frozen=True, slots=True)
class Effect:
    """One quantile on both sides and what is between: difference (ns) and ratio of B's to A's, each (estimate, low, high)."""

    share: float
    a: float
    b: float
    difference: tuple[float, float, float]
    ratio: tuple[float, float, float] | None


def effect(a: Array, cluster_a: Array, b: Array, cluster_b: Array, share: float, *, level: float = LEVEL, seed: int = 0) -> Effect:
    """The quantile `share` of both sides (float64), whole clusters resampled: all their values or none (Davison & Hinkley, 1997, 3.8).

    The interval is the percentile one, its ends moved out as few clusters need it (Hesterberg, The American Statistician 69, 2015, 4.3).
    The ratio is None where a side's quantile is not above zero in all resamples.
    """
    chance = np.random.default_rng(seed)
    drawn_a, drawn_b = resampled(a, cluster_a, share, chance), resampled(b, cluster_b, share, chance)
    clusters = min(worth(cluster_a), worth(cluster_b))
    outside = NORMAL.cdf(-student_of(critical(level), max(clusters - 1, 1.0)) * np.sqrt(clusters / max(clusters - 1, 1e-9)))
    ends = (outside, 1 - outside)
    here, there = (float(np.quantile(each, share, method="inverted_cdf")) for each in (a, b))
    low, high = np.quantile(drawn_b - drawn_a, ends)
    ratio = None
    if drawn_a.min() > 0 and drawn_b.min() > 0:
        least, most = np.quantile(drawn_b / drawn_a, ends)
        ratio = (there / here, float(least), float(most))
    return Effect(share, here, there, (there - here, float(low), float(high)), ratio)


def resampled(values: Array, cluster: Array, share: float, chance: np.random.Generator, replicates: int = REPLICATES) -> Array:
    """The quantile `share` (inverted CDF) of each of `replicates` resamples of whole clusters: float64."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    _, code = np.unique(cluster, return_inverse=True)
    mine, clusters = code[order], int(code.max()) + 1
    found = np.empty(replicates)
    step = max(1, ROOM // len(values))
    for begin in range(0, replicates, step):
        drawn = chance.multinomial(clusters, np.full(clusters, 1 / clusters), min(step, replicates - begin))
        reached = np.cumsum(drawn[:, mine], axis=1)
        wanted = share * reached[:, -1:]
        found[begin : begin + step] = ordered[np.argmax(reached >= np.maximum(wanted, 1), axis=1)]
    return found
