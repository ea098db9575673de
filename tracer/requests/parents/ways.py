"""How sure a match is: the share of all ways to match calls and requests in which a pair holds, by their weights.

Small groups of calls are counted through (`exact`); of the others matchings are drawn (`sampling`).
"""

from __future__ import annotations

import numpy as np

from probes.schema import Array
from tracer.requests.parents import exact, sampling


def shares(call: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, likely: Array) -> Array:
    """The share (float64) of matchings in which each pair holds; pairs are sorted by call.

    `score` and `alone` are log weights, `idle` log weights of slots that nobody takes; `likely` is the probability of each pair to start
    drawing from.
    """
    if not len(call):
        return np.zeros(0)
    slot, first = slot.astype("i8"), np.searchsorted(call, np.arange(len(alone) + 1))
    label = exact.groups(call, slot, exclusive)
    counted = exact.countable(call, label)
    found = exact.shares(first, slot, score, alone, idle, exclusive, label, counted)
    rest = ~counted[call]
    if rest.any():
        kept = np.flatnonzero(~counted)
        number = np.cumsum(~counted) - 1
        found[rest] = sampling.shares(number[call[rest]], slot[rest], score[rest], alone[kept], idle, exclusive[kept], likely[rest])
    return found
