"""Text written by machine code: what Python would write."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.records import NUMBERED, Recorder
from probes.text_rows import NULL, text_rows
from tracer.trace import Trace

NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1)
TEXTS = st.lists(st.text(st.characters(max_codepoint=127), max_size=9), min_size=1, max_size=3)


@settings(deadline=None)  # the first one may load, or compile
@given(texts=TEXTS, rows=st.lists(st.tuples(st.integers(0, 2), NUMBERS | st.none() | st.sampled_from((0, 9, 10, -1))), max_size=23))
def test_a_row_is_its_columns_one_behind_the_other(texts: list[str], rows: list[tuple[int, int | None]]) -> None:
    which = np.array([number % len(texts) for number, _ in rows], "i8")
    numbers = np.array([NULL if value is None else value for _, value in rows], "i8")
    out, bounds = text_rows(len(rows), ["a", (texts, which), numbers, ', "b": ', numbers])
    written = [out[first:end].tobytes().decode() for first, end in pairwise(bounds.tolist())]
    assert written == [f'a{texts[number % len(texts)]}{json.dumps(value)}, "b": {json.dumps(value)}' for number, value in rows]


def test_rows_may_be_made_of_rows() -> None:
    inner = text_rows(4, ["<", np.arange(4), ">"])
    out = text_rows(2, [(inner.grouped(np.array([0, 3, 4])), np.array([1, 0])), "; ", (inner, np.array([2, 2]))])
    assert [bytes(out.row(row)) for row in range(2)] == [b"<3>; <2>", b"<0><1><2>; <2>"]


def test_records_are_what_json_dumps_writes(traced: Trace) -> None:
    for record, text in Recorder(traced).both():
        assert json.dumps({name: value for name, value in record.items() if name not in NUMBERED}) == bytes(text).decode()
