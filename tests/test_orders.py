"""Orders that are counted: those that sorting gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.orders import by_number, by_numbers_and_time

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(-3, 9)), max_size=101)


@settings(deadline=None)  # the first one may load, or compile
@given(rows=ROWS, turned=st.booleans())
def test_counted_orders_are_those_of_sorting(rows: list[tuple[int, int, int]], turned: bool) -> None:
    major, minor, times = np.array(rows, "i8").reshape(-1, 3).T.copy()
    before = np.arange(len(rows))[:: -1 if turned else 1].copy()
    expected = before[np.lexsort((times[before], minor[before], major[before]))]
    assert by_numbers_and_time((major, 5), (minor, 3), times, before).tolist() == expected.tolist()
    assert by_number(major, 5, before).tolist() == before[np.argsort(major[before], kind="stable")].tolist()
