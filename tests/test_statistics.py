"""Percentiles and shares against hand-computed values, drawn resamples, and how often their intervals hold the truth."""

from __future__ import annotations

from itertools import pairwise
from math import comb
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics import percentiles, resampled, smallest_sample, wilson

SHARES = (0.5, 0.9, 0.95, 0.99)
NORMAL = {0.5: 0.0, 0.9: 1.2815515655446004, 0.95: 1.6448536269514722, 0.99: 2.3263478740408408}


@pytest.mark.parametrize(("share", "least"), [(0.5, 12), (0.9, 72), (0.1, 72), (0.95, 144), (0.99, 736)])
def test_the_smallest_sample_is_twice_where_all_values_may_be_on_one_side(share: float, least: int) -> None:
    assert smallest_sample(share) == least
    far = max(share, 1 - share)
    assert far ** (least // 2) <= 0.025 < far ** (least // 2 - 1)


def test_quantiles_are_interpolated() -> None:
    assert percentiles(np.array([40, 10, 20, 30]), (0.5, 0.9))[:, 0].tolist() == pytest.approx([25, 37])
    assert np.isnan(percentiles(np.array([]), SHARES)).all()
    assert percentiles(np.array([7]), SHARES)[:, 0].tolist() == [7, 7, 7, 7]


@pytest.mark.parametrize("share", SHARES)
def test_too_few_values_give_no_interval(share: float) -> None:
    least = smallest_sample(share)
    assert np.isnan(percentiles(np.arange(least - 1), (share,))[0, 1:]).all()
    assert not np.isnan(percentiles(np.arange(least), (share,))).any()


@given(st.lists(st.integers(0, 10**12), min_size=144, max_size=300), st.integers(0, 5), st.randoms())
def test_intervals_hold_their_quantile_follow_units_and_forget_order(values: list[int], seed: int, chance: Random) -> None:
    found = percentiles(np.array(values), SHARES[:3], seed=seed)
    assert np.all((found[:, 1] <= found[:, 0]) & (found[:, 0] <= found[:, 2]))
    assert all(np.all(one <= other) for one, other in pairwise(found))
    assert set(found[:, 1:].ravel()) <= set(map(float, values))
    chance.shuffle(values)
    assert np.array_equal(percentiles(np.array(values), SHARES[:3], seed=seed), found)
    assert np.allclose(percentiles(np.array(values) * 1000, SHARES[:3], seed=seed), found * 1000, rtol=1e-12)


@pytest.mark.parametrize("share", SHARES)
def test_resampled_is_what_drawing_with_replacement_gives(share: float) -> None:
    """Two-sample Kolmogorov-Smirnov: the distance stays below what 1 in 1,000 pairs of equal distributions exceed."""
    chance, ordered, times = np.random.default_rng(5), np.sort(np.random.default_rng(4).lognormal(size=101)), 4000
    drawn = np.sort(chance.choice(ordered, (times, 101)), axis=1)
    first = int(share * 100)
    for quick, slow in zip(resampled(ordered, share, chance, times), (drawn[:, first], drawn[:, first + 1]), strict=True):
        steps = [np.searchsorted(np.sort(each), ordered, side="right") / times for each in (quick, slow)]
        assert np.abs(steps[0] - steps[1]).max() < 1.95 * np.sqrt(2 / times)


def test_resampled_medians_are_spread_as_the_formula_says() -> None:
    """Efron (1979): the resamples' median of 2m-1 values is at most the k-th with the chance that m or more draws are."""
    ordered, draws = np.arange(1.0, 12), 11
    below, _ = resampled(ordered, 0.5, np.random.default_rng(3), 200_000)
    for k in range(1, 12):
        exact = sum(comb(draws, j) * (k / 11) ** j * (1 - k / 11) ** (draws - j) for j in range(6, 12))
        assert np.mean(below <= k) == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize(("share", "size"), [(share, size) for share in SHARES for size in (smallest_sample(share), 2500)])
def test_intervals_hold_the_truth_as_often_as_they_say(share: float, size: int) -> None:
    """Of 95 % intervals from 600 skewed samples, 92 to 98 % hold the true percentile, give or take three standard errors."""
    chance, truth, times = np.random.default_rng(11), np.exp(NORMAL[share]), 600
    found = np.array([percentiles(chance.lognormal(size=size), (share,), seed=seed)[0] for seed in range(times)])
    held = np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))
    error = 3 * np.sqrt(0.95 * 0.05 / times)
    assert 0.92 - error < held < 0.98 + error


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I: the score method's examples
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_gives_the_published_intervals(count: int, total: int, low: float, high: float) -> None:
    found = wilson(np.array([count]), np.array([total]))
    assert [float(end[0]) for end in found] == pytest.approx([low, high], abs=5e-5)
