"""Small groups of calls that compete for the same requests: every way to match them, each by its weight.

Calls compete where they have candidates in common. Most groups are small enough to be counted through; `sampling` is for the rest.
"""

from __future__ import annotations

import numpy as np

from probes.jit import kernel
from probes.schema import Array

MOST_WAYS = 3_000_000  # of a group, each call's candidates and none multiplied
MOST_CALLS = 24
NONE, UNBEGUN = -1, -2


@kernel
def _count_through(  # noqa: PLR0912, PLR0913, PLR0917 - one walk over columns
    calls: Array, first: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, owner: Array, found: Array
) -> None:
    """Add to `found` the weight of all matchings of `calls` in which each of their pairs holds, divided by the weight of all."""
    size = len(calls)
    choice, weight = np.full(size, UNBEGUN), np.zeros(size + 1)
    top = 0.0  # the weight that no matching exceeds
    for call in calls:
        best = alone[call]
        for pair in range(first[call], first[call + 1]):
            best = max(best, score[pair] - (idle[slot[pair]] if exclusive[call] else 0.0))
        top += best
    total, place = 0.0, 0
    while place >= 0:
        call, pair = calls[place], choice[place]
        begin, end = first[call], first[call + 1]
        if pair >= begin and exclusive[call]:
            owner[slot[pair]] = NONE
        pair = NONE if pair == UNBEGUN else begin if pair == NONE else pair + 1
        while begin <= pair < end and exclusive[call] and owner[slot[pair]] != NONE:
            pair += 1
        if pair >= end:
            choice[place] = UNBEGUN
            place -= 1
            continue
        choice[place] = pair
        if pair == NONE:
            weight[place + 1] = weight[place] + alone[call]
        else:
            weight[place + 1] = weight[place] + score[pair] - (idle[slot[pair]] if exclusive[call] else 0.0)
            if exclusive[call]:
                owner[slot[pair]] = call
        if place + 1 < size:
            place += 1
            continue
        likely = np.exp(weight[size] - top)
        total += likely
        for each in range(size):
            if choice[each] != NONE:
                found[choice[each]] += likely
    for call in calls:
        for pair in range(first[call], first[call + 1]):
            found[pair] /= total


def countable(call: Array, label: Array) -> Array:
    """Which calls (bool) are of groups that are small enough to count through."""
    options = np.log(np.bincount(call, minlength=len(label)) + 1.0)
    ways, size = np.bincount(label, weights=options, minlength=len(label)), np.bincount(label, minlength=len(label))
    return np.asarray((ways[label] <= np.log(MOST_WAYS)) & (size[label] <= MOST_CALLS))


def shares(first: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, label: Array, counted: Array) -> Array:
    """The share (float64) of matchings in which each pair of the calls that are `counted` holds; 0 for others' pairs.

    `first[c]:first[c + 1]` are call c's pairs; the other columns are as in `sampling.shares`.
    """
    found = np.zeros(len(slot))
    owner = np.full(len(idle), NONE)
    members = np.flatnonzero(counted)
    members = members[np.argsort(label[members], kind="stable")]
    bounds = np.flatnonzero(np.diff(label[members], prepend=-1, append=-1))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        _count_through(members[begin:end], first, slot, score, alone, idle, exclusive, owner, found)
    return found
