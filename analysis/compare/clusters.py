"""Measurements that are not independent: how many independent ones they are worth, and what that does to an interval."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from probes.schema import Array

NORMAL = NormalDist()
FEWEST = (
    12  # independent clusters a side needs: below, neither t nor a bootstrap knows the spread between clusters (Cameron & Miller, 2015)
)


def worth(cluster: Array, weight: Array | None = None) -> float:
    """Kish's effective number of clusters: `cluster` (i8 codes, one per value), all of one size count as themselves, a giant as one.

    Kish, Survey Sampling (1965), 8.2: (sum of sizes)² / sum of squared sizes.
    """
    sizes = np.bincount(cluster, weight)
    squares = float((sizes * sizes).sum())
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def normal_of(t: Array, freedom: Array) -> Array:
    """The normal deviate that is as rare as Student's `t`: Wallace's approximation (Ann. Math. Stat. 30, 1959), to 0.3 % from 5 on."""
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    found: Array = np.copysign(scale * np.sqrt(freedom * np.log1p(t * t / freedom)), t)
    return found


def student_of(z: float, freedom: float) -> float:
    """Student's t that is as rare as the normal deviate `z`: the inverse of `normal_of`."""
    squared = (z * (8 * freedom + 3) / (8 * freedom + 1)) ** 2 / freedom
    return math.copysign(math.sqrt(freedom * math.expm1(squared)), z) if squared < 500 else math.copysign(math.inf, z)


def critical(level: float) -> float:
    """The normal deviate that bounds a two-sided interval of `level` (0.95: 1.96)."""
    return NORMAL.inv_cdf((1 + level) / 2)
