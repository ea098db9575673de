"""Rows that are made when somebody looks at them, many at a time: those nearby are looked at next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar, overload

ROWS, MOST = 1 << 8, 1 << 6  # in a block; blocks that are kept

Row = TypeVar("Row")


class Blocks(Sequence[Row]):
    """`count` rows, of which `make(first, end)` makes some."""

    def __init__(self, count: int, make: Callable[[int, int], list[Row]]) -> None:
        self._count = count
        self._block = lru_cache(MOST)(lambda number: make(number * ROWS, min((number + 1) * ROWS, count)))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            first, end, step = at.indices(self._count)
            if step == 1 and 0 <= first // ROWS == (end - 1) // ROWS:
                return self._block(first // ROWS)[first % ROWS : (end - 1) % ROWS + 1]
            return [self[each] for each in range(first, end, step)]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return self._block(at // ROWS)[at % ROWS]
