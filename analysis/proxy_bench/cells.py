"""A cell: what one mode's packets took with so many Services, towards a random one or the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from probes.live.proxy_bench.plan import BASELINE, Sample
from probes.live.proxy_bench.rounds import QUIET
from probes.schema import Array

SHARES = (0.5, 0.95, 0.99)
FEWEST_QUIET = 3  # bursts


@dataclass(frozen=True, slots=True)
class Cell:
    """Times in ns. Except in cells of BASELINE, the median of the same packets without rules, measured beside each burst, is taken off.

    A round's median is of all its connections, p50 the median of the rounds'; p95 and p99 are of all connections. `spread` is the
    largest of the rounds' medians less the smallest, as a share of p50. Bursts that something disturbed count only where fewer than
    FEWEST_QUIET were quiet. NaN: none.
    """

    mode: str
    services: int
    target: str
    first_ns: tuple[float, float, float]  # p50, p95, p99
    established_ns: tuple[float, float, float]
    rounds_p50_ns: tuple[float, ...]  # of first packets, in the order of the rounds
    spread: float
    sent: int  # connections
    paired: int  # of their first packets: seen on both sides, and translated to an endpoint of their Service
    disturbed_bursts: int  # those that no attempt found quiet
    base_first_ns: float  # what was taken off, in the median
    base_established_ns: float


def cells(samples: Iterable[Sample]) -> list[Cell]:
    """A cell for each mode, number of Services and target, in the order of their first sample."""
    return [_cell(bursts) for bursts in _grouped(samples)]


def _grouped(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The bursts of each cell, in the order of their rounds."""
    found: dict[tuple[str, int, str], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.mode, sample.services, sample.target), []).append(sample)
    return [sorted(bursts, key=lambda each: each.round) for bursts in found.values()]


def judged(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, each as disturbed as it looks beside the quickest of *all*: while it was measured, only those before it were known."""
    base_ns = min((each.base_established_ns for each in samples), default=np.nan)
    own_ns: dict[tuple[str, int], float] = {}
    for each in samples:
        if len(each.established_ns):
            key = each.mode, each.services
            own_ns[key] = min(own_ns.get(key, np.inf), float(np.median(each.established_ns)))
    found = []
    for each in samples:
        slower = each.base_established_ns / base_ns
        if len(each.established_ns):
            slower = max(slower, float(np.median(each.established_ns)) / own_ns[each.mode, each.services])
        found.append(replace(each, disturbance=max(each.disturbance, slower)))
    return found


def first_ns(sample: Sample) -> Array:
    """First packets' times (f8, ns) without what the node takes for a packet anyway; of the baseline itself, with it."""
    return sample.first_ns - (0.0 if sample.mode == BASELINE else sample.base_first_ns)


def quiet(bursts: Sequence[Sample]) -> Sequence[Sample]:
    """Those bursts of a cell that nothing disturbed; all of them where these are too few."""
    undisturbed = [each for each in bursts if each.disturbance <= QUIET]
    return undisturbed if len(undisturbed) >= FEWEST_QUIET else bursts


def _cell(every: Sequence[Sample]) -> Cell:
    bursts, one = quiet(every), every[0]
    first = [first_ns(each) for each in bursts]
    established = [each.established_ns - (0.0 if each.mode == BASELINE else each.base_established_ns) for each in bursts]
    rounds = [each.round for each in bursts]
    medians = _medians(rounds, first)
    p50 = _median(medians)
    return Cell(
        one.mode, one.services, one.target,
        (p50, *_tails(first)), (_median(_medians(rounds, established)), *_tails(established)), tuple(medians),
        (max(medians) - min(medians)) / p50 if medians and p50 > 0 else np.nan,
        sum(each.sent for each in every), sum(len(each.first_ns) for each in every),
        sum(each.disturbance > QUIET for each in every),
        _median([each.base_first_ns for each in bursts]), _median([each.base_established_ns for each in bursts]),
    )  # fmt: skip


def _medians(rounds: Sequence[int], times: Sequence[Array]) -> list[float]:
    """Of each round, the median of its bursts together: one slow burst of six moves it less than the mean of theirs."""
    found: dict[int, list[Array]] = {}
    for number, each in zip(rounds, times, strict=True):
        if len(each):
            found.setdefault(number, []).append(each)
    return [float(np.median(np.concatenate(each))) for each in found.values()]


def _median(some: Sequence[float]) -> float:
    return float(np.median(some)) if some else np.nan


def _tails(bursts: Sequence[Array]) -> tuple[float, float]:
    every = np.concatenate(bursts)
    p95, p99 = (float(each) for each in np.quantile(every, SHARES[1:])) if len(every) else (np.nan, np.nan)
    return p95, p99


def by_mode(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples that count of each mode, the baseline left out."""
    found: dict[str, list[Sample]] = {}
    for bursts in _grouped(samples):
        if bursts[0].mode != BASELINE:
            found.setdefault(bursts[0].mode, []).extend(quiet(bursts))
    return dict(sorted(found.items()))
