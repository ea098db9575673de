"""A table that grows at its end, a chunk of rows at a time.

Each column is a private mapping of its own, which grows by mremap(2): pages move, bytes are not copied, and what lies beyond the rows was
never written and takes no memory. Pages of a process's first table are of 4 KiB: those of 2 MiB, which a virtual machine's host may have
taken back since they were free, take the system two to four times as long. Where more tables follow, theirs are of 2 MiB, and are kept;
but where they are of one file, its first one's pages are kept and used again, whatever their size.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from probes.jit import Known, bare, inside, move, place
from probes.pages import HUGE_BYTES, KeptPages, forget, pages, want_huge
from probes.schema import Array, Schema, Table, size

MOST_GROWTH = 1000  # a guess from a file's beginning may be far off
SMALL_BYTES = 1 << 16  # a column that is no larger leaves as an ordinary array: there may be many files
SIZES = (8, 4, 2, 1)  # bytes of an item
BLOCK_ITEMS = 256
MOVES_PAGES = sys.platform == "linux"
KEPT_BYTES = HUGE_BYTES // 2  # what is smaller is not worth keeping
KEPT = KeptPages(1 << 29)  # of tables that are done with: a third of all time, and more, went into making pages for the next


class _BySize(NamedTuple):
    eight: tuple[Array, ...]
    four: tuple[Array, ...]
    two: tuple[Array, ...]
    one: tuple[Array, ...]


class Groups(Known, _BySize):
    """Columns as unsigned numbers, by how many bytes an item has; an empty array where there are none."""


def let_memory_go() -> None:
    """Keep no memory of tables that are done with: until more is read, others may need it."""
    KEPT.clear()


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
def _move(
    sources: Sequence[Array], targets: Sequence[Array], first: int, count: int, kept: Array, written: Array, column: int, begin: float
) -> int:  # fmt: skip
    ahead = int(begin * len(sources))
    for index in range(len(sources)):
        number = (index + ahead) % len(sources)
        source, at = sources[number], place(column + number)
        has_content = _has_content(source, count)
        if has_content:
            written[at] = 1
        if has_content or first < kept[at]:
            move(targets[number], first, source, count)
    return column + len(sources)


@bare
def _move_all(
    sources: Groups, targets: Groups, first: int, count: int, kept: Array, written: Array, begin: float
) -> None:  # fmt: skip
    """The first `count` items of each of `sources` to item `first` of the target at its place; the source is 0 then.

    Only the first `kept` items of a target may be other than 0 so far. Where it is 0, what is 0 is not written: a column in which a
    capture has nothing takes no memory. `written` becomes 1 where there is something. `begin` of the columns, from 0 to 1, come last:
    threads that write to the same new page at once have the system make it twice.
    """
    column = _move(sources[0], targets[0], first, count, kept, written, 0, begin)
    column = _move(sources[1], targets[1], first, count, kept, written, column, begin)
    column = _move(sources[2], targets[2], first, count, kept, written, column, begin)
    _move(sources[3], targets[3], first, count, kept, written, column, begin)


class _Mapped:
    """One column's memory: `items` is an array over all of it, whose first `kept` may be other than 0 before they are written."""

    def __init__(self, name: str, dtype: str) -> None:
        self.items: Array = np.empty(0, dtype)
        self.kept = 0
        self._name = name
        self._mapping: mmap.mmap | None = None
        self._huge = False

    def grow(self, room: int) -> None:
        """Make room for so many items in all. Nobody else may hold `items` or a part of it."""
        before, size_bytes = self.items, room * self.items.itemsize
        self._huge = size_bytes >= KEPT_BYTES and KEPT.expected
        if self._huge:
            size_bytes = -(-size_bytes // HUGE_BYTES) * HUGE_BYTES
        self.items = np.empty(0, before.dtype)
        if self._mapping and MOVES_PAGES:
            before = self.items
        else:
            kept = KEPT.take(self._name) if MOVES_PAGES and size_bytes >= KEPT_BYTES else None
            self._mapping, used_bytes = kept or (pages(size_bytes), 0)
            self.kept = used_bytes // before.itemsize
        if len(self._mapping) < size_bytes:
            self._mapping.resize(size_bytes)
        if self._huge:
            want_huge(self._mapping)
        self.items = np.frombuffer(self._mapping, before.dtype, size_bytes // before.itemsize)
        if self.kept or before.any():
            self.items[: len(before)] = before

    def first(self, count: int, *, keep: bool, more: bool) -> Array:
        """The first `count` items; what lies beyond them is given back to the system.

        If asked for, their memory is kept for another table, once nobody refers to them: where `more` of its kind follow, where its pages
        are huge, or where it was kept before.
        """
        if not self._mapping or count * self.items.itemsize <= SMALL_BYTES:
            return self.items[:count].copy()
        end = -(-count * self.items.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        forget(self._mapping, end)
        if keep and MOVES_PAGES and len(self._mapping) >= KEPT_BYTES:
            wanted = more or self._huge or self.kept > 0
            let_go = partial(KEPT.keep, self._name, self._mapping, end, os.getpid()) if wanted else KEPT.expect
            weakref.finalize(self.items, let_go).atexit = False
        return self.items[:count]


def by_size(columns: Iterable[Array]) -> Groups:
    """The arrays of each size of item, in the order of SIZES."""
    some = [[each.view(f"u{size}") for each in columns if each.itemsize == size] for size in SIZES]
    return Groups(*(tuple(each or [np.empty(0, f"u{size}")]) for each, size in zip(some, SIZES, strict=True)))


class Columns:
    """The rows so far of a table of `schema`."""

    def __init__(self, schema: Schema) -> None:
        self.size = 0
        self._room = 0
        self._mapped = {column.name: _Mapped(column.name, column.dtype) for column in schema.columns}
        self._by_size = by_size([])
        self._in_order = sorted(self._mapped, key=lambda name: -self._mapped[name].items.itemsize)  # as they are in `_by_size`
        self._kept: Array = np.empty(0, "i8")  # items of each,
        self._written: Array = np.zeros(len(self._in_order), "u1")  # and whether it has anything

    def has_room(self, count: int) -> bool:
        """Whether `reserve` leaves the columns where they are; else nobody may be writing to them."""
        return self.size + count <= self._room

    def reserve(self, count: int, share: float) -> int:
        """Make room for `count` rows, and return which row is the first of them. `share` of all rows will be there then; 0 if unknown."""
        first, has_room = self.size, self.has_room(count)
        self.size += count
        if not has_room:
            self._room = int(min(max(2.0, 1.1 / share), MOST_GROWTH) * self.size) if share else 2 * self.size
            self._by_size = by_size([])
            for each in self._mapped.values():
                each.grow(self._room)
            self._by_size = by_size([each.items for each in self._mapped.values()])
            self._kept = np.array([self._mapped[name].kept for name in self._in_order])
        return first

    def move(self, columns: Groups, count: int, first: int, begin: float) -> None:
        """Write the first `count` items of `columns` (the schema's, `by_size`) from row `first` on, once reserved, and make them 0.

        Threads that do so side by side `begin` at different places, from 0 to 1.
        """
        if count:
            _move_all(columns, self._by_size, first, count, self._kept, self._written, begin)

    def append(self, rows: Table, share: float) -> None:
        """Add the rows of a table of the schema; `share` as for `reserve`."""
        first = self.reserve(size(rows), share)
        for name, each in self._mapped.items():
            each.items[first : self.size] = rows[name]
        self._written |= size(rows) > 0

    def rows(self, first: int = 0) -> Table:
        """The rows from `first` on, to be looked at and changed until there are more."""
        return {name: each.items[first : self.size] for name, each in self._mapped.items()}

    def table(self, count: int, *, more: bool = False) -> Table:
        """The first `count` rows as a table, which `more` of its kind follow; it shares its memory with this object, which is done with."""
        written = dict(zip(self._in_order, self._written.tolist(), strict=True))
        return {name: each.first(count, keep=bool(written[name]), more=more) for name, each in self._mapped.items()}
