"""A table that grows at its end, a chunk of rows at a time.

Each column is a private mapping of its own, which grows by mremap(2): pages move, bytes are not copied, and what lies beyond the rows was
never written and takes no memory. Pages of 2 MiB are asked for: taking in fresh pages of 4 KiB costs twice as much as decoding does.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from probes.jit import bare, inside, move, place
from probes.pages import HUGE_BYTES, pages, want_huge
from probes.schema import Array, Schema, Table, size

MOST_GROWTH = 1000  # a guess from a file's beginning may be far off
SMALL_BYTES = 1 << 16  # a column that is no larger leaves as an ordinary array: there may be many files
SIZES = (8, 4, 2, 1)  # bytes of an item
BLOCK_ITEMS = 256
MOVES_PAGES = sys.platform == "linux"
LARGE_BYTES = HUGE_BYTES // 2  # a column of so many is in huge pages: by then small ones take longer
Groups = tuple[tuple[Array, ...], ...]
FORGET = getattr(mmap, "MADV_DONTNEED", None)  # where the system has it


@inside
def _has_content(column: Array, count: int) -> bool:
    """Whether any of the first `count` items is not 0."""
    for begin in range(0, count, BLOCK_ITEMS):
        found = column[begin]
        for index in range(begin, min(begin + BLOCK_ITEMS, count)):
            found |= column[place(index)]
        if found != 0:
            return True
    return False


@inside
def _move(sources: Sequence[Array], targets: Sequence[Array], first: int, count: int) -> None:
    for number in range(len(sources)):
        column = sources[number]
        if _has_content(column, count):
            move(targets[number], first, column, count)


@bare
def _move_all(sources: Sequence[Sequence[Array]], targets: Sequence[Sequence[Array]], first: int, count: int) -> None:
    """The first `count` items of each of `sources` to item `first` of the target at its place, which is 0 so far; the source is 0 then.

    What is 0 need not be written: a column in which a capture has nothing takes no memory.
    """
    _move(sources[0], targets[0], first, count)
    _move(sources[1], targets[1], first, count)
    _move(sources[2], targets[2], first, count)
    _move(sources[3], targets[3], first, count)


class _Mapped:
    """One column's memory: `items` is an array over all of it."""

    def __init__(self, dtype: str) -> None:
        self.items: Array = np.empty(0, dtype)
        self._mapping: mmap.mmap | None = None

    def grow(self, room: int) -> None:
        """Make room for so many items in all. Nobody else may hold `items` or a part of it."""
        before, size_bytes = self.items, room * self.items.itemsize
        if size_bytes >= LARGE_BYTES:
            size_bytes = -(-size_bytes // HUGE_BYTES) * HUGE_BYTES
        if self._mapping and MOVES_PAGES and (len(self._mapping) >= LARGE_BYTES or size_bytes < LARGE_BYTES):
            self.items = before = np.empty(0, before.dtype)
            self._mapping.resize(size_bytes)
        else:  # small pages would stay, in the way of large ones
            self._mapping = pages(size_bytes)
        if size_bytes >= LARGE_BYTES:
            want_huge(self._mapping)
        self.items = np.frombuffer(self._mapping, before.dtype, size_bytes // before.itemsize)
        if before.any():
            self.items[: len(before)] = before

    def first(self, count: int) -> Array:
        """The first `count` items; what lies beyond them is given back to the system."""
        if not self._mapping or count * self.items.itemsize <= SMALL_BYTES:
            return self.items[:count].copy()
        end = -(-count * self.items.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        if FORGET is not None and end < len(self._mapping):
            self._mapping.madvise(FORGET, end)
        return self.items[:count]


def by_size(columns: Iterable[Array]) -> Groups:
    """The arrays of each size of item, in the order of SIZES, as unsigned numbers; an empty one where there are none."""
    some = [[each.view(f"u{size}") for each in columns if each.itemsize == size] for size in SIZES]
    return tuple(tuple(each or [np.empty(0, f"u{size}")]) for each, size in zip(some, SIZES, strict=True))


class Columns:
    """The rows so far of a table of `schema`."""

    def __init__(self, schema: Schema) -> None:
        self.size = 0
        self._room = 0
        self._mapped = {column.name: _Mapped(column.dtype) for column in schema.columns}
        self._by_size: Groups = ()

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
            self._by_size = by_size([each.items for each in self._mapped.values()])
        return first

    def move(self, columns: Groups, count: int, first: int) -> None:
        """Write the first `count` items of `columns` (the schema's, `by_size`) from row `first` on, once reserved, and make them 0."""
        if count:
            _move_all(columns, self._by_size, first, count)

    def append(self, rows: Table, share: float) -> None:
        """Add the rows of a table of the schema; `share` as for `reserve`."""
        first = self.reserve(size(rows), share)
        for name, each in self._mapped.items():
            each.items[first : self.size] = rows[name]

    def rows(self, first: int = 0) -> Table:
        """The rows from `first` on, to be looked at and changed until there are more."""
        return {name: each.items[first : self.size] for name, each in self._mapped.items()}

    def table(self, count: int) -> Table:
        """The first `count` rows as a table; it shares its memory with this object, which is done with."""
        return {name: each.first(count) for name, each in self._mapped.items()}
