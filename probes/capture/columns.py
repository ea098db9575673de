"""A table that grows at its end: rows come in as structured arrays, a chunk at a time, and leave as columns.

Each column is a private mapping of its own, which grows by mremap(2): pages move, bytes are not copied, and what lies beyond the rows was
never written and takes no memory. Pages of 2 MiB are asked for: taking in fresh pages of 4 KiB costs twice as much as decoding does.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np

from probes.jit import bare, copy
from probes.schema import Array, Schema, Table

FIRST_ROWS = 1 << 16
MOST_GROWTH = 100  # a guess from a file's beginning may be far off
SMALL_BYTES = 1 << 20  # a column that is no larger leaves as an ordinary array
SIZES = (8, 4, 2, 1)  # bytes of an item
BLOCK_ROWS = 64  # they stay in the first-level cache while they are taken apart
HUGE_PAGES, FORGET = getattr(mmap, "MADV_HUGEPAGE", None), getattr(mmap, "MADV_DONTNEED", None)  # where the system has them


@bare
def _scatter(rows: Array, columns: Sequence[Array], start: int, stride: int, first: int, begin: int, end: int) -> None:
    """Write rows `begin` to `end` to `columns`, row 0 being item `first`.

    `rows` are the bytes of all rows as words of the columns' size, `stride` to a row; those of `columns` begin at word `start` of each.
    """
    for number in range(len(columns)):
        column = columns[number]
        if len(column):
            for row in range(begin, end):
                copy(column, first + row, rows, row * stride + start + number, 1)


@bare
def _scatter_all(rows: Sequence[Array], columns: Sequence[Sequence[Array]], starts: Sequence[int], row_bytes: int, first: int) -> None:
    """`_scatter` for each size of item, in the order of SIZES."""
    count = len(rows[3]) // row_bytes
    for begin in range(0, count, BLOCK_ROWS):
        end = min(begin + BLOCK_ROWS, count)
        _scatter(rows[0], columns[0], starts[0], row_bytes // 8, first, begin, end)
        _scatter(rows[1], columns[1], starts[1], row_bytes // 4, first, begin, end)
        _scatter(rows[2], columns[2], starts[2], row_bytes // 2, first, begin, end)
        _scatter(rows[3], columns[3], starts[3], row_bytes, first, begin, end)


class _Mapped:
    """One column's memory: `items` is an array over all of it."""

    def __init__(self, dtype: str, room: int) -> None:
        self.dtype = np.dtype(dtype)
        self._mapping = mmap.mmap(-1, room * self.dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.items: Array = self._over_all()

    def _over_all(self) -> Array:
        if HUGE_PAGES is not None and self.dtype.itemsize > 1:  # a column's last page is never full: small items have the least to gain
            self._mapping.madvise(HUGE_PAGES)
        return np.frombuffer(self._mapping, self.dtype)

    def grow(self, room: int) -> None:
        """Make room for so many items in all. Nobody else may hold `items` or a part of it."""
        self.items = np.empty(0, self.dtype)
        self._mapping.resize(room * self.dtype.itemsize)
        self.items = self._over_all()

    def first(self, size: int) -> Array:
        """The first `size` items; what lies beyond them is given back to the system."""
        if size * self.dtype.itemsize <= SMALL_BYTES:
            return self.items[:size].copy()
        end = -(-size * self.dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        if FORGET is not None and end < len(self._mapping):
            self._mapping.madvise(FORGET, end)
        return self.items[:size]


class Columns:
    """The rows so far of a table of `schema`, whose columns must come in the order of SIZES."""

    def __init__(self, schema: Schema) -> None:
        self.size = 0
        self._room = FIRST_ROWS
        self._mapped = {column.name: _Mapped(column.dtype, self._room) for column in schema.columns}
        self._row_bytes = schema.dtype.itemsize
        sizes = [each.dtype.itemsize for each in self._mapped.values()]
        if sizes != sorted(sizes, reverse=True):
            raise ValueError(f"{schema.name}: columns of smaller items must follow those of larger ones")
        # without gaps between them: a row's items are aligned by their order
        self._starts = tuple(sum(each for each in sizes if each > size) // size for size in SIZES)
        self._by_size = self._arranged()

    def _arranged(self) -> tuple[tuple[Array, ...], ...]:
        """The columns of each size of item, as unsigned numbers; an empty one where there are none."""
        some = [[each.items.view(f"u{size}") for each in self._mapped.values() if each.dtype.itemsize == size] for size in SIZES]
        return tuple(tuple(each or [np.empty(0, f"u{size}")]) for each, size in zip(some, SIZES, strict=True))

    def has_room(self, count: int) -> bool:
        """Whether `reserve` leaves the columns where they are; else nobody may be writing to them."""
        return self.size + count <= self._room

    def reserve(self, count: int, share: float) -> int:
        """Make room for `count` rows, and return which row is the first of them. `share` of all rows will be there then; 0 if unknown."""
        first, has_room = self.size, self.has_room(count)
        self.size += count
        if not has_room:
            self._room = int(min(max(2.0, 1.1 / share), MOST_GROWTH) * self.size) if share else 2 * self.size
            self._by_size = ()
            for each in self._mapped.values():
                each.grow(self._room)
            self._by_size = self._arranged()
        return first

    def store(self, rows: Array, first: int) -> None:
        """Write `rows`, a structured array of the schema's dtype, from row `first` on, which must have been reserved."""
        words = tuple(rows.view(f"u{size}") for size in SIZES)
        _scatter_all(words, self._by_size, self._starts, self._row_bytes, first)

    def append(self, rows: Array, share: float) -> None:
        """Add `rows`; arguments as for `store` and `reserve`."""
        self.store(rows, self.reserve(len(rows), share))

    def table(self) -> Table:
        """The rows as a table; it shares its memory with this object, which is done with."""
        return {name: each.first(self.size) for name, each in self._mapped.items()}
