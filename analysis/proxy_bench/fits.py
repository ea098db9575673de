"""First packets' time against their Service's position: `t = a + b * position`, with an interval for b.

Single times have long tails, which least squares would follow; so the line goes through medians: of each round, those of some
neighbouring positions, each weighed by one over its square, since long times vary by as much more. A Service that is asked again and
again (target `last`) has its own chains in the processor's caches, which a random one has not: the two have a start of their own and one
slope. What varies most is not one packet but one round, when the machine was in one state: the bootstrap draws rounds first (within each
number of Services), then packets within their bins (Davison & Hinkley, Bootstrap Methods and their Application, 1997, 3.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.proxy_bench.levels import LEAST_NS
from analysis.statistics import LEVEL, REPLICATES, resampled
from probes.live.proxy_bench.plan import TARGETS, Sample
from probes.schema import Array

BINS = 30  # of positions, in each round


@dataclass(frozen=True, slots=True)
class Fit:
    """ns at position 0 of a random Service, ns per position, the ends of the slope's interval; NaN where no two positions differ."""

    mode: str
    start_ns: float
    slope_ns: float
    low_ns: float
    high_ns: float
    packets: int


@dataclass(frozen=True, slots=True)
class _Bin:
    """Neighbouring positions in one round: their mean, their first packets' times (ascending), and which round it was in."""

    position: float
    ordered: Array
    target: str
    round: tuple[int, int]  # Services, number


def fit(mode: str, samples: Sequence[Sample], seed: int = 0, level: float = LEVEL) -> Fit:
    """The line through all samples of one mode, whatever their number of Services: a position means the same in all of them."""
    bins = [one for bursts in _rounds(samples) for one in _bins(bursts)]
    packets = sum(len(each.ordered) for each in bins)
    if not bins:
        return Fit(mode, np.nan, np.nan, np.nan, np.nan, packets)
    positions = np.array([each.position for each in bins])
    # Which start each bin has: a row for each target, as numbers 0 and 1.
    kinds = np.array([[each.target == target for each in bins] for target in TARGETS if any(each.target == target for each in bins)], "f8")
    medians = np.array([np.median(each.ordered) for each in bins])
    weights = np.array([len(each.ordered) for each in bins]) / np.maximum(medians, LEAST_NS) ** 2
    start, slope = _line(positions, medians[None], weights[None], kinds)
    if not np.isfinite(slope[0]):
        return Fit(mode, np.nan, np.nan, np.nan, np.nan, packets)
    chance = np.random.default_rng(seed)
    drawn = np.stack([_medians(each.ordered, chance) for each in bins], axis=1)
    _, slopes = _line(positions, drawn, weights * _times_drawn([each.round for each in bins], chance), kinds)
    low, high = np.nanquantile(slopes, ((1 - level) / 2, (1 + level) / 2))
    return Fit(mode, float(start[0]), float(slope[0]), float(low), float(high), packets)


def _rounds(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The bursts of each number of Services, target and round."""
    found: dict[tuple[int, str, int], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.services, sample.target, sample.round), []).append(sample)
    return list(found.values())


def _bins(bursts: Sequence[Sample]) -> list[_Bin]:
    times, position = np.concatenate([each.first_ns for each in bursts]), np.concatenate([each.position for each in bursts])
    order = np.argsort(position, kind="stable")
    pieces = np.array_split(order, BINS) if len(np.unique(position)) > 1 else [order]
    number = (bursts[0].services, bursts[0].round)
    return [_Bin(float(position[piece].mean()), np.sort(times[piece]), bursts[0].target, number) for piece in pieces if len(piece)]


def _medians(ordered: Array, chance: np.random.Generator) -> Array:
    """The median in each of REPLICATES resamples of `ordered`."""
    if len(ordered) < 2:
        return np.full(REPLICATES, ordered[0])
    below, above = resampled(ordered, 0.5, chance)
    return below if len(ordered) % 2 else (below + above) / 2


def _times_drawn(groups: Sequence[tuple[int, int]], chance: np.random.Generator) -> Array:
    """How often each point's round is drawn in each replicate: of as many rounds as there are with that number of Services."""
    found = np.empty((REPLICATES, len(groups)))
    for services in {size for size, _ in groups}:
        rounds = sorted({number for size, number in groups if size == services})
        counts = chance.multinomial(len(rounds), np.full(len(rounds), 1 / len(rounds)), REPLICATES)
        for point, (size, number) in enumerate(groups):
            if size == services:
                found[:, point] = counts[:, rounds.index(number)]
    return found


def _line(x: Array, y: Array, weights: Array, kinds: Array) -> tuple[Array, Array]:
    """Weighted least squares for each row of `y` and `weights`: the first kind's start, and the slope of all; NaN where it has none.

    A shared slope is that of the deviations from each kind's own means (analysis of covariance).
    """
    across, square = np.zeros(len(y)), np.zeros(len(y))
    first: tuple[Array, Array] | None = None
    for kind in kinds:
        own = weights * kind
        total = own.sum(axis=1)
        with np.errstate(invalid="ignore"):  # a kind whose rounds were not drawn
            x_mean, y_mean = (np.nan_to_num((own * each).sum(axis=1) / total) for each in (x, y))
        apart = x[None] - x_mean[:, None]
        across += (own * apart * (y - y_mean[:, None])).sum(axis=1)
        square += (own * apart**2).sum(axis=1)
        first = first or (x_mean, y_mean)
    enough = square > 1e-9 * weights.sum(axis=1)
    slope = np.divide(across, square, out=np.full(len(y), np.nan), where=enough)
    assert first is not None
    return first[1] - slope * first[0], slope
