"""5-tuples as small integers: every distinct (source, destination, ports, protocol) of packets and ledger gets one code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.jit import inlined, kernel, unsigned
from probes.schema import Array, Table, take
from tracer.numbering import numbered
from tracer.schema import TUPLES

FIELDS = ("src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "proto")
_REVERSED = ("dst_hi", "dst_lo", "src_hi", "src_lo", "dport", "sport", "proto")


@inlined
def stir(state: int, value: int) -> int:
    """Splitmix64's finaliser of `state` and `value`, all uint64."""
    state = (state ^ value) + unsigned(0x9E3779B97F4A7C15)
    state ^= state >> unsigned(30)
    state *= unsigned(0xBF58476D1CE4E5B9)
    state ^= state >> unsigned(27)
    state *= unsigned(0x94D049BB133111EB)
    return state ^ (state >> unsigned(31))


@kernel
def _stir_column(state: Array, column: Array) -> None:
    for row in range(len(state)):
        state[row] = stir(state[row], column[row])


def mix(*columns: Array) -> Array:
    """A 64-bit hash of each row of `columns` (integers), by splitmix64's finaliser; shape (n,), uint64."""
    state = np.zeros(len(columns[0]), "u8")
    for column in columns:
        _stir_column(state, np.ascontiguousarray(column.astype("u8", copy=False)))
    return state


@kernel
def _hash_tuples(  # noqa: PLR0913, PLR0917 - columns
    rows: Array, src_hi: Array, src_lo: Array, dst_hi: Array, dst_lo: Array, sport: Array, dport: Array, proto: Array, hashes: Array
) -> None:  # fmt: skip
    for number in range(len(rows)):
        row, state = rows[number], unsigned(0)
        for value in (src_hi[row], src_lo[row], dst_hi[row], dst_lo[row], unsigned(sport[row]), unsigned(dport[row]), unsigned(proto[row])):
            state = stir(state, value)
        hashes[number] = state


def hash_tuples(table: Table, rows: Array | None = None) -> Array:
    """`mix` of the columns FIELDS of `rows` (int64; all): a hash (uint64) of each 5-tuple."""
    rows = np.arange(len(table["proto"])) if rows is None else rows
    hashes = np.empty(len(rows), "u8")
    _hash_tuples(rows, *(*(np.ascontiguousarray(table[name], _DTYPES[name]) for name in FIELDS), hashes))
    return hashes


def code_tuples(sources: Sequence[tuple[Table, Array]]) -> tuple[Table, list[Array]]:
    """`(TUPLES table, codes)` for rows (int64) of tables that have the columns FIELDS; `codes[i]` are those (int32) of source i.

    The table also has the reverse of every tuple, seen or not. Codes are in the order of the tuples' hashes, so they do not depend on the
    order of the rows.
    """
    seen = np.concatenate([hash_tuples(*source) for source in sources])
    first, number = numbered(seen)
    bounds = np.cumsum([0, *(len(rows) for _, rows in sources)])
    found = {name: np.empty(len(first), _DTYPES[name]) for name in FIELDS}
    for (table, rows), begin, end in zip(sources, bounds[:-1], bounds[1:], strict=True):
        here = np.flatnonzero((first >= begin) & (first < end))
        for name, column in found.items():
            column[here] = table[name][rows[first[here] - begin]]
    both = {name: np.concatenate([found[name], found[turned]]) for name, turned in zip(FIELDS, _REVERSED, strict=True)}
    hashes, place = np.unique(hash_tuples(both), return_index=True)
    tuples = take(both, place)
    canonical = np.minimum(hashes, hash_tuples({name: tuples[turned] for name, turned in zip(FIELDS, _REVERSED, strict=True)}))
    _, flow = np.unique(canonical, return_inverse=True)
    tuples["flow"] = flow.astype("i4")
    tuples["backward"] = (hashes != canonical).astype("u1")
    codes = np.searchsorted(hashes, seen[first]).astype("i4")[number]
    return TUPLES.check(tuples), np.split(codes, bounds[1:-1])


def reverse_codes(tuples: Table) -> Array:
    """For each tuple the code of its reverse (int64)."""
    order = np.lexsort((tuples["backward"], tuples["flow"]))
    reverse = np.arange(len(order))  # a tuple whose two ends are equal is its own reverse
    twins = np.flatnonzero(np.diff(tuples["flow"][order]) == 0)
    reverse[order[twins]], reverse[order[twins + 1]] = order[twins + 1], order[twins]
    return reverse


_DTYPES = {column.name: column.dtype for column in TUPLES.columns}
