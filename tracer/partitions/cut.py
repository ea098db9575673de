"""Tables of observations, one after the other, cut into partitions: every table is read once, whatever number of them it is cut into."""

from __future__ import annotations

import numpy as np

from probes.jit import bare, place
from probes.schema import OBSERVATIONS, Array, Table

BLOCK_ROWS = 4096  # of a column, which a processor's first cache has room for
_COLUMNS = {column.name: np.dtype(column.dtype) for column in OBSERVATIONS.columns}


@bare
def _count(part: Array, outer: Array, first: int, counts: Array) -> None:
    """Add to `counts` how many rows each partition has at most: a packet, and what it was in."""
    for row in range(len(part)):
        its, member = part[row], row
        if its >= 0:
            counts[its] += 1
            while outer[member] >= 0:
                member = outer[member] - first
                counts[its] += 1


@bare
def _deal(part: Array, outer: Array, first: int, begins: Array, ends: Array, rows: Array, around: Array) -> None:
    """The `rows` of each partition, in order, from `begins` on up to `ends`, which are at `begins` first.

    `around` has the place of what each was in among them, -1 for none. What is in a frame is one behind the other, what is outside first.
    """
    for row in range(len(part)):
        its = part[row]
        if its < 0:
            continue
        depth, member = 0, row
        while outer[member] >= 0:
            member, depth = outer[member] - first, depth + 1
        begin, end, within = begins[its], ends[its], -1
        for level in range(depth, -1, -1):
            member = row
            for _ in range(level):
                member = outer[member] - first
            at = end - 1
            while at >= begin and rows[at] > member:
                at -= 1
            if at < begin or rows[at] != member:
                rows[end], around[end], at = member, within, end
                end += 1
            within = at - begin
        ends[its] = end


@bare
def _gather(column: Array, rows: Array, begins: Array, ends: Array, cursors: Array, gathered: Array) -> None:
    """`column[rows]` of each partition, a block of the column after the other."""
    for part in range(len(begins)):
        cursors[part] = begins[part]
    for stop in range(BLOCK_ROWS, len(column) + BLOCK_ROWS, BLOCK_ROWS):
        for part in range(len(begins)):
            at, end = cursors[part], ends[part]
            while at < end and rows[at] < stop:
                gathered[place(at)] = column[place(rows[at])]
                at += 1
            cursors[part] = at


class Cut:
    """Of the table that was `take`n last, what each of `count` partitions has; it is there until the next one is."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._begins, self._ends = np.zeros(count, "i8"), np.zeros(count, "i8")
        self._rows, self._around = np.empty(0, "i8"), np.empty(0, "i8")
        self._columns = OBSERVATIONS.empty()  # of all partitions; memory that was made for one table is there for the next
        self._nothing = OBSERVATIONS.empty()
        self._shown = OBSERVATIONS.empty()

    def take(self, observations: Table, part: Array, first: int = 0) -> None:
        """Cut `observations`; `part` (int32) has the partition of each row, -1 for none by itself.

        With a packet goes what it was in (`outer`, which counts from `first` here, and within its partition in what comes out).
        """
        outer, counts, cursors = observations["outer"], np.zeros(self._count, "i8"), np.empty(self._count, "i8")
        _count(part, outer, first, counts)
        room = int(counts.sum())
        if room > len(self._rows):
            room += room // 4
            self._rows, self._around = np.empty(room, "i8"), np.empty(room, "i8")
            self._columns = {name: np.empty(room, dtype) for name, dtype in _COLUMNS.items()}
            self._nothing = {name: np.zeros(room, dtype) for name, dtype in _COLUMNS.items()}
        self._begins = np.cumsum(counts) - counts
        self._ends = self._begins.copy()
        _deal(part, outer, first, self._begins, self._ends, self._rows, self._around)
        self._shown = {"outer": self._around}
        for name, column in observations.items():
            if name != "outer":
                has_content = _has_content(column)
                self._shown[name] = (self._columns if has_content else self._nothing)[name]
                if has_content:
                    unsigned = f"u{column.itemsize}"
                    _gather(column.view(unsigned), self._rows, self._begins, self._ends, cursors, self._columns[name].view(unsigned))

    def table(self, number: int) -> Table:
        """The observations of one partition, in order."""
        here = slice(int(self._begins[number]), int(self._ends[number]))
        return {name: self._shown[name][here] for name in _COLUMNS}

    def rows(self, number: int) -> Array:
        """The rows (int64) of one partition, in order."""
        return self._rows[int(self._begins[number]) : int(self._ends[number])]


def _has_content(column: Array) -> bool:
    """Whether anything in it is not 0; mostly its beginning tells."""
    return bool(np.count_nonzero(column[:4096]) or np.count_nonzero(column))
