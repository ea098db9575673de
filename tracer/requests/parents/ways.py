"""How sure a match is: the share of all ways to match calls and requests in which a pair holds, by their weights.

Small groups of calls are counted through (`exact`); of the others matchings are drawn (`sampling`).
"""

from __future__ import annotations

import numpy as np

from probes.schema import Array
from tracer.requests.parents import exact, sampling
from tracer.requests.parents.rivals import Rivals, side_by_side


def shares(call: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, likely: Array, competing: Rivals) -> Array:
    """The share (float64) of matchings in which each pair holds; pairs are sorted by call.

    `score` and `alone` are log weights, `idle` log weights of slots that nobody takes; `likely` is the probability of each pair to start
    drawing from, `competing` says which calls exclude one another.
    """
    if not len(call):
        return np.zeros(0)
    slot, first = slot.astype("i8"), np.searchsorted(call, np.arange(len(alone) + 1))
    counted = exact.countable(call, competing.label)
    found = exact.shares(first, slot, score, alone, idle, exclusive, competing.label, counted)
    sweeps = sampling.sweeps_for(int(np.count_nonzero(~counted)))

    def draw(pairs: Array) -> None:
        calls, mine = np.unique(call[pairs], return_inverse=True)
        slots, its = np.unique(slot[pairs], return_inverse=True)
        columns = mine, its, score[pairs], alone[calls], idle[slots], exclusive[calls], likely[pairs]
        found[pairs] = sampling.shares(*columns, sweeps)

    side_by_side(draw, [pairs for pairs in competing.groups() if not counted[call[pairs[0]]]])
    return found
