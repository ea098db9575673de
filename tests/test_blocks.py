"""Rows that are made some at a time are those that would be made all at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.blocks import ROWS, Blocks

EDGES = st.sampled_from([0, 1, 7, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 2 * ROWS + 101])


@given(count=EDGES, first=EDGES, end=EDGES, step=st.sampled_from([None, 1, 2, -1]))
def test_a_slice_is_that_of_all_rows(count: int, first: int, end: int, step: int | None) -> None:
    blocks: Blocks[int] = Blocks(count, lambda low, high: list(range(low, high)))
    assert blocks[first:end:step] == list(range(count))[first:end:step]
