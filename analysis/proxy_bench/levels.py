"""Bursts as they would have been had the rest of the machine been equally quiet in all of a cell: analysis of covariance.

What slows a burst is known beside it, by packets that are not asked about. A sibling thread of the same core slows later packets as it
does first ones; what others take of shared caches and memory, the emptying of caches as well; and what slows the machine slows all other
cells' bursts of the same turn. In each cell, the logarithm of how slow a burst was is fitted to those of all three, and each burst is moved
along that line to the cell's quiet level: what the quietest tenth of its bursts had of each. Later packets are told as they are at that
level. Nothing is told of levels that no burst had, and nothing is left out.
(R. A. Fisher, Statistical Methods for Research Workers, 4th edition, 1932.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from probes.live.proxy_bench.plan import Sample
from probes.schema import Array

QUIET_SHARE = 0.1  # of a cell's bursts
FEWEST = 20  # bursts: of fewer, three slopes would tell more of chance than of the machine
PARTS, LEAST_IN_PART = 30, 100  # of positions; packets: of a handful, one would be its own measure
LEAST_NS = 100.0  # a median below this is as good as another
SLOWED = 1.1  # times the quiet level
HUBER, TIMES = 2.0, 20  # medians of how far bursts are from the line (1.345 standard deviations); iterations


def by_cell(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The bursts of each mode, number of Services and target, in the order of their rounds; cells in that of their first sample."""
    found: dict[tuple[str, int, str], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.mode, sample.services, sample.target), []).append(sample)
    return [sorted(bursts, key=lambda each: each.round) for bursts in found.values()]


def levelled(cells: Sequence[Sequence[Sample]]) -> list[list[Sample]]:
    """The bursts of each cell at its quiet level: their times are less (f8)."""
    slow = [np.log([median(each) for each in relative(bursts)]) for bursts in cells]
    return [_levelled(bursts, each, mood) for bursts, each, mood in zip(cells, slow, _moods(slow), strict=True)]


def _levelled(bursts: Sequence[Sample], slow: Array, mood: Array) -> list[Sample]:
    told = _told(bursts)
    factors = np.exp(-_slower(slow, np.column_stack([told, mood])))
    later = np.ones(len(bursts)) if len(bursts) < FEWEST else np.exp(_quiet(told)[0] - told[:, 0])
    return [
        replace(each, first_ns=each.first_ns * one, established_ns=each.established_ns * other)
        for each, one, other in zip(bursts, factors, later, strict=True)
    ]


def _moods(slow: Sequence[Array]) -> list[Array]:
    """For each cell's bursts, how slow (log) those of all other cells were in the same turn, in the mean; NaN where that is not known."""
    if len({len(each) for each in slow}) > 1:  # turns
        return [np.full(len(each), np.nan) for each in slow]
    known = np.isfinite(slow)
    every = np.where(known, slow, 0.0)
    others = known.sum(axis=0) - known
    return list(np.divide(every.sum(axis=0) - every, others, out=np.full(every.shape, np.nan), where=others > 0))


def relative(bursts: Sequence[Sample]) -> list[Array]:
    """Each burst's first packets' times (f8), as shares of the median of all of the cell's to Services at such positions.

    What holds some packets up hardly moves the median of that. The median of times it moves by as many positions as there are such
    packets, and near and far Services differ by far more than packets to one of them do.
    """
    times, position = (np.concatenate([getattr(each, name) for each in bursts]) for name in ("first_ns", "position"))
    order = np.lexsort((times, position))
    usual: Array = np.empty(len(times))
    parts = min(PARTS, len(times) // LEAST_IN_PART) if len(np.unique(position)) > 1 else 1
    for near in np.array_split(order, max(1, parts)):
        usual[near] = median(times[near])
    return np.split(times / usual, np.cumsum([len(each.first_ns) for each in bursts])[:-1])


def slowed(bursts: Sequence[Sample]) -> int:
    """How many of a cell's bursts something else slowed by a tenth and more, as their later packets or caches tell."""
    told = _told(bursts)
    return int((told > np.log(SLOWED) + _quiet(told)).any(axis=1).sum())


def _told(bursts: Sequence[Sample]) -> Array:
    """Of each burst (row) the logarithms of what its later packets took and what emptying caches did, ns."""
    return np.log(np.maximum([[median(each.established_ns), each.emptied_ns] for each in bursts], LEAST_NS))


def _slower(slow: Array, told: Array) -> Array:
    """By how much (f8, log) each burst is slower than at the quiet level: how `slow` it was (n), as what is `told` (n, kinds) explains it.

    More of anything else never makes packets faster: a kind that seems to is left out.
    """
    told = told[:, np.isfinite(told).any(axis=0)]
    usable = np.isfinite(slow) & np.isfinite(told).all(axis=1)
    if usable.sum() < FEWEST:
        return np.zeros(len(slow))
    from_quiet = told - _quiet(told[usable])
    kinds = np.flatnonzero(np.ptp(told[usable], axis=0) > 0)
    while len(kinds):
        slopes = _slopes(from_quiet[usable][:, kinds], slow[usable])
        if (slopes >= 0).all():
            slower: Array = np.nan_to_num(from_quiet[:, kinds]) @ slopes
            return slower
        kinds = kinds[slopes >= 0]
    return np.zeros(len(slow))


def _slopes(x: Array, y: Array) -> Array:
    """Of `y` (n) against each column of `x` (n, kinds), by Huber's M-estimate: a burst far from the line is no reason to turn it."""
    every = np.column_stack([np.ones(len(y)), x])
    weights: Array = np.ones(len(y))
    found: Array = np.zeros(every.shape[1])
    for _ in range(TIMES):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(every * root[:, None], y * root, rcond=None)[0]
        off = np.abs(y - every @ found)
        weights = np.minimum(1, HUBER * np.median(off) / np.maximum(off, 1e-12))
    return found[1:]


def _quiet(told: Array) -> Array:
    return np.array([np.quantile(each, QUIET_SHARE) if len(each) else np.nan for each in (kind[np.isfinite(kind)] for kind in told.T)])


def median(some: Sequence[float] | Array) -> float:
    """NaN of none."""
    return float(np.median(some)) if len(some) else np.nan
