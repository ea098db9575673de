"""How sure a match is: how often each pair holds in matchings drawn by their probability.

Message passing (`matching`) finds the best matching fast, but where two calls could as well be exchanged it counts its own echo and is too
sure (its graph has cycles). So the last word is a count: a Metropolis walk (J. Chem. Phys. 21, 1953) over whole matchings, whose steps move
a call to another candidate and exchange it with the call that holds it, or push on from call to call until one finds its place: a ring of
calls turns only all at once. The walk's dice are seeded: the same evidence, the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from probes.jit import bare, inside, kernel, wide
from probes.schema import Array

STEPS = 12_000_000  # at most, of all calls together
MOST_SWEEPS, LEAST_SWEEPS = 20_000, 500
BURN_IN = 0.1
_SEED = 0x9E3779B97F4A7C15
NONE, UNKNOWN = -1, -2
IMPOSSIBLE = np.nan
_DICE = 1_000_000_008  # one more than there are faces
_HOPELESS = -21.0  # less than the log of the smallest chance
MOST_PUSHED = 6  # calls in a row
ONE_IN = 4  # steps pushes on
_word = cast("Callable[[int], int]", np.uint64)


@inside
def _next(x: int) -> int:
    """The next of xorshift64's numbers (uint64; Marsaglia, J. Stat. Softw. 8(14), 2003)."""
    x ^= x << _word(13)
    x ^= x >> _word(7)
    x ^= x << _word(17)
    return x


@inside
def _below(x: int, faces: int) -> int:
    """What such a number shows (int64) on a die of so many `faces`, counted from 0."""
    return wide((x >> _word(1)) % _word(faces))


@inside
def _rolled(x: int, change: float) -> int:
    """`x`, or the next number where chance decides whether a step that changes the log weight so is taken."""
    return _next(x) if change < 0 else x


@inside
def _accepted(x: int, change: float) -> bool:
    """Whether such a step is taken (Metropolis)."""
    return change >= 0 or (change >= _HOPELESS and np.log((_below(x, _DICE - 1) + 1) / _DICE) <= change)


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
def _pushing(first: Array, slot: Array, held: Array, owner: Array, x: int, moved: Array, to: Array) -> tuple[int, int]:
    """Have the call `moved[0]` take any of its candidates, who held that take any of its own, and so on until one is free.

    Returns how many calls would move (0: no such step), each `to` a pair or NONE, and the number after those it took. The way back is found
    with the same probability: by the last one's old place, or round the ring again.
    """
    now, pushed = held[moved[0]], 0
    left = NONE if now == NONE else slot[now]
    while True:
        call = moved[pushed]
        options = first[call + 1] - first[call]
        x = _next(x)
        pick = _below(x, options + 1)
        target = NONE if pick == options else first[call] + pick
        if target == held[call]:
            return 0, x
        to[pushed] = target
        pushed += 1
        other = NONE if target == NONE else owner[slot[target]]
        if other == NONE or (pushed > 1 and slot[target] == left):  # one that is free, or round the ring
            return pushed, x
        if pushed == MOST_PUSHED:
            return 0, x
        for before in range(pushed):
            if moved[before] == other:
                return 0, x
        moved[pushed] = other


@inside
def _pushed(slot: Array, score: Array, alone: Array, idle: Array, held: Array, moved: Array, to: Array, pushed: int) -> float:
    """By how much that changes the log weight."""
    change = 0.0
    for place in range(pushed):
        call, target, now = moved[place], to[place], held[moved[place]]
        change += (alone[call] if target == NONE else score[target]) - (alone[call] if now == NONE else score[now])
    now, last = held[moved[0]], to[pushed - 1]
    taken, left = NONE if last == NONE else slot[last], NONE if now == NONE else slot[now]
    if taken != NONE and taken == left:
        return change  # a ring
    return change - (0.0 if taken == NONE else idle[taken]) + (0.0 if left == NONE else idle[left])


@inside
def _push(  # noqa: PLR0913, PLR0917 - columns
    first: Array, slot: Array, score: Array, alone: Array, idle: Array, held: Array, owner: Array, x: int, moved: Array, to: Array,
    since: Array, sweep: int, counts: Array,
) -> int:  # fmt: skip
    """Take such a step from `moved[0]` on, or do not."""
    pushed, x = _pushing(first, slot, held, owner, x, moved, to)
    if pushed == 0:
        return x
    change = _pushed(slot, score, alone, idle, held, moved, to, pushed)
    x = _rolled(x, change)
    if not _accepted(x, change):
        return x
    for place in range(pushed):
        if held[moved[place]] != NONE:
            owner[slot[held[moved[place]]]] = NONE
    for place in range(pushed):
        _hold(moved[place], to[place], held, since, sweep, counts)
        if to[place] != NONE:
            owner[slot[to[place]]] = moved[place]
    return x


@inside
def _change(  # noqa: PLR0913, PLR0917 - columns
    first: Array, slot: Array, score: Array, alone: Array, idle: Array, held: Array, call: int, target: int, other: int, exclusive: bool
) -> float:
    """By how much the log weight changes if `call` takes pair `target` (or NONE), whose slot `other` holds, and gives it its own.

    IMPOSSIBLE where it holds that already, or where the other has no such candidate.
    """
    now = held[call]
    if target == now:
        return IMPOSSIBLE
    change: float = (alone[call] if target == NONE else score[target]) - (alone[call] if now == NONE else score[now])
    if not exclusive:
        return change
    left = NONE if now == NONE else slot[now]
    if target != NONE and other == NONE:
        change -= idle[slot[target]]
    if other != NONE:
        others = NONE if left == NONE else _pair(first, slot, other, left)
        if left != NONE and others == NONE:
            return IMPOSSIBLE
        change += (alone[other] if others == NONE else score[others]) - score[held[other]]
        if left == NONE:  # the way back is the other call's choice, among its own candidates (Hastings, Biometrika 57(1), 1970)
            change += np.log((first[call + 1] - first[call] + 1.0) / (first[other + 1] - first[other] + 1.0))
    elif left != NONE:
        change += idle[left]
    return change


@bare
def _walk(  # noqa: C901, PLR0912, PLR0913, PLR0917 - one loop over columns
    first: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, held: Array, sweeps: int, counts: Array,
    owner: Array, moved: Array, to: Array, since: Array, changes: Array, from_pair: Array, from_call: Array,
) -> None:  # fmt: skip
    """Walk from the matching `held` (pair of each call, NONE without parent), adding to `counts` how many sweeps each pair was held.

    `owner` is the call that holds each slot, `since` the sweep from which on what each call holds is counted, the first time and then on.
    Most steps are not taken, and come again: `changes` keeps by how much each would change the log weight while its call holds `from_pair`
    and the slot that it takes is `from_call`'s (of each call its pairs, then none).
    """
    calls, x = len(first) - 1, _word(_SEED)
    for call in range(calls):
        if held[call] != NONE and exclusive[call]:
            owner[slot[held[call]]] = call
    for sweep in range(sweeps):
        for _ in range(calls):
            x = _next(x)
            call = _below(x, calls)
            options = first[call + 1] - first[call]
            if options == 0:
                continue
            if exclusive[call]:
                x = _next(x)
                if _below(x, ONE_IN) == 0:
                    moved[0] = call
                    x = _push(first, slot, score, alone, idle, held, owner, x, moved, to, since, sweep, counts)
                    continue
            x = _next(x)
            pick = _below(x, options + 1)
            target = NONE if pick == options else first[call] + pick
            other = owner[slot[target]] if exclusive[call] and target != NONE else NONE
            step, now = first[call] + call + pick, held[call]
            if from_pair[step] != now or from_call[step] != other:
                from_pair[step], from_call[step] = now, other
                changes[step] = _change(first, slot, score, alone, idle, held, call, target, other, exclusive[call])
            x = _rolled(x, changes[step])
            if not _accepted(x, changes[step]):
                continue
            if exclusive[call]:
                if now != NONE:
                    owner[slot[now]] = other
                if target != NONE:
                    owner[slot[target]] = call
                if other != NONE:
                    others = NONE if now == NONE else _pair(first, slot, other, slot[now])
                    _hold(other, others, held, since, sweep, counts)
            _hold(call, target, held, since, sweep, counts)
    for call in range(calls):
        _hold(call, NONE, held, since, sweeps, counts)


def sweeps_for(calls: int) -> int:
    """How often each of so many `calls`, of all groups together, is to be moved."""
    return int(np.clip(STEPS // max(calls, 1), LEAST_SWEEPS, MOST_SWEEPS))


def shares(call: Array, slot: Array, score: Array, alone: Array, idle: Array, exclusive: Array, likely: Array, sweeps: int) -> Array:
    """The share (float64) of matchings in which each pair holds; pairs are sorted by call.

    `score` and `alone` are log weights, `idle` log weights of slots that nobody takes; `likely` is the probability of each pair to start
    from, `sweeps` for how long matchings are drawn.
    """
    if not len(call):
        return np.zeros(0)
    calls = len(alone)
    first = np.searchsorted(call, np.arange(calls + 1))
    held = _start(np.argsort(-likely, kind="stable"), call, slot, exclusive, np.zeros(len(idle), bool))
    counts, unburnt = np.zeros(len(call), "i8"), int(np.ceil(sweeps * BURN_IN))
    steps = len(call) + calls
    _walk(
        first, slot.astype("i8"), score, alone, idle, exclusive, held, sweeps, counts, np.full(len(idle), NONE),
        np.empty(MOST_PUSHED, "i8"), np.empty(MOST_PUSHED, "i8"), np.full(calls, unburnt),
        np.empty(steps), np.full(steps, UNKNOWN), np.full(steps, UNKNOWN),
    )  # fmt: skip
    return np.asarray(counts / (sweeps - unburnt))


@kernel
def _start(pairs: Array, call: Array, slot: Array, exclusive: Array, taken: Array) -> Array:
    """A matching to begin with: of `pairs`, the likeliest first, each where its slot is not `taken` (bool) yet."""
    held = np.full(len(exclusive), NONE)
    for pair in pairs:
        mine = call[pair]
        if held[mine] == NONE and not (exclusive[mine] and taken[slot[pair]]):
            held[mine] = pair
            taken[slot[pair]] |= exclusive[mine]
    return held
