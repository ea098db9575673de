"""A cell: what one mode's packets took with so many Services, towards a random one or the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.proxy_bench.levels import by_cell, levelled, median, relative, slowed
from probes.live.proxy_bench.plan import BASELINE, Sample
from probes.schema import Array

SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Cell:
    """Times in ns, at the cell's quiet level; except in cells of BASELINE, the median of packets without rules, at its, is taken off.

    A round's median is that of all its connections, as if each went to the cell's middle Service (`levels.relative`), p50 the median of
    the rounds'; p95 and p99 are of all connections. `spread` is the largest of the rounds' medians less the smallest, as a share of p50.
    `unlevelled_` is the same of what was measured, whatever else the machine did. NaN: none.
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
    base_first_ns: float  # of a node without rules; NaN where none was measured
    base_established_ns: float


@dataclass(frozen=True, slots=True)
class _Base:
    """Medians, in ns, of the node without rules."""

    first_ns: float
    established_ns: float


NOTHING, UNKNOWN = _Base(0.0, 0.0), _Base(np.nan, np.nan)


def cells(samples: Iterable[Sample]) -> list[Cell]:
    """A cell for each mode, number of Services and target, in the order of their first sample."""
    measured = by_cell(samples)
    levels = levelled(measured)
    base, unlevelled_base = _baseline(levels), _baseline(measured)
    return [_cell(*both, base, unlevelled_base) for both in zip(measured, levels, strict=True)]


def by_mode(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Each mode's samples, each at its cell's quiet level and without what the same packets take without rules; the baseline left out."""
    levels = levelled(by_cell(samples))
    off = _baseline(levels) or NOTHING
    found: dict[str, list[Sample]] = {}
    for bursts in levels:
        for each in bursts if bursts[0].mode != BASELINE else ():
            found.setdefault(each.mode, []).append(
                replace(each, first_ns=each.first_ns - off.first_ns, established_ns=each.established_ns - off.established_ns)
            )
    return dict(sorted(found.items()))


def _baseline(cells: Iterable[Sequence[Sample]]) -> _Base | None:
    """What packets take that meet no rules; None where nobody measured it."""
    bare = next((bursts for bursts in cells if bursts[0].mode == BASELINE), None)
    return None if bare is None else _Base(*(median(_medians(bare, later=later)) for later in (False, True)))


def _cell(measured: Sequence[Sample], level: Sequence[Sample], base: _Base | None, unlevelled_base: _Base | None) -> Cell:
    one = measured[0]
    off, unlevelled_off = (NOTHING if one.mode == BASELINE else each or NOTHING for each in (base, unlevelled_base))
    first = [each.first_ns - off.first_ns for each in level]
    established = [each.established_ns - off.established_ns for each in level]
    medians = [each - off.first_ns for each in _medians(level)]
    unlevelled = [each - unlevelled_off.first_ns for each in _medians(measured)]
    known = base or UNKNOWN
    return Cell(
        one.mode, one.services, one.target,
        (median(medians), *_tails(first)), (median(_medians(level, later=True)) - off.established_ns, *_tails(established)),
        tuple(medians), _spread(medians), median(unlevelled), _spread(unlevelled),
        sum(each.sent for each in measured), sum(len(each.first_ns) for each in measured), slowed(measured),
        known.first_ns, known.established_ns,
    )  # fmt: skip


def _medians(bursts: Sequence[Sample], *, later: bool = False) -> list[float]:
    """Of each round, the median of its bursts together: one slow burst of many moves it less than the mean of theirs.

    Of first packets, the cell's median times that of how slow they were for where their Services are.
    """
    whole = 1.0 if later else median(np.concatenate([each.first_ns for each in bursts]))
    found: dict[int, list[Array]] = {}
    for each, times in zip(bursts, [each.established_ns for each in bursts] if later else relative(bursts), strict=True):
        if len(times):
            found.setdefault(each.round, []).append(times)
    return [whole * float(np.median(np.concatenate(each))) for each in found.values()]


def _spread(medians: Sequence[float]) -> float:
    middle = median(medians)
    return (max(medians) - min(medians)) / middle if middle > 0 else np.nan


def _tails(bursts: Sequence[Array]) -> tuple[float, float]:
    every = np.concatenate(bursts)
    p95, p99 = (float(each) for each in np.quantile(every, SHARES[1:])) if len(every) else (np.nan, np.nan)
    return p95, p99
