"""A cell: what one mode's packets took with so many Services, towards a random one or the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.proxy_bench.levels import beyond, by_cell, levelled, slowed
from probes.live.proxy_bench.plan import BASELINE, Sample
from probes.schema import Array

SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Cell:
    """Times in ns, at the cell's quiet level; except in cells of BASELINE, the same packets' median without rules is taken off.

    A round's median is of all its connections, p50 the median of the rounds'; p95 and p99 are of all connections. `spread` is the
    largest of the rounds' medians less the smallest, as a share of p50. `unlevelled_` is the same of what was measured, whatever else
    the machine did. NaN: none.
    """

    mode: str
    services: int
    target: str
    first_ns: tuple[float, float, float]  # p50, p95, p99
    established_ns: tuple[float, float, float]
    rounds_p50_ns: tuple[float, ...]  # of first packets, in the order of the rounds
    spread: float
    unlevelled_first_p50_ns: float
    unlevelled_spread: float
    sent: int  # connections
    paired: int  # of their first packets: seen on both sides, and translated to an endpoint of their Service
    slowed_bursts: int
    base_first_ns: float  # what was taken off, in the median
    base_established_ns: float


def cells(samples: Iterable[Sample]) -> list[Cell]:
    """A cell for each mode, number of Services and target, in the order of their first sample."""
    return [_cell(bursts) for bursts in by_cell(samples)]


def by_mode(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Each mode's samples, each at its cell's quiet level; the baseline left out."""
    found: dict[str, list[Sample]] = {}
    for bursts in by_cell(samples):
        if bursts[0].mode != BASELINE:
            found.setdefault(bursts[0].mode, []).extend(levelled(bursts))
    return dict(sorted(found.items()))


def _cell(measured: Sequence[Sample]) -> Cell:
    bursts, one = levelled(measured), measured[0]
    first, established = ([beyond(each, later=later) for each in bursts] for later in (False, True))
    rounds = [each.round for each in bursts]
    medians = _medians(rounds, first)
    unlevelled = _medians(rounds, [beyond(each) for each in measured])
    return Cell(
        one.mode, one.services, one.target,
        (_median(medians), *_tails(first)), (_median(_medians(rounds, established)), *_tails(established)),
        tuple(medians), _spread(medians), _median(unlevelled), _spread(unlevelled),
        sum(each.sent for each in bursts), sum(len(each.first_ns) for each in bursts), slowed(measured),
        _median([each.base_first_ns for each in bursts]), _median([each.base_established_ns for each in bursts]),
    )  # fmt: skip


def _medians(rounds: Sequence[int], times: Sequence[Array]) -> list[float]:
    """Of each round, the median of its bursts together: one slow burst of many moves it less than the mean of theirs."""
    found: dict[int, list[Array]] = {}
    for number, each in zip(rounds, times, strict=True):
        if len(each):
            found.setdefault(number, []).append(each)
    return [float(np.median(np.concatenate(each))) for each in found.values()]


def _median(some: Sequence[float]) -> float:
    return float(np.median(some)) if some else np.nan


def _spread(medians: Sequence[float]) -> float:
    middle = _median(medians)
    return (max(medians) - min(medians)) / middle if middle > 0 else np.nan


def _tails(bursts: Sequence[Array]) -> tuple[float, float]:
    every = np.concatenate(bursts)
    p95, p99 = (float(each) for each in np.quantile(every, SHARES[1:])) if len(every) else (np.nan, np.nan)
    return p95, p99
