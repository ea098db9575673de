"""Histograms of whole numbers that are the same however they are put together: sums of integers, in any order, over any tree.

Buckets are log-linear, as HdrHistogram's and H2Histogram's are: PER_OCTAVE of equal width between a power of two and the next, so that the
middle of a bucket is within ERROR of every number in it, and numbers below 2 * PER_OCTAVE are kept as they are. The libraries there are for
Python (hdrhistogram, ddsketch) take numbers one by one, and one histogram at a time; here a table holds thousands.
"""

from __future__ import annotations

import numpy as np

from probes.schema import Array, Column, Schema, Table

BITS = 7
PER_OCTAVE = 1 << BITS
ERROR = 1 / (2 * PER_OCTAVE)
BUCKETS = 1 << 13  # more than numbers of 63 bits have

HISTOGRAMS = Schema(
    "histograms",
    (
        Column("of", "i8", "", "whose histogram it is"),
        Column("bucket", "i8", "", "number of the bucket, 0 to BUCKETS"),
        Column("count", "i8", "", "how many numbers are in it, 1 or more"),
    ),
)


def buckets(numbers: Array) -> Array:
    """The bucket (i8) that each of `numbers` (i8, 0 or more) is in; it is the higher the higher they are."""
    # where a float rounds up to the next power of two, the formula still names the bucket below it
    wider = np.maximum(np.frexp(numbers.astype("f8"))[1].astype("i8") - 1 - BITS, 0)
    found: Array = (wider << BITS) + (numbers >> wider)
    return found


def middles(found: Array) -> Array:
    """The number (i8) in the middle of each bucket: it differs from any other there by no more than ERROR of that."""
    wider = np.maximum((found >> BITS) - 1, 0)
    numbers: Array = ((found - (wider << BITS)) << wider) + ((1 << wider) >> 1)
    return numbers


def histograms(of: Array, numbers: Array) -> Table:
    """HISTOGRAMS of `numbers` (i8, 0 or more), each one of `of` (i8, 0 or more)."""
    return merged({"of": of.astype("i8"), "bucket": buckets(numbers), "count": np.ones(len(numbers), "i8")})


def merged(table: Table) -> Table:
    """The same with one row for each bucket, in order."""
    key = table["of"] * BUCKETS + table["bucket"]
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
    counts = np.add.reduceat(table["count"][order], first) if len(first) else table["count"]
    return HISTOGRAMS.check({"of": key[first] // BUCKETS, "bucket": key[first] % BUCKETS, "count": counts})
