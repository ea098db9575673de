"""Rows put in order by counting, where keys are small numbers, and by time, in which they mostly are already: much faster than sorting."""

from __future__ import annotations

import numpy as np

from probes.jit import kernel, place
from probes.schema import Array


@kernel
def _count_out(keys: Array, order: Array, starts: Array, into: Array) -> None:
    """Put the rows of `order` into `into` by their keys, those of equal ones as they were; `starts` is one longer than keys go, and 0."""
    for row in order:
        starts[place(keys[row]) + 1] += 1
    for key in range(1, len(starts)):
        starts[key] += starts[key - 1]
    for row in order:
        key = place(keys[row])
        into[starts[key]] = row
        starts[key] += 1


@kernel
def _sort_times(major: Array, minor: Array, time_ns: Array, order: Array) -> None:
    """Sort the rows of `order` that are equal in both keys by time, where they are not; those of equal times stay as they were."""
    first = 0
    while first < len(order):
        row, end, sorted_already = order[first], first + 1, True
        while end < len(order) and major[order[end]] == major[row] and minor[order[end]] == minor[row]:
            sorted_already &= time_ns[order[end - 1]] <= time_ns[order[end]]
            end += 1
        if not sorted_already:
            here = order[first:end].copy()
            order[first:end] = here[np.argsort(time_ns[here], kind="mergesort")]
        first = end


def by_number(keys: Array, count: int, order: Array | None = None) -> Array:
    """The rows (int64) of `keys`, integers from 0 to `count`, in their order; rows of equal keys are as in `order` (as they come)."""
    order = np.arange(len(keys)) if order is None else order
    into = np.empty(len(order), "i8")
    _count_out(keys, order, np.zeros(count + 1, "i8"), into)
    return into


def by_numbers_and_time(major: tuple[Array, int], minor: tuple[Array, int], time_ns: Array, order: Array | None = None) -> Array:
    """The rows (int64) in the order of two keys (each with how many there are) and then of time; of equal ones as in `order`."""
    order = by_number(*major, by_number(*minor, order))
    _sort_times(major[0], minor[0], time_ns, order)
    return order
