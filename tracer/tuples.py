"""5-tuples as small integers: every distinct (source, destination, ports, protocol) of packets and ledger gets one code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.schema import Array, Table, take
from tracer.schema import TUPLES

FIELDS = ("src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "proto")
_REVERSED = ("dst_hi", "dst_lo", "src_hi", "src_lo", "dport", "sport", "proto")


def mix(*columns: Array) -> Array:
    """A 64-bit hash of each row of `columns` (integers), by splitmix64's finaliser; shape (n,), uint64."""
    state = np.zeros(len(columns[0]), "u8")
    for column in columns:
        state = (state ^ column.astype("u8")) + np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def code_tuples(sources: Sequence[Table]) -> tuple[Table, list[Array]]:
    """`(TUPLES table, codes)` for tables that have the columns FIELDS; `codes[i]` has one tuple (int32) per row of `sources[i]`.

    The table also has the reverse of every tuple, seen or not. Codes are in the order of the tuples' hashes, so they do not depend on the
    order of the rows.
    """
    columns = {name: np.concatenate([source[name] for source in sources]) for name in FIELDS}
    seen, first, inverse = np.unique(mix(*(columns[name] for name in FIELDS)), return_index=True, return_inverse=True)
    distinct = take(columns, first)
    both = {name: np.concatenate([distinct[name], distinct[turned]]) for name, turned in zip(FIELDS, _REVERSED, strict=True)}
    hashes, first = np.unique(mix(*(both[name] for name in FIELDS)), return_index=True)
    both = take(both, first)
    canonical = np.minimum(hashes, mix(*(both[name] for name in _REVERSED)))
    _, flow = np.unique(canonical, return_inverse=True)
    tuples: Table = {name: both[name].astype(_DTYPES[name]) for name in FIELDS}
    tuples["flow"] = flow.astype("i4")
    tuples["backward"] = (hashes != canonical).astype("u1")
    codes = np.searchsorted(hashes, seen)[inverse].astype("i4")
    bounds = np.cumsum([len(source["proto"]) for source in sources])[:-1]
    return TUPLES.check(tuples), np.split(codes, bounds)


def reverse_codes(tuples: Table) -> Array:
    """For each tuple the code of its reverse (int64)."""
    order = np.lexsort((tuples["backward"], tuples["flow"]))
    reverse = np.arange(len(order))  # a tuple whose two ends are equal is its own reverse
    twins = np.flatnonzero(np.diff(tuples["flow"][order]) == 0)
    reverse[order[twins]], reverse[order[twins + 1]] = order[twins + 1], order[twins]
    return reverse


_DTYPES = {column.name: column.dtype for column in TUPLES.columns}
