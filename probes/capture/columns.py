"""A table that grows at its end: rows come in as structured arrays, a chunk at a time, and leave as columns."""

from __future__ import annotations

import numpy as np

from probes.schema import Array, Schema, Table

FIRST_ROWS = 1 << 16
MOST_GROWTH = 100  # a guess from a file's beginning may be far off


class Columns:
    """The rows so far of a table of `schema`.

    Arrays that are full are copied to larger ones, one column after the other, so the peak is all columns and one of them twice. What an
    array has beyond its rows was never written and takes no memory, so room is taken for the whole file as soon as its size can be guessed.
    """

    def __init__(self, schema: Schema) -> None:
        self.size = 0
        self._room = FIRST_ROWS
        self._columns: Table = {column.name: np.empty(self._room, column.dtype) for column in schema.columns}

    def append(self, rows: Array, share: float) -> None:
        """Add `rows`, a structured array that has the schema's columns as fields. `share` of all rows will be there then; 0 if unknown."""
        end = self.size + len(rows)
        if end > self._room:
            self._grow(int(min(max(2.0, 1.1 / share), MOST_GROWTH) * end) if share else 2 * end)
        for name, column in self._columns.items():
            column[self.size : end] = rows[name]
        self.size = end

    def _grow(self, room: int) -> None:
        self._room = room
        for name, column in self._columns.items():
            grown = np.empty(self._room, column.dtype)
            grown[: self.size] = column[: self.size]
            self._columns[name] = grown

    def table(self) -> Table:
        """The rows as a table; it shares its memory with this object, which is done with."""
        return {name: column[: self.size] for name, column in self._columns.items()}
