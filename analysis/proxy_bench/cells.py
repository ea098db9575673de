"""A cell: what one mode's packets took with so many Services, towards a random one or the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from probes.live.proxy_bench.plan import BASELINE, Sample
from probes.live.proxy_bench.rounds import QUIET
from probes.schema import Array

SHARES = (0.5, 0.95, 0.99)
FEWEST_QUIET = 3  # rounds


@dataclass(frozen=True, slots=True)
class Cell:
    """Times in ns. Except in cells of BASELINE, the median of the same packets without rules, measured beside each burst, is taken off.

    p50 is the median of the rounds' medians; p95 and p99 are of their connections together. `spread` is the largest of the rounds' medians
    less the smallest, as a share of p50. Rounds that something disturbed count only where fewer than FEWEST_QUIET were quiet. NaN: none.
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
    disturbed_rounds: int  # those that no attempt found quiet
    base_first_ns: float  # what was taken off, in the median
    base_established_ns: float


def cells(samples: Iterable[Sample]) -> list[Cell]:
    """A cell for each mode, number of Services and target, in the order of their first sample."""
    return [_cell(rounds) for rounds in _grouped(samples)]


def _grouped(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The rounds of each cell, in order."""
    found: dict[tuple[str, int, str], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.mode, sample.services, sample.target), []).append(sample)
    return [sorted(rounds, key=lambda each: each.round) for rounds in found.values()]


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


def quiet(rounds: Sequence[Sample]) -> Sequence[Sample]:
    """Those rounds of a cell that nothing disturbed; all of them where these are too few."""
    undisturbed = [each for each in rounds if each.disturbance <= QUIET]
    return undisturbed if len(undisturbed) >= FEWEST_QUIET else rounds


def _cell(every: Sequence[Sample]) -> Cell:
    rounds, one = quiet(every), every[0]
    first = [first_ns(each) for each in rounds]
    established = [each.established_ns - (0.0 if each.mode == BASELINE else each.base_established_ns) for each in rounds]
    medians = [float(np.median(each)) for each in first if len(each)]
    p50 = float(np.median(medians)) if medians else np.nan
    return Cell(
        one.mode, one.services, one.target, _percentiles(first), _percentiles(established), tuple(medians),
        (max(medians) - min(medians)) / p50 if medians and p50 > 0 else np.nan,
        sum(each.sent for each in every), sum(len(each.first_ns) for each in every),
        sum(each.disturbance > QUIET for each in every),
        float(np.median([each.base_first_ns for each in rounds])), float(np.median([each.base_established_ns for each in rounds])),
    )  # fmt: skip


def _percentiles(rounds: Sequence[Array]) -> tuple[float, float, float]:
    every = np.concatenate(rounds)
    if not len(every):
        return (np.nan, np.nan, np.nan)
    p50 = float(np.median([np.median(each) for each in rounds if len(each)]))
    p95, p99 = (float(each) for each in np.quantile(every, SHARES[1:]))
    return p50, p95, p99


def by_mode(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples that count of each mode, the baseline left out."""
    found: dict[str, list[Sample]] = {}
    for rounds in _grouped(samples):
        if rounds[0].mode != BASELINE:
            found.setdefault(rounds[0].mode, []).extend(quiet(rounds))
    return dict(sorted(found.items()))
