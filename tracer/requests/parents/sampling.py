"""How sure a match is: how often each pair holds in matchings drawn by their probability.

Message passing (`matching`) finds the best matching fast, but where two calls could as well be exchanged it counts its own echo and is too
sure (its graph has cycles). So the last word is a count: a Metropolis walk (J. Chem. Phys. 21, 1953) over whole matchings, whose steps move
a call to another candidate and exchange it with the call that holds it, or push on from call to call until one finds its place: a ring of
calls turns only all at once. The walk's dice are seeded: the same evidence, the same answer.
"""

from __future__ import annotations

import numpy as np

from probes.jit import bare, inside, wide
from probes.schema import Array

STEPS = 12_000_000  # at most, of all calls together
MOST_SWEEPS, LEAST_SWEEPS = 20_000, 500
BURN_IN = 0.1
_SEED = 0x9E3779B97F4A7C15
NONE = -1
_DICE = 1_000_000_008  # one more than there are faces
_HOPELESS = -21.0  # less than the log of the smallest chance
MOST_PUSHED = 6  # calls in a row
ONE_IN = 4  # steps pushes on


@inside
def _next(state: Array) -> int:
    """The next of xorshift64's numbers (Marsaglia, J. Stat. Softw. 8(14), 2003), as a non-negative int64."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return wide(x >> np.uint64(1))


@inside
def _chance(state: Array) -> float:
    """A number between 0 and 1, neither of them."""
    return (_next(state) % (_DICE - 1) + 1) / _DICE


@inside
def _accepted(state: Array, change: float) -> bool:
    """Whether a step that changes the log weight so is taken (Metropolis)."""
    if change >= 0:
        return True
    chance = _chance(state)
    return change >= _HOPELESS and np.log(chance) <= change


@inside
def _pair(first: Array, slot: Array, call: int, wanted: int) -> int:
    """The pair of `call` with slot `wanted`; NONE where it has no such candidate."""
    for pair in range(first[call], first[call + 1]):
        if slot[pair] == wanted:
            return pair
    return NONE


@inside
def _hold(call: int, pair: int, held: Array, since: Array, sweep: int, counts: Array) -> None:
    """Have `call` hold `pair` from `sweep` on, and count the sweeps for which it held another."""
    if sweep > since[call]:
        if held[call] != NONE:
            counts[held[call]] += sweep - since[call]
        since[call] = sweep
    held[call] = pair


@inside
def _pushing(  # noqa: PLR0913, PLR0917 - columns
    first: Array, slot: Array, score: Array, alone: Array, idle: Array, held: Array, owner: Array, state: Array, moved: Array, to: Array
) -> tuple[int, float]:
    """Have the call `moved[0]` take any of its candidates, who held that take any of its own, and so on until one is free.

    Returns how many calls would move (0: no such step), each `to` a pair or NONE, and by how much that changes the log weight. The way
    back is found with the same probability: by the last one's old place, or round the ring again.
    """
    now = held[moved[0]]
    left = NONE if now == NONE else slot[now]
    change, pushed = 0.0, 0
    while True:
        call = moved[pushed]
        options = first[call + 1] - first[call]
        pick = _next(state) % (options + 1)
        target = NONE if pick == options else first[call] + pick
        if target == held[call]:
            return 0, 0.0
        to[pushed] = target
        change += (alone[call] if target == NONE else score[target]) - (alone[call] if held[call] == NONE else score[held[call]])
        pushed += 1
        if target != NONE and pushed > 1 and slot[target] == left:
            return pushed, change  # a ring
        other = NONE if target == NONE else owner[slot[target]]
        if other == NONE:
            return pushed, change - (0.0 if target == NONE else idle[slot[target]]) + (0.0 if left == NONE else idle[left])
        if pushed == MOST_PUSHED:
            return 0, 0.0
        for before in range(pushed):
            if moved[before] == other:
                return 0, 0.0
        moved[pushed] = other


@inside
def _push(  # noqa: PLR0913, PLR0917 - columns
    first: Array, slot: Array, score: Array, alone: Array, idle: Array, held: Array, owner: Array, state: Array, moved: Array, to: Array,
    since: Array, sweep: int, counts: Array,
) -> None:  # fmt: skip
    """Take such a step from `moved[0]` on, or do not."""
    pushed, change = _pushing(first, slot, score, alone, idle, held, owner, state, moved, to)
    if pushed == 0 or not _accepted(state, change):
        return
    for place in range(pushed):
        if held[moved[place]] != NONE:
            owner[slot[held[moved[place]]]] = NONE
    for place in range(pushed):
        _hold(moved[place], to[place], held, since, sweep, counts)
        if to[place] != NONE:
            owner[slot[to[place]]] = moved[place]


@bare
def _walk(  # noqa: C901, PLR0912, PLR0913, PLR0917 - one loop over columns
    first: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, held: Array, sweeps: int, counts: Array,
    owner: Array, state: Array, moved: Array, to: Array, since: Array,
) -> None:  # fmt: skip
    """Walk from the matching `held` (pair of each call, NONE without parent), adding to `counts` how many sweeps each pair was held.

    `owner` is the call that holds each slot, `since` the sweep from which on what each call holds is counted, the first time and then on.
    """
    calls = len(first) - 1
    for call in range(calls):
        if held[call] != NONE and exclusive[call]:
            owner[slot[held[call]]] = call
    for sweep in range(sweeps):
        for _ in range(calls):
            call = _next(state) % calls
            options = first[call + 1] - first[call]
            if options == 0:
                continue
            if exclusive[call] and _next(state) % ONE_IN == 0:
                moved[0] = call
                _push(first, slot, score, alone, idle, held, owner, state, moved, to, since, sweep, counts)
                continue
            pick = _next(state) % (options + 1)
            target = NONE if pick == options else first[call] + pick
            now = held[call]
            if target == now:
                continue
            change = (alone[call] if target == NONE else score[target]) - (alone[call] if now == NONE else score[now])
            other, others = NONE, NONE
            if exclusive[call]:
                left = NONE if now == NONE else slot[now]
                if target != NONE:
                    other = owner[slot[target]]
                    if other == NONE:
                        change -= idle[slot[target]]
                if other != NONE:
                    others = NONE if left == NONE else _pair(first, slot, other, left)
                    if left != NONE and others == NONE:
                        continue
                    change += (alone[other] if others == NONE else score[others]) - score[held[other]]
                    if left == NONE:  # the way back is the other call's choice, among its own candidates (Hastings, Biometrika 57(1), 1970)
                        change += np.log((options + 1.0) / (first[other + 1] - first[other] + 1.0))
                elif left != NONE:
                    change += idle[left]
            if not _accepted(state, change):
                continue
            if exclusive[call]:
                if now != NONE:
                    owner[slot[now]] = other
                if target != NONE:
                    owner[slot[target]] = call
                if other != NONE:
                    _hold(other, others, held, since, sweep, counts)
            _hold(call, target, held, since, sweep, counts)
    for call in range(calls):
        _hold(call, NONE, held, since, sweeps, counts)


def shares(call: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, likely: Array) -> Array:
    """The share (float64) of matchings in which each pair holds; pairs are sorted by call.

    `score` and `alone` are log weights, `idle` log weights of slots that nobody takes; `likely` is the probability of each pair to start
    from.
    """
    if not len(call):
        return np.zeros(0)
    calls = len(alone)
    first = np.searchsorted(call, np.arange(calls + 1))
    held = _start(call, slot, likely, calls, exclusive)
    sweeps = int(np.clip(STEPS // calls, LEAST_SWEEPS, MOST_SWEEPS))
    counts, unburnt = np.zeros(len(call), "i8"), int(np.ceil(sweeps * BURN_IN))
    _walk(
        first, slot.astype("i8"), score, alone, idle, exclusive, held, sweeps, counts, np.full(len(idle), NONE), np.full(1, _SEED, "u8"),
        np.empty(MOST_PUSHED, "i8"), np.empty(MOST_PUSHED, "i8"), np.full(calls, unburnt),
    )  # fmt: skip
    return np.asarray(counts / (sweeps - unburnt))


def _start(call: Array, slot: Array, likely: Array, calls: int, exclusive: Array) -> Array:
    """A matching to begin with: the likeliest pairs first, each where its slot is still free."""
    held = np.full(calls, NONE, "i8")
    taken: set[int] = set()
    for pair in np.argsort(-likely, kind="stable").tolist():
        c, s = int(call[pair]), int(slot[pair])
        if held[c] == NONE and not (exclusive[c] and s in taken):
            held[c] = pair
            if exclusive[c]:
                taken.add(s)
    return held
