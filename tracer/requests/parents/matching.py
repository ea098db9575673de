"""Who belongs to whom, all at once: the probability of every possible pair of a call and the request it served.

Each call has one parent or none; where calls of a kind are exclusive, each request has at most one of them. The probability of a pair is
its share in all ways to match that keep to this, weighted by the evidence: marginals by sum-product message passing, whose fixed point is
the Bethe approximation of the permanent (Vontobel, IEEE Trans. Inf. Theory 59(3), 2013; exact where candidates form no cycles).
"""

from __future__ import annotations

import numpy as np

from probes.jit import bare, place
from probes.schema import Array
from tracer.requests.parents.rivals import Rivals, side_by_side

MOST_ROUNDS, DAMPING, SETTLED = 100, 0.5, 1e-6  # more rounds change next to nothing: matchings are drawn after them (`ways`)
_SMALLEST = 1e-300


@bare
def _messages(  # noqa: PLR0913, PLR0917 - columns
    bounds: Array, call: Array, parent: Array, weight: Array, alone: Array, idle: Array, exclusive: Array, upward: Array, downward: Array,
    at_parent: Array,
) -> None:  # fmt: skip
    """Pass messages along the pairs of each group of rivals, which begin and end at `bounds`, until they settle there.

    Pairs of a group are sorted by call. `upward[e]` is what a call says of pair e to the parent, `downward[e]` what the parent says to the
    call, both as odds, `at_parent` what a parent hears in all. `alone` is each call's weight of having no parent, `idle` each parent's of
    having no such call.
    """
    for group in range(len(bounds) - 1):
        first, last = bounds[group], bounds[group + 1]
        for _ in range(MOST_ROUNDS):
            settled = True
            for e in range(first, last):
                if exclusive[place(call[place(e)])]:  # others' parents may be of another group, whose messages pass at the same time
                    at_parent[place(parent[place(e)])] = 0.0
            begin = first
            while begin < last:
                mine, end, at_call = call[place(begin)], begin, 0.0
                while end < last and call[place(end)] == mine:
                    at_call += weight[place(end)] * downward[place(end)]
                    end += 1
                total, bound = alone[mine] + at_call, exclusive[mine]
                for e in range(begin, end):
                    pair = place(e)
                    said = 1.0 / max(total - weight[pair] * downward[pair], _SMALLEST)
                    settled = settled and abs(said - upward[pair]) / max(said, upward[pair]) < SETTLED
                    upward[pair] = DAMPING * upward[pair] + (1 - DAMPING) * said
                    if bound:
                        at_parent[place(parent[pair])] += weight[pair] * upward[pair]
                begin = end
            for e in range(first, last):
                pair = place(e)
                if exclusive[place(call[pair])]:
                    held = place(parent[pair])
                    said = 1.0 / max(idle[held] + at_parent[held] - weight[pair] * upward[pair], _SMALLEST)
                    settled = settled and abs(said - downward[pair]) / max(said, downward[pair]) < SETTLED
                    downward[pair] = DAMPING * downward[pair] + (1 - DAMPING) * said
                else:
                    downward[pair] = 1.0
            if settled:
                break


def marginals(call: Array, parent: Array, score: Array, alone: Array, idle: Array, exclusive: Array, competing: Rivals) -> Array:
    """The probability (float64) of each pair (`call[e]`, `parent[e]`, int64 from 0, by call) whose evidence is `score[e]` (log weight).

    `alone` is the log weight of each call having no parent, `idle` the weight of each parent having no call that is `exclusive` (bool per
    call: no other exclusive call may have its parent); `competing` says which calls do.
    """
    if not len(call):
        return np.zeros(0)
    top = alone.copy()
    np.maximum.at(top, call, score)
    weight, none = np.exp(np.clip(score - top[call], -300, 0)), np.exp(np.clip(alone - top, -300, 0))
    pairs = competing.pairs
    columns = call[pairs], parent[pairs], weight[pairs], none, idle.astype("f8"), exclusive
    upward, said, at_parent = np.ones(len(call)), np.ones(len(call)), np.zeros(len(idle))
    side_by_side(lambda bounds: _messages(bounds, *columns, upward, said, at_parent), competing.turns())
    downward = np.empty(len(call))
    downward[pairs] = said
    odds = weight * downward
    total = none + np.bincount(call, weights=odds, minlength=len(none))
    return np.asarray(odds / np.maximum(total[call], _SMALLEST))
