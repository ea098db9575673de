"""How far two sides' quantiles are apart, with intervals from resampled clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compare.clusters import NORMAL, critical, student_of, worth
from analysis.compare.placements import Rows, rows
from analysis.statistics import LEVEL
from probes.jit import kernel
from probes.schema import Array

REPLICATES = 1999  # Davison & Hinkley (1997), 5.2.3: (R + 1) x level is whole
ROOM = 1_000_000  # weights held at once


@dataclass(frozen=True, slots=True)
class Effect:
    """One quantile on both sides and what is between: difference (ns) and ratio of B's to A's, each (estimate, low, high)."""

    share: float
    a: float
    b: float
    difference: tuple[float, float, float]
    ratio: tuple[float, float, float] | None


def effects(
    a: Array, cluster_a: Array, b: Array, cluster_b: Array, shares: Sequence[float], *, level: float = LEVEL, seed: int = 0
) -> list[Effect]:
    """The quantiles `shares` of both sides (float64), whole clusters resampled: all their values or none (Davison & Hinkley, 1997, 3.8).

    The interval is the percentile one, its ends moved out as few clusters need it (Hesterberg, The American Statistician 69, 2015, 4.3).
    The ratio is None where a side's quantile is not above zero in all resamples.
    """
    chance = np.random.default_rng(seed)
    drawn_a, drawn_b = resampled(a, cluster_a, shares, chance), resampled(b, cluster_b, shares, chance)
    clusters = min(worth(cluster_a), worth(cluster_b))
    outside = NORMAL.cdf(-student_of(critical(level), max(clusters - 1, 1.0)) * np.sqrt(clusters / max(clusters - 1, 1e-9)))
    ends = (outside, 1 - outside)
    here, there = (np.quantile(each, shares, method="inverted_cdf").tolist() for each in (a, b))
    return [_effect(*each, ends) for each in zip(shares, here, there, drawn_a, drawn_b, strict=True)]


def _effect(share: float, here: float, there: float, drawn_a: Array, drawn_b: Array, ends: tuple[float, float]) -> Effect:
    low, high = np.quantile(drawn_b - drawn_a, ends)
    ratio = None
    if drawn_a.min() > 0 and drawn_b.min() > 0:
        least, most = np.quantile(drawn_b / drawn_a, ends)
        ratio = (there / here, float(least), float(most))
    return Effect(share, here, there, (there - here, float(low), float(high)), ratio)


def resampled(
    values: Array, cluster: Array, shares: Sequence[float], chance: np.random.Generator, replicates: int = REPLICATES
) -> list[Array]:
    """The quantiles `shares` (inverted CDF) of each of `replicates` resamples of whole clusters: float64, an array for each."""
    mine = rows(values, np.unique(cluster, return_inverse=True)[1])
    clusters = len(mine.sizes)
    found = [np.empty(replicates) for _ in shares]
    step = max(1, ROOM // clusters)
    for begin in range(0, replicates, step):
        drawn = chance.multinomial(clusters, np.full(clusters, 1 / clusters), min(step, replicates - begin))
        for share, each in zip(shares, found, strict=True):
            each[begin : begin + step] = _reached(mine, drawn, share)
    return found


@kernel
def _reached(mine: Rows, drawn: Array, share: float) -> Array:
    """The quantile `share` of each resample, in which a cluster is as often as `drawn` (i8 of shape (resamples, clusters)) says.

    It is looked for from where it is without resampling: few values lie between the two.
    """
    clusters = len(mine.sizes)
    below, start, reached = np.zeros(clusters), 0, 0.0
    wanted = share * mine.sizes.sum()
    while reached + mine.many[start] < wanted:
        reached += mine.many[start]
        below[mine.cluster[start]] += mine.many[start]
        start += 1
    found = np.empty(len(drawn))
    for resample in range(len(drawn)):
        weight = drawn[resample]
        total = reached = 0.0
        for cluster in range(clusters):
            total += weight[cluster] * mine.sizes[cluster]
            reached += weight[cluster] * below[cluster]
        wanted = max(share * total, 1.0)
        row = start
        while reached < wanted:
            reached += weight[mine.cluster[row]] * mine.many[row]
            row += 1
        while reached >= wanted:
            row -= 1
            reached -= weight[mine.cluster[row]] * mine.many[row]
        found[resample] = mine.value[row]
    return found
