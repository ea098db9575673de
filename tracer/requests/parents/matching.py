"""Who belongs to whom, all at once: the probability of every possible pair of a call and the request it served.

Each call has one parent or none; where calls of a kind are exclusive, each request has at most one of them. The probability of a pair is
its share in all ways to match that keep to this, weighted by the evidence: marginals by sum-product message passing, whose fixed point is
the Bethe approximation of the permanent (Vontobel, IEEE Trans. Inf. Theory 59(3), 2013; exact where candidates form no cycles).
"""

from __future__ import annotations

import numpy as np

from probes.jit import kernel, place
from probes.schema import Array

MOST_ROUNDS, DAMPING, SETTLED = 300, 0.5, 1e-6
_SMALLEST = 1e-300


@kernel
def _messages(
    call: Array, parent: Array, weight: Array, alone: Array, idle: Array, exclusive: Array, upward: Array, downward: Array
) -> int:
    """Pass messages along all pairs, which are sorted by call, until they settle; returns the rounds that took.

    `upward[e]` is what a call says of pair e to the parent, `downward[e]` what the parent says to the call, both as odds. `alone` is each
    call's weight of having no parent, `idle` each parent's of having no such call.
    """
    rounds, pairs = 0, len(call)
    for round_ in range(MOST_ROUNDS):
        rounds = round_ + 1
        settled = True
        at_parent = np.zeros(len(idle))
        begin = 0
        while begin < pairs:
            mine, end, at_call = call[place(begin)], begin, 0.0
            while end < pairs and call[place(end)] == mine:
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
        for e in range(pairs):
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
    return rounds


def marginals(call: Array, parent: Array, score: Array, alone: Array, idle: Array, exclusive: Array) -> Array:
    """The probability (float64) of each pair (`call[e]`, `parent[e]`, int64 from 0, by call) whose evidence is `score[e]` (log weight).

    `alone` is the log weight of each call having no parent, `idle` the weight of each parent having no call that is `exclusive` (bool per
    call: no other exclusive call may have its parent).
    """
    if not len(call):
        return np.zeros(0)
    top = alone.copy()
    np.maximum.at(top, call, score)
    weight, none = np.exp(np.clip(score - top[call], -300, 0)), np.exp(np.clip(alone - top, -300, 0))
    upward, downward = np.ones(len(call)), np.ones(len(call))
    _messages(call, parent, weight, none, idle.astype("f8"), exclusive, upward, downward)
    odds = weight * downward
    total = none + np.bincount(call, weights=odds, minlength=len(none))
    return np.asarray(odds / np.maximum(total[call], _SMALLEST))
