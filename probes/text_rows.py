"""Text of many rows at once, in machine code: each row is texts that were there before, and numbers, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probes.jit import bare, copy, inside, unsigned
from probes.schema import Array

NULL = np.iinfo("i8").min  # among numbers: written as JSON's null
DIGITS = 20  # of a number, with its sign
_ZERO, _MINUS = b"0-"


class Rows(NamedTuple):
    """Text of rows: row i is `text[bounds[i] : bounds[i + 1]]` (uint8, int64)."""

    text: Array
    bounds: Array

    def grouped(self, bounds: Array) -> Rows:
        """Rows of these: group g has all from `bounds[g]` to `bounds[g + 1]`."""
        return Rows(self.text, self.bounds[bounds])

    def row(self, which: int) -> memoryview:
        """Text of one."""
        return self.text[self.bounds[which] : self.bounds[which + 1]].data


Texts = tuple[Sequence[str] | Rows, Array]


@inside
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


@bare
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


def text_rows(count: int, columns: Sequence[str | Texts | Array]) -> Rows:
    """`count` rows, each what it has in each column one behind the other.

    A column is one text for all rows, `(texts, which)` with the number of each row's text, or numbers (integers; NULL is `null`). Texts are
    ASCII.
    """
    cells, is_text = np.empty((len(columns), count), "i8"), np.zeros(len(columns), "u1")
    null, size = _joined(["null"])
    pool, lengths, known, room = [null], [size], 1, 0
    for number, column in enumerate(columns):
        if isinstance(column, np.ndarray):
            cells[number] = column
            room += DIGITS * count
            continue
        texts, which = ([column], np.zeros(count, "i8")) if isinstance(column, str) else column
        text, sizes = (texts.text, np.diff(texts.bounds)) if isinstance(texts, Rows) else _joined(texts)
        is_text[number] = 1
        np.add(which, known, out=cells[number])
        known += len(sizes)
        room += int(sizes[which].sum())
        pool.append(text)
        lengths.append(sizes)
    starts = np.zeros(known + 1, "i8")
    np.cumsum(np.concatenate(lengths), out=starts[1:])
    out, bounds = np.empty(room, "u1"), np.zeros(count + 1, "i8")
    _write(cells, is_text, starts, np.concatenate(pool), out, bounds[1:])
    return Rows(out[: bounds[-1]], bounds)


def _joined(texts: Sequence[str]) -> tuple[Array, Array]:
    """`texts` as bytes, and how many each has."""
    return np.frombuffer("".join(texts).encode("ascii"), "u1"), np.array(list(map(len, texts)), "i8")
