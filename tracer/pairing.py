"""Which rows have equal keys, of tables larger than any cache.

Where a row is looked for in one large table, each look waits for memory. Here keys are first divided by their highest bits into parts that
fit a processor's cache (radix partitioning: Manegold, Boncz, Kersten, "Optimizing Main-Memory Join on Modern Hardware", 2002). Rows of one
part collect in the cache until they fill LINES lines of it, which then go to memory past the caches, as nothing reads them soon (Balkesen
and others, "Main-Memory Hash Joins on Multi-Core CPUs", 2013): less than half the time of storing each row where it belongs.
"""

from __future__ import annotations

import numpy as np

from probes.jit import LINE_WORDS, bare, place, store_line, unsigned, wide
from probes.schema import Array

LINES = 4
WORDS = LINES * LINE_WORDS  # two of each row: its key, its label
ROWS = WORDS // 2
PART_ROWS = 16384  # with their slots 512 KiB, of 1 to 2 MiB that a second-level cache has
MOST_BITS = 11  # the lines of more parts than 2048 would not fit there


@bare
def _count(keys: Array, shift: int, counts: Array) -> None:
    for row in range(len(keys)):
        counts[place(keys[row] >> unsigned(shift))] += 1


@bare
def _divide(keys: Array, labels: Array, shift: int, ends: Array, lines: Array, parts: Array) -> None:
    """Rows to their parts; `ends` are the words of `parts` that come next. What fills no line yet stays in `lines`."""
    for row in range(len(keys)):
        key = keys[row]
        part = wide(key >> unsigned(shift))
        end = ends[part]
        ends[part] = end + 2
        at = place(part * WORDS + (end & (WORDS - 1)))
        lines[at], lines[at + place(1)] = key, labels[row]
        if end & (WORDS - 1) == WORDS - 2:
            into, at = place(end - (WORDS - 2)), place(part * WORDS)
            for line in range(LINES):
                store_line(parts, into + place(line * LINE_WORDS), lines, at + place(line * LINE_WORDS))


@bare
def _pair(begins: Array, ends: Array, lines: Array, parts: Array, used_bits: int, slots: Array, left: Array, right: Array) -> int:
    """Write the pairs; returns how many. A slot has the last row of a key, counted from 1 in its part; 0 is none.

    Whether a row has one before it is not asked (processors would guess wrong half of the time): a pair that is none is written over.
    """
    found = 0
    for part in range(len(begins)):
        begin, end = begins[part], ends[part]
        full = end & ~(WORDS - 1)
        for word in range(full, end):
            parts[place(word)] = lines[place(part * WORDS + word - full)]
        count, bits = (end - begin) >> 1, 4
        while (1 << bits) < 2 * count:
            bits += 1
        shift, last = unsigned(64 - used_bits - bits), place((1 << bits) - 1)
        for slot in range(1 << bits):
            slots[place(slot)] = 0
        for number in range(1, count + 1):
            row = place(begin + 2 * number - 2)
            key = parts[row]
            slot = place(key >> shift) & last
            before = wide(slots[slot])
            while (before != 0) & (parts[place(begin + 2 * before - 2)] != key):
                slot = (slot + place(1)) & last
                before = wide(slots[slot])
            slots[slot] = number
            left[place(found)], right[place(found)] = parts[place(begin + 2 * before - 1)], parts[row + place(1)]
            found += before != 0
    return found


def _words(count: int) -> Array:
    """So many words (uint64) from the beginning of a cache line on."""
    words = np.empty(count + LINE_WORDS, "u8")
    skipped = -words.ctypes.data // 8 % LINE_WORDS
    return words[skipped : skipped + count]


def paired(*tables: tuple[Array, Array]) -> tuple[Array, Array]:
    """Of all rows of `tables`, one table after another, each that follows one of equal key: the label of the last such row and its own.

    Tables are `(keys, labels)`, uint64 both; keys are hashes, of which every bit counts. Rows of one key are paired in their order; what
    order the pairs have means nothing.
    """
    rows = sum(len(keys) for keys, _ in tables)
    bits = min(max(1, (rows // PART_ROWS).bit_length()), MOST_BITS)
    counts = np.zeros(1 << bits, "i8")
    for keys, _ in tables:
        _count(keys, 64 - bits, counts)
    # Parts begin where lines do, and none at the very beginning: of row 0 `_pair` reads what is before the part.
    begins = WORDS * np.cumsum(np.append(1, (counts[:-1] + ROWS - 1) // ROWS))
    ends, lines, parts = begins.copy(), _words(WORDS << bits), _words(int(begins[-1]) + 2 * (int(counts[-1]) + ROWS))
    for keys, labels in tables:
        _divide(keys, labels, 64 - bits, ends, lines, parts)
    left, right = np.empty(rows, "u8"), np.empty(rows, "u8")
    slots = np.empty(max(16, 4 * int(counts.max())), "u4")
    found = _pair(begins, ends, lines, parts, bits, slots, left, right)
    return left[:found], right[:found]
