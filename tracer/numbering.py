"""Hashes as small integers: equal ones have one number, in the order in which they were first seen."""

from __future__ import annotations

import numpy as np

from probes.jit import bare, inside, unsigned, wide
from probes.schema import Array


@inside
def _slot(slots: Array, hashes: Array, value: int) -> int:
    """The slot of `value` in a hash table of numbers (-1: free)."""
    slot = wide(value >> unsigned(20)) & (len(slots) - 1)
    while slots[slot] >= 0 and hashes[slots[slot]] != value:
        slot = (slot + 1) & (len(slots) - 1)
    return slot


@bare
def _number(seen: Array, slots: Array, hashes: Array, count: int, numbers: Array) -> int:
    """Number the hashes `seen`, those of `hashes[:count]` as before; there is room for all. Returns how many there are."""
    for row in range(len(seen)):
        slot = _slot(slots, hashes, seen[row])
        if slots[slot] < 0:
            slots[slot], hashes[count] = count, seen[row]
            count += 1
        numbers[row] = slots[slot]
    return count


@bare
def _fill(slots: Array, hashes: Array) -> None:
    for number in range(len(hashes)):
        slots[_slot(slots, hashes, hashes[number])] = number


class HashNumbers:
    """Hashes (uint64) by number, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._slots, self._hashes, self._count = np.full(1 << 12, -1), np.empty(1 << 11, "u8"), 0

    @property
    def hashes(self) -> Array:
        """All hashes so far."""
        return self._hashes[: self._count]

    def of(self, hashes: Array) -> Array:
        """The number (int64) of each of `hashes`; new ones get the next."""
        numbers = np.empty(len(hashes), "i8")
        for first in range(0, len(hashes), 1 << 16):
            part = hashes[first : first + (1 << 16)]
            if self._count + len(part) > len(self._hashes):
                self._grow(self._count + len(part))
            self._count = _number(part, self._slots, self._hashes, self._count, numbers[first : first + len(part)])
        return numbers

    def _grow(self, least: int) -> None:
        room = 1 << max(2 * len(self._hashes), least).bit_length()
        self._hashes = np.concatenate([self.hashes, np.empty(room - self._count, "u8")])
        self._slots = np.full(2 * room, -1)
        _fill(self._slots, self.hashes)


@bare
def _first_rows(number: Array, first: Array) -> None:
    """The first row of each number; those come in order."""
    count = 0
    for row in range(len(number)):
        if number[row] == count:
            first[count] = row
            count += 1


def numbered(hashes: Array) -> tuple[Array, Array]:
    """The first row of each distinct hash (uint64), in order, and of each row which of them it has (both int64)."""
    numbers = HashNumbers()
    number = numbers.of(hashes)
    first = np.empty(len(numbers.hashes), "i8")
    _first_rows(number, first)
    return first, number


def distinct(hashes: Array) -> tuple[Array, Array, Array]:
    """What `np.unique` gives with `return_index` and `return_inverse`, for hashes (uint64) of which many are equal, without sorting all."""
    first, number = numbered(hashes)
    order = np.argsort(hashes[first])
    rank = np.empty(len(order), "i8")
    rank[order] = np.arange(len(order))
    return hashes[first[order]], first[order], rank[number]
