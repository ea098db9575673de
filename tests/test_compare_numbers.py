"""The statistics of comparisons against brute force, published figures and known truths."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from compared import CONNECT, NAT_FIRST, lognormal, of
from hypothesis import given
from hypothesis import strategies as st

from analysis.compare import Measured
from analysis.compare.chance import Chance, chance, dealt, deviates
from analysis.compare.clusters import critical, normal_of, student_of, worth
from analysis.compare.effects import effects, resampled
from analysis.compare.judging import judged
from analysis.compare.questions import SHARE, TYPICAL, Question
from analysis.compare.ranks import Pooled, shift
from analysis.compare.shares import Share, difference, share
from analysis.compare.spread import dispersion, holm
from bench.splits import split_among
from probes.schema import Array

VALUES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7)), min_size=2, max_size=31)


def halves(clusters: int) -> Array:
    return np.arange(clusters) % 2 == 1


@given(rows=VALUES)
def test_superiority_is_the_share_of_pairs(rows: list[tuple[int, int]]) -> None:
    values, cluster = (np.array(column, "f8") for column in zip(*rows, strict=True))
    is_b = halves(8)
    second = is_b[cluster.astype("i8")]
    if not 0 < second.sum() < len(second):
        return
    superiority, z = Pooled(values, cluster.astype("i8")).tests(is_b[None])
    pairs = [(b > a) + (b == a) / 2 for b in values[second] for a in values[~second]]
    assert superiority[0] == pytest.approx(np.mean(pairs))
    turned, back = Pooled(values, cluster.astype("i8")).tests(~is_b[None])
    assert (turned[0], back[0]) == pytest.approx((1 - superiority[0], -z[0]))


def test_deviates_are_sums_of_placements_by_cluster() -> None:
    """The variance as Obuchowski (1997) writes it, cluster by cluster."""
    made = lognormal(23, 1)
    theta, z = (float(each[0]) for each in Pooled(made.values, made.cluster).tests(halves(23)[None]))
    is_b = halves(23)[made.cluster]
    variance, freedom = [], []
    for mine, other in ((~is_b, is_b), (is_b, ~is_b)):
        below = np.array([np.mean(made.values[other] < v) + np.mean(made.values[other] == v) / 2 for v in made.values[mine]])
        sums = [float((below - below.mean())[made.cluster[mine] == code].sum()) for code in np.unique(made.cluster[mine])]
        n = worth(made.cluster[mine])
        variance.append(np.sum(np.square(sums)) / mine.sum() ** 2 * n / (n - 1))
        freedom.append(n - 1)
    welch = sum(variance) ** 2 / sum(v**2 / f for v, f in zip(variance, freedom, strict=True))
    assert z == pytest.approx(normal_of(np.array((theta - 0.5) / sum(variance) ** 0.5), np.array(welch)))


@pytest.mark.parametrize("ticks", [1, 20_000], ids=["all differ", "many are alike"])
def test_many_divisions_are_as_each_by_itself(ticks: int) -> None:
    made = lognormal(37, 2)
    many = dealt(np.arange(41) < 18, 101, 0)  # some clusters have no values
    pooled = Pooled(made.values // ticks, made.cluster)
    together = np.stack(pooled.tests(many))
    assert (together == np.concatenate([np.stack(pooled.tests(each[None])) for each in many], axis=1)).all()


def test_any_number_of_threads_gives_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = [of({key: lognormal(37, seed + at) for at, key in enumerate((CONNECT, NAT_FIRST))}, 37) for seed in (1, 11)]
    told = []
    for count in (1, 3):
        monkeypatch.setattr("probes.processors.PROCESSORS", count)
        steps: list[tuple[str, int, int]] = []
        told.append(judged(*sides, level=0.95, seed=0, progress=lambda *step, steps=steps: steps.append(step)))
        assert steps == [*(("chance", done, 4) for done in range(1, 5)), ("sizes", 1, 2), ("sizes", 2, 2)]
    assert told[0] == told[1]


def test_the_shift_is_the_median_of_all_differences_and_moves_with_the_values() -> None:
    a, b = lognormal(31, 3), lognormal(29, 4)
    found = shift(a.values, a.cluster, b.values, b.cluster, critical(0.95))
    pairs = np.subtract.outer(b.values, a.values).ravel()
    assert found.estimate == pytest.approx(np.median(pairs), abs=1)
    moved = shift(a.values, a.cluster, b.values + 7000, b.cluster, critical(0.95))
    assert (moved.low, moved.estimate, moved.high) == pytest.approx((found.low + 7000, found.estimate + 7000, found.high + 7000), abs=1)


def test_the_interval_holds_what_the_test_does_not_refuse() -> None:
    a, b = lognormal(31, 5), lognormal(29, 6, times=1.3)
    cluster = np.concatenate((a.cluster, b.cluster + 31))
    is_b = (np.arange(60) >= 31)[None]
    found = shift(a.values, a.cluster, b.values, b.cluster, 2.0)
    for by, inside in ((found.low - 5, False), (found.low + 5, True), (found.high - 5, True), (found.high + 5, False)):
        z = Pooled(np.concatenate((a.values, b.values - by)), cluster).tests(is_b)[1][0]
        assert (abs(z) <= 2.0) == inside, by


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 95 % intervals around a ratio of 1.5, from clusters that hold together, as many hold it (give or take three standard errors)."""
    held, times = [], 101
    for seed in range(times):
        a, b = lognormal(37, seed, together=0.8), lognormal(31, 1000 + seed, times=1.5, together=0.8)
        found = shift(np.log(a.values), a.cluster, np.log(b.values), b.cluster, critical(0.95))
        held.append(found.low <= np.log(1.5) <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / times) ** 0.5)


@pytest.mark.parametrize(
    ("freedom", "level", "t"),
    [(5, 0.95, 2.5706), (10, 0.95, 2.2281), (10, 0.99, 3.1693), (30, 0.95, 2.0423), (120, 0.99, 2.6174)],  # Fisher & Yates, table III
)
def test_students_t_is_the_tables(freedom: float, level: float, t: float) -> None:
    assert student_of(critical(level), freedom) == pytest.approx(t, rel=3e-3)
    assert float(normal_of(np.array(t), np.array(freedom))) == pytest.approx(critical(level), rel=3e-3)


@pytest.mark.parametrize(
    ("clusters", "n"),
    [([0, 1, 2, 3], 4), ([0, 0, 1, 1], 2), ([0] * 5, 1), ([0] * 9 + [1], 100 / 82), ([], 0)],
)
def test_clusters_are_worth_what_kish_says(clusters: list[int], n: float) -> None:
    assert worth(np.array(clusters, "i8")) == pytest.approx(n)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((0, 20), (10, 10), 0.6791, 1.0),
        ((0, 10), (0, 20), -0.2775, 0.1611),
    ],
)
def test_differences_of_shares_are_the_published_ones(a: tuple[int, int], b: tuple[int, int], low: float, high: float) -> None:
    sides = (Share(hits, total, total, 1e9) for hits, total in (a, b))
    assert difference(*sides, critical(0.95))[1:] == pytest.approx((low, high), abs=2e-4)  # type: ignore[misc]  # two


def test_clusters_that_fail_together_count_once() -> None:
    hit = np.arange(23) % 2 == 0
    alone = share(hit, np.arange(23))
    five = share(np.repeat(hit, 5), np.repeat(np.arange(23), 5))
    assert five.effective == pytest.approx(alone.effective, rel=0.05)
    assert share(np.zeros(115, bool), np.repeat(np.arange(23), 5)).effective == 23


def test_resampled_medians_are_spread_as_the_formula_says() -> None:
    """With clusters of one: the median of 11 draws is at most the k-th value with the chance that 6 or more draws are (Efron, 1979)."""
    (drawn,) = resampled(np.arange(1.0, 12), np.arange(11), [0.5], np.random.default_rng(3), 40_000)
    for k in range(1, 12):
        exact = sum(comb(11, j) * (k / 11) ** j * (1 - k / 11) ** (11 - j) for j in range(6, 12))
        assert np.mean(drawn <= k) == pytest.approx(exact, abs=0.01)


@given(rows=VALUES, shares=st.lists(st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99]), min_size=1, max_size=3))
def test_resampled_quantiles_are_those_of_the_values_drawn(rows: list[tuple[int, int]], shares: list[float]) -> None:
    values, cluster = (np.array(column, "f8") for column in zip(*rows, strict=True))
    _, code = np.unique(cluster, return_inverse=True)
    found = resampled(values, cluster.astype("i8"), shares, np.random.default_rng(5), 7)
    clusters = int(code.max()) + 1
    for at, drawn in enumerate(np.random.default_rng(5).multinomial(clusters, np.full(clusters, 1 / clusters), 7)):
        all_of_it = np.repeat(values, drawn[code])
        assert [each[at] for each in found] == [np.quantile(all_of_it, share, method="inverted_cdf") for share in shares]


def test_intervals_of_quantiles_are_wider_the_more_clusters_hold_together() -> None:
    alone, together = (lognormal(61, 8, together=share_) for share_ in (0.0, 1.0))
    widths = []
    for made in (alone, together):
        (found,) = effects(made.values, made.cluster, made.values, made.cluster, [0.5], seed=1)
        assert found.difference[1] < 0 < found.difference[2]
        assert found.ratio is not None
        assert found.ratio[1] < 1 < found.ratio[2]
        assert found == effects(made.values, made.cluster, made.values, made.cluster, [0.9, 0.5], seed=1)[1]
        widths.append(found.ratio[2] / found.ratio[1])
    assert widths[1] > 1.1 * widths[0]


def question(seed: int, kind: str = TYPICAL) -> Question:
    made = lognormal(40, seed)
    return Question(("connect", ""), kind, made.values if kind == TYPICAL else (made.values > 45_000).astype("f8"), made.cluster)


def test_chance_makes_every_p_value_as_often_as_it_says() -> None:
    """Of deals that nothing sets apart, 5 % have a p-value of 5 % and less, of one question and of the smallest of all."""
    asked, half = [question(1), question(2), question(3, SHARE), question(4)], np.arange(40) < 20
    drawn = chance(asked, half, 1)
    times = 1009
    found = deviates(asked, dealt(half, times, 2))
    for level in (0.05, 0.2):
        error = 3 * (level * (1 - level) * (1 / times + 1 / 1999)) ** 0.5
        assert np.mean([drawn.alone(z) <= level for z in found], axis=0) == pytest.approx(level, abs=error)
        assert np.mean([drawn.together(z).min() <= level for z in found]) == pytest.approx(level, abs=error)


def test_many_questions_make_each_less_sure() -> None:
    drawn = Chance(np.abs(np.random.default_rng(0).normal(size=(1999, 7))))
    z = np.array([3.1, 0.2, 1.9, 2.9, 1.0, 0.0, 2.2])
    alone, together = drawn.alone(z), drawn.together(z)
    assert (together >= alone).all()
    assert (np.diff(together[np.argsort(-z)]) >= 0).all()
    assert together[0] == pytest.approx(7 * alone[0], rel=0.5)  # they are independent here: Bonferroni is nearly right
    one = Chance(np.repeat(drawn.deviates[:, :1], 7, axis=1))
    assert one.together(z)[0] == one.alone(z)[0]  # seven times the same question is one question


@pytest.mark.parametrize(("counts", "shares"), [((3, 3), (0.5, 0.5)), ((7, 0, 1), (1 / 3, 1 / 3, 1 / 3)), ((4, 1), (0.9, 0.1))])
def test_dispersion_is_the_exact_chance(counts: tuple[int, ...], shares: tuple[float, ...]) -> None:
    """Every way to choose, counted."""

    def square(some: tuple[int, ...]) -> float:
        return sum((c - s * sum(some)) ** 2 / (s * sum(some)) for c, s in zip(some, shares, strict=True))

    uneven = even = 0.0
    for chosen in itertools.product(range(len(shares)), repeat=sum(counts)):
        way = tuple(chosen.count(each) for each in range(len(shares)))
        likely = float(np.prod([shares[each] for each in chosen]))
        uneven += likely * (square(way) >= square(counts) - 1e-9)
        even += likely * (square(way) <= square(counts) + 1e-9)
    found = dispersion([(np.array(counts), np.array(shares))], np.random.default_rng(0))
    assert found == pytest.approx((uneven, even), abs=0.02)


def test_holm_is_the_published_example() -> None:
    """Wright, Biometrics 48 (1992) 1005: 0.01, 0.02, 0.022, 0.09 become 0.04, 0.06, 0.06, 0.09."""
    assert holm([0.022, 0.01, 0.09, 0.02]) == pytest.approx([0.06, 0.04, 0.09, 0.06])


def test_of_four_parts_of_one_thing_few_differ() -> None:
    """Three pairs share a side: corrected for all of them 7 % and fewer have any false verdict; each for itself, as many as pairs give."""
    clusters, times = 84, 211
    samples = {key: lognormal(clusters, seed) for seed, key in enumerate((CONNECT, NAT_FIRST))}
    made: Measured = of(samples, clusters)
    assert split_among(made, 4, times) <= 0.07
    assert split_among(made, 4, times, families=1) > 0.07
