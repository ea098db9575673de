"""Text of many rows at once, in machine code: each row is texts that were there before, and numbers, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.jit import copy, inlined, kernel, unsigned
from probes.schema import Array

NULL = np.iinfo("i8").min  # among numbers: written as JSON's null
DIGITS = 20  # of a number, with its sign
_ZERO, _MINUS = b"0-"

Texts = tuple[Sequence[str], Array]


@inlined
def _write_number(out: Array, at: int, value: int) -> int:
    """Write `value` to `out` from `at` on; the place behind it."""
    if value < 0:
        out[at] = _MINUS
        at, value = at + 1, -value
    left, digits = unsigned(value), 1
    while left >= unsigned(10):
        left, digits = left // unsigned(10), digits + 1
    left = unsigned(value)
    for place in range(at + digits - 1, at - 1, -1):
        rest = left // unsigned(10)
        out[place] = unsigned(_ZERO) + left - rest * unsigned(10)
        left = rest
    return at + digits


@kernel
def _write(cells: Array, is_text: Array, starts: Array, pool: Array, out: Array, ends: Array) -> None:
    """Write row after row of `cells`; text t is `pool[starts[t] : starts[t + 1]]`, text 0 is that of NULL."""
    at = 0
    for row in range(cells.shape[1]):
        for column in range(len(is_text)):
            value, number = cells[column, row], not is_text[column]
            if number and value != NULL:
                at = _write_number(out, at, value)
                continue
            text = 0 if number else value
            count = starts[text + 1] - starts[text]
            copy(out, at, pool, starts[text], count)
            at += count
        ends[row] = at


def text_rows(count: int, columns: Sequence[str | Texts | Array]) -> tuple[Array, Array]:
    """`(bytes, bounds)` of `count` rows: row i is `bytes[bounds[i] : bounds[i + 1]]`, what it has in each column one behind the other.

    A column is one text for all rows, `(texts, which)` with the number of each row's text, or numbers (integers; NULL is `null`).
    Bytes are uint8, bounds int64; texts are ASCII.
    """
    cells, is_text = np.empty((len(columns), count), "i8"), np.zeros(len(columns), "u1")
    pool, longest = ["null"], 0
    for number, column in enumerate(columns):
        if isinstance(column, np.ndarray):
            cells[number] = column
            longest += DIGITS
            continue
        texts, which = ([column], 0) if isinstance(column, str) else column
        is_text[number] = 1
        np.add(which, len(pool), out=cells[number])
        pool += texts
        longest += max(map(len, texts), default=0)
    starts = np.zeros(len(pool) + 1, "i8")
    np.cumsum(list(map(len, pool)), out=starts[1:])
    out, bounds = np.empty(count * longest, "u1"), np.zeros(count + 1, "i8")
    _write(cells, is_text, starts, np.frombuffer("".join(pool).encode("ascii"), "u1"), out, bounds[1:])
    return out[: bounds[-1]], bounds
