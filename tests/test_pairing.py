"""Rows of equal keys are paired as a dictionary would pair them, however many there are and however they are spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.schema import Array
from tracer.pairing import PART_ROWS, paired
from tracer.tuples import mix

Pair = tuple[int, int]


def expected(*tables: tuple[Array, Array]) -> list[Pair]:
    last: dict[int, int] = {}
    pairs = []
    for keys, labels in tables:
        for key, label in zip(keys.tolist(), labels.tolist(), strict=True):
            if key in last:
                pairs.append((last[key], label))
            last[key] = label
    return sorted(pairs)


def found(*tables: tuple[Array, Array]) -> list[Pair]:
    left, right = paired(*tables)
    return sorted(zip(left.tolist(), right.tolist(), strict=True))


keys = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 2**64 - 1)), max_size=101)


@settings(deadline=None)  # the first one loads compiled code
@given(st.lists(keys, min_size=1, max_size=3))
def test_tables_of_any_keys_are_paired_one_after_another(tables: list[list[int]]) -> None:
    labelled, label = [], 2**63
    for each in tables:
        labelled.append((np.array(each, "u8"), np.arange(label, label + len(each), dtype="u8")))
        label += len(each)
    assert found(*labelled) == expected(*labelled)


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        pytest.param(PART_ROWS, PART_ROWS, id="parts that are not full"),
        pytest.param(10_007, 10_007, id="few parts"),
        pytest.param(200_003, 60_000, id="some of each key"),
        pytest.param(200_003, 3, id="three keys: three parts have all rows"),
        pytest.param(100_003, 1, id="one key"),
    ],
)
def test_many_rows_are_paired_in_their_order(rows: int, values: int) -> None:
    chosen = np.random.default_rng(7).integers(0, values, rows, dtype="u8")
    table = mix(chosen), np.arange(rows, dtype="u8")
    half = rows // 3
    assert found(table) == expected(table)
    assert found(*((column[:half], label[:half]) for column, label in [table])) == expected((table[0][:half], table[1][:half]))


def test_each_row_of_a_large_table_finds_its_like_in_another() -> None:
    keys = mix(np.arange(1_000_003))
    order = np.random.default_rng(7).permutation(len(keys))
    left, right = paired((keys, np.arange(len(keys), dtype="u8")), (keys[order], order.astype("u8")))
    assert (left == right).all()
    assert (np.sort(left) == np.arange(len(keys))).all()
