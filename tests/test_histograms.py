"""Histograms: what a bucket may be off, and that sums do not depend on how they were put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.histograms import BUCKETS, ERROR, HISTOGRAMS, PER_OCTAVE, buckets, histograms, merged, middles
from probes.schema import Array, Table, take

MOST = 2**63 - 1
NUMBERS = st.integers(0, MOST) | st.integers(0, 10**10) | st.integers(0, 62).flatmap(lambda e: st.integers(max(0, 2**e - 2), 2**e + 2))
SAMPLES = st.lists(st.tuples(st.integers(0, 4), NUMBERS), max_size=60)


def columns(samples: list[tuple[int, int]]) -> tuple[Array, Array]:
    return np.array([of for of, _ in samples], "i8"), np.array([number for _, number in samples], "i8")


def same(one: Table, other: Table) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in HISTOGRAMS.empty())


@given(NUMBERS)
def test_a_bucket_is_hardly_wider_than_the_numbers_in_it(number: int) -> None:
    bucket = buckets(np.array([number]))
    assert 0 <= bucket[0] < BUCKETS
    assert abs(int(middles(bucket)[0]) - number) <= number * ERROR
    assert number >= 2 * PER_OCTAVE or int(middles(bucket)[0]) == number


@pytest.mark.parametrize("exponent", [0, 7, 8, 9, 31, 52, 53, 54, 61, 62])
def test_higher_numbers_are_in_higher_buckets(exponent: int) -> None:
    around = np.unique(np.clip(np.arange(-300, 300) + 2**exponent, 0, MOST))
    steps = np.diff(buckets(around))
    assert ((steps == 0) | (steps == 1)).all()
    assert (buckets(middles(buckets(around))) == buckets(around)).all()


@given(SAMPLES)
def test_every_quantile_is_within_the_error(samples: list[tuple[int, int]]) -> None:
    of, numbers = columns(samples)
    table = histograms(of, numbers)
    for each in set(of.tolist()):
        exact = sorted(numbers[of == each].tolist())
        rows = take(table, table["of"] == each)
        told = np.repeat(middles(rows["bucket"]), rows["count"]).tolist()
        assert len(told) == len(exact)
        assert all(abs(one - other) <= other * ERROR for one, other in zip(told, exact, strict=True))


@given(SAMPLES, st.lists(st.integers(0, 6), max_size=60), st.randoms(use_true_random=False))
def test_any_tree_of_parts_gives_the_same_bytes(samples: list[tuple[int, int]], parts: list[int], order: object) -> None:
    of, numbers = columns(samples)
    part = np.resize(np.array(parts or [0], "i8"), len(of))
    tables = [histograms(of[part == each], numbers[part == each]) for each in range(7)]
    while len(tables) > 1:
        order.shuffle(tables)  # type: ignore[attr-defined]
        tables.append(merged(HISTOGRAMS.concat([tables.pop(), tables.pop()])))
    assert same(tables[0], histograms(of, numbers))
