"""Orders that are counted: those that sorting gives."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.orders import by_number, by_numbers_and_time, merged

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(-3, 9)), max_size=101)


@settings(deadline=None)  # the first one may load, or compile
@given(rows=ROWS, turned=st.booleans())
def test_counted_orders_are_those_of_sorting(rows: list[tuple[int, int, int]], turned: bool) -> None:
    major, minor, times = np.array(rows, "i8").reshape(-1, 3).T.copy()
    assert by_numbers_and_time((major, 5), (minor, 3), times).tolist() == np.lexsort((times, minor, major)).tolist()
    before = np.arange(len(rows))[:: -1 if turned else 1].copy()
    assert by_number(major, 5, before).tolist() == before[np.argsort(major[before], kind="stable")].tolist()


@settings(deadline=None)
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_merged_runs_are_in_the_order_of_sorting(rows: list[tuple[int, int, int]], random: Random) -> None:
    runs, groups, times = np.array(rows, "i8").reshape(-1, 3).T.copy()
    tie = np.array(random.sample(range(len(rows)), len(rows)), "i8")
    order = np.lexsort((tie, times, runs, groups))  # a run is what has one group and one of `runs`
    groups, runs, times, tie = groups[order], runs[order], times[order], tie[order]
    first = np.flatnonzero(np.diff(groups * 5 + runs, prepend=-1))
    numbers = np.array(sorted(range(len(first)), key=lambda run: (groups[first[run]], random.random())), "i8")
    found = merged(np.append(first, len(rows)), numbers, groups[first], times, tie)
    assert found.tolist() == np.lexsort((tie, times, groups)).tolist()
