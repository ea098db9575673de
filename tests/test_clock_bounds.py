"""What limits allow two clocks to differ by, against a plain search; and what follows for circles of clocks."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.clocks.bounds import MAX_PIECES, Bounds, Fit, fit
from tracer.clocks.crossings import MAX_DRIFT
from tracer.clocks.groups import closure, consistent, solve, tied

BASE_NS = 1_795_411_478_000_000_000
OFFSET_NS = 37_123_456
MAX_SLOPE = Fraction(MAX_DRIFT)

Limit = tuple[int, int, bool]


def bounds(limits: list[Limit]) -> Bounds:
    limits = sorted(limits)
    times, levels, ceilings = (list(column) for column in zip(*limits, strict=True))
    return Bounds(np.array(times, "i8") + BASE_NS, np.array(levels, "i8") + OFFSET_NS, np.array(ceilings))


def corners(limits: list[Limit]) -> list[tuple[Fraction, Fraction]]:
    """All corners (a, b) of the allowed lines, by trying every two limits: exact, and slow."""
    edges = [(Fraction(1), Fraction(time), Fraction(level)) for time, level, _ in limits]
    edges += [(Fraction(0), Fraction(1), MAX_SLOPE), (Fraction(0), Fraction(1), -MAX_SLOPE)]
    found = []
    for (a, b, c), (d, e, f) in combinations(edges, 2):
        determinant = a * e - b * d
        if determinant:
            level, slope = (c * e - b * f) / determinant, (a * f - c * d) / determinant
            holds = all((level + slope * time <= limit) if ceiling else (level + slope * time >= limit) for time, limit, ceiling in limits)
            if abs(slope) <= MAX_SLOPE and holds:
                found.append((level, slope))
    return found


def at(found: Fit, time_ns: int) -> tuple[float, float]:
    (piece,) = found.pieces
    low, high = piece.at(np.array([time_ns + BASE_NS]), np.array([OFFSET_NS]))
    return float(low[0]), float(high[0])


# µs apart: limits are kept with a guard of a thousandth of a ns against rounding, which two limits 1 ns apart would lever up
limits_of_two = st.lists(
    st.tuples(st.integers(0, 1_000).map(lambda us: us * 1000), st.integers(-400, 400), st.booleans()), min_size=2, max_size=9
).filter(lambda limits: len({ceiling for *_, ceiling in limits}) == 2)


@settings(max_examples=200, deadline=None)
@given(limits_of_two, st.integers(-500_000, 1_500_000))
def test_least_and_greatest_offsets_are_those_of_an_exact_search(limits: list[Limit], time_ns: int) -> None:
    allowed = corners(limits)
    found = fit(bounds(limits))
    assert (found.cuts == 0 and not found.uneven) == bool(allowed)
    if allowed:
        low, high = at(found, time_ns)
        values = [float(level + slope * time_ns) for level, slope in allowed]
        assert low == pytest.approx(min(values), abs=2)
        assert high == pytest.approx(max(values), abs=2)
        assert found.pieces[0].drift == pytest.approx((float(min(b for _, b in allowed)), float(max(b for _, b in allowed))), abs=2e-6)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), min_size=1, max_size=40))
def test_limits_of_one_side_leave_the_other_open(points: list[tuple[int, int]]) -> None:
    low, high = at(fit(bounds([(*point, True) for point in points])), 0)
    assert low == -np.inf
    assert np.isfinite(high)
    low, high = at(fit(bounds([(*point, False) for point in points])), 0)
    assert high == np.inf
    assert np.isfinite(low)


def test_the_smallest_round_trip_is_one_that_packets_took() -> None:
    limits = [(number * 1_000_000, 50_000 - 40_000 * (number % 2) + 40 * number, number % 2 == 0) for number in range(23)]
    assert fit(bounds(limits)).round_trip_ns == pytest.approx(40_000, abs=100)


def test_a_step_is_one_cut_between_the_packets_that_contradict_each_other() -> None:
    limits = [
        (n * 1_000_000, step + (1000 if n % 2 else -1000), n % 2 == 1) for n in range(202) for step in (0 if n < 101 else 50_000_000,)
    ]
    found = fit(bounds(limits))
    assert found.cuts == 1
    early, late = found.pieces
    assert early.greatest.max() < 1_000_000
    assert (late.least + OFFSET_NS - early.least.min()).min() > 40_000_000
    assert late.start_ns < BASE_NS + 101 * 1_000_000 < early.end_ns


def test_too_many_pieces_are_none() -> None:
    """A clock that jumps all the time: all that was seen, and more."""
    noise = np.random.default_rng(1).integers(-(10**9), 10**9, 4 * MAX_PIECES)
    limits = [(n * 1_000_000, int(level), n % 2 == 1) for n, level in enumerate(noise)]
    found = fit(bounds(limits))
    assert found.uneven
    low, high = at(found, 0)
    assert low < noise.min() < noise.max() < high


def test_a_clock_whose_rate_changes_is_cut_and_stays_within_its_limits() -> None:
    """Half a day of a crystal that warms up: 1 ppm in an hour."""
    times = np.arange(0, 12 * 3600, 10, dtype="i8") * 1_000_000_000
    true = np.rint(1e-6 / 3.6e12 * times.astype("f8") ** 2 / 2).astype("i8")
    limits = [
        (int(time), int(level) + (30_000 if n % 2 else -30_000), n % 2 == 1)
        for n, (time, level) in enumerate(zip(times, true, strict=True))
    ]
    found = fit(bounds(limits))
    assert 1 < found.cuts < MAX_PIECES
    moments = times + BASE_NS
    low, high = np.full(len(times), np.inf), np.full(len(times), -np.inf)
    for piece in found.pieces:
        here = (piece.start_ns <= moments) & (piece.end_ns >= moments)
        least, greatest = piece.at(moments, np.full(len(times), OFFSET_NS))
        low, high = np.where(here, np.minimum(low, least), low), np.where(here, np.maximum(high, greatest), high)
    assert (low - 2 <= true).all()
    assert (true <= high + 2).all()
    assert np.median(high - low) < 100_000


def test_chains_tighten_limits() -> None:
    limits = np.full((1, 3, 3), np.inf)
    limits[0, range(3), range(3)] = 0
    limits[0, [0, 1, 1, 2, 0, 2], [1, 0, 2, 1, 2, 0]] = [5, 5, 7, 7, 100, 11]
    assert closure(limits)[0].tolist() == [[0, 5, 12], [5, 0, 7], [11, 7, 0]]


def test_limits_that_contradict_each_other_around_a_circle_are_loosened() -> None:
    limits = np.full((1, 3, 3), np.inf)
    limits[0, range(3), range(3)] = 0
    limits[0, [0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]] = [-100, -100, -100, 150, 150, 150]  # each pair by itself is consistent
    tight, loosened = consistent(limits, 1.0)
    assert 100 <= loosened <= 400
    assert (np.diagonal(tight[0]) >= 0).all()


def test_a_group_says_that_its_pairs_contradict_each_other() -> None:
    """a to b, b to c and a to c each run evenly, but do not add up: by 1 ms."""

    def pair(offset_ns: int) -> Fit:
        return fit(bounds([(n * 10**9, offset_ns - OFFSET_NS + (1000 if n % 2 else -1000), n % 2 == 1) for n in range(101)]))

    fits = {(0, 1): pair(0), (1, 2): pair(0), (0, 2): pair(1_000_000)}
    assert tied(fits, 3) == [[0, 1, 2]]
    times = BASE_NS + np.arange(101, dtype="i8") * 10**9
    group = solve([0, 1, 2], fits, dict.fromkeys(range(3), times))
    assert group.widened_ns > 300_000
    assert group.half_ns[:, 0, 2].min() > 300_000
