"""Where values stand among those of the other side, summed by cluster: machine code that goes through sorted values once.

Placements and their sums are whole numbers in float64 (exact below 2^53), which come out the same in any order: a placement is twice the
number of values below, and once those that are equal, so that it is one of 2 x n. Squares of sums are rounded, and added up by cluster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from probes.jit import inlined, kernel
from probes.schema import Array

LANES = 16  # divisions at once: what is read of a value serves all of them


class Rows(NamedTuple):
    """Values in order: `value` (float64), `cluster` (i8, from 0), how `many` are alike in both (float64); and the `sizes` of clusters."""

    value: Array
    cluster: Array
    many: Array
    sizes: Array


def rows(values: Array, cluster: Array) -> Rows:
    """The Rows of `values` (float64), each with the code of its cluster (i8, from 0, none left out)."""
    order = np.lexsort((cluster, values))
    ordered, mine = values[order], cluster[order]
    begins = np.flatnonzero((np.diff(ordered, prepend=-np.inf) > 0) | (np.diff(mine, prepend=-1) != 0))
    many = np.diff(begins, append=len(order)).astype("f8")
    return Rows(ordered[begins], mine[begins], many, np.bincount(cluster).astype("f8"))


@kernel
def among(is_b: Array, weight: Array) -> Array:
    """The sum of `weight` (i8 per cluster) over the clusters of B, for each division (bool of shape (divisions, clusters)): i8."""
    found = np.empty(len(is_b), np.int64)
    for division in range(len(is_b)):
        total = 0
        for cluster in range(len(weight)):
            total += is_b[division, cluster] * weight[cluster]
        found[division] = total
    return found


@kernel
def dealt(is_b: Array, mine: Rows, ends: Array, lower: Array) -> tuple[Array, Array, Array, Array]:
    """`(values of B, sum over B, squares of A, squares of B)` by division (u1, 1 or 0, of shape (divisions, clusters)): float64.

    `ends` is where each value's rows end, `lower` the sum of each cluster's placements among all. The sum is of placements, squares are of
    how far a cluster's sum is off the mean, times 2 x n_a x n_b.
    """
    divisions, clusters = is_b.shape
    n_b, over, squares_a, squares_b = np.empty(divisions), np.empty(divisions), np.empty(divisions), np.empty(divisions)
    side, sums = np.empty((clusters, LANES)), np.empty((clusters, LANES))  # 1 or 0; placements among B's values
    seen, mean, of_a, of_b = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for first in range(0, divisions, LANES):
        lanes = min(LANES, divisions - first)
        side[:] = 0
        for lane in range(lanes):
            for cluster in range(clusters):
                side[cluster, lane] = is_b[first + lane, cluster]
        _place(side, mine, ends, seen, sums)
        _squares(side, mine.sizes, lower, seen, sums, mean, of_a, of_b)
        for lane in range(lanes):
            n_b[first + lane], over[first + lane] = seen[lane], mean[lane]
            squares_a[first + lane], squares_b[first + lane] = of_a[lane], of_b[lane]
    return n_b, over, squares_a, squares_b


@inlined
def _place(side: Array, mine: Rows, ends: Array, seen: Array, sums: Array) -> None:
    """Of all values by cluster the placements among B's into `sums`, and how many B's are into `seen`."""
    among_b = np.empty(LANES)
    sums[:] = 0
    seen[:] = 0
    row = 0
    for end in ends:
        among_b[:] = seen
        for each in range(row, end):
            cluster, many = mine.cluster[each], mine.many[each]
            for lane in range(LANES):
                seen[lane] += side[cluster, lane] * many
        for lane in range(LANES):
            among_b[lane] += seen[lane]
        for each in range(row, end):
            cluster, many = mine.cluster[each], mine.many[each]
            for lane in range(LANES):
                sums[cluster, lane] += among_b[lane] * many
        row = end


@inlined
def _squares(side: Array, sizes: Array, lower: Array, n_b: Array, sums: Array, mean: Array, of_a: Array, of_b: Array) -> None:
    """B's placements among A's into `mean`, added up, and the squares of either side's clusters into `of_a` and `of_b`."""
    n = sizes.sum()
    mean[:] = 0
    of_a[:] = 0
    of_b[:] = 0
    for cluster in range(len(sizes)):
        for lane in range(LANES):
            mean[lane] += side[cluster, lane] * (lower[cluster] - sums[cluster, lane])
    for cluster in range(len(sizes)):
        for lane in range(LANES):
            b = n_b[lane]
            a = n - b
            off_a = sums[cluster, lane] * a - sizes[cluster] * (2 * a * b - mean[lane])
            off_b = (lower[cluster] - sums[cluster, lane]) * b - sizes[cluster] * mean[lane]
            of_a[lane] += (1 - side[cluster, lane]) * off_a * off_a
            of_b[lane] += side[cluster, lane] * off_b * off_b


@kernel
def shifted(a: Rows, b: Rows, by: float, sums_a: Array, sums_b: Array) -> float:
    """The sum over B of placements among A, where B's values are less `by`; each side's by cluster into `sums_a` and `sums_b`."""
    sums_a[:], sums_b[:] = 0, 0
    seen_a = seen_b = over = 0.0
    row_a = row_b = 0
    while row_a < len(a.value) or row_b < len(b.value):
        if row_b == len(b.value) or (row_a < len(a.value) and a.value[row_a] <= b.value[row_b] - by):
            value = a.value[row_a]
        else:
            value = b.value[row_b] - by
        first_a, first_b, among_a, among_b = row_a, row_b, seen_a, seen_b
        while row_a < len(a.value) and a.value[row_a] == value:
            seen_a += a.many[row_a]
            row_a += 1
        while row_b < len(b.value) and b.value[row_b] - by == value:
            seen_b += b.many[row_b]
            row_b += 1
        among_a, among_b = among_a + seen_a, among_b + seen_b
        for row in range(first_a, row_a):
            sums_a[a.cluster[row]] += a.many[row] * among_b
        for row in range(first_b, row_b):
            sums_b[b.cluster[row]] += b.many[row] * among_a
            over += b.many[row] * among_a
    return over
