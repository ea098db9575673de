"""One kind of call out of one workload, and the requests that its pods were serving: evidence weighed until it settles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.schema import Array
from tracer.requests.parents import order
from tracer.requests.parents.linkage import Comparison, scores, weights
from tracer.requests.parents.matching import marginals
from tracer.requests.parents.rivals import rivals, side_by_side
from tracer.requests.parents.ways import shares

ROUNDS, SETTLED = 20, 0.002
SAMPLED = 2  # rounds of sampling: the first still teaches
BELIEVED = 1e6  # pairs that a belief counts which no traffic may change
LEAST_FOR_ORDER = 100  # pairs; below, an event loop's order cannot be told from chance
CALLS_FITTED = 60  # what this many calls tell is used up in fitting the weights: measured on crowds of equal HTTP/1.0 requests


@dataclass(slots=True)
class Group:
    """Calls and requests by place in this group (from 0), and the pairs (`call`, `parent`) that time allows.

    `came`/`went` (int64 ns) are when what a pair passes on reached the pod and left it: the response's first, then the request's.
    """

    call: Array
    parent: Array
    calls: int
    parents: int
    slot: Array  # of each pair: what only one exclusive call can take (a request; or a request for calls of one kind)
    slot_class: Array  # of each slot: those that are taken equally often
    exclusive: Array  # of each call
    comparisons: list[Comparison]
    upstream: Array  # connection of each call, downstream: of each request (from 0)
    downstream: Array
    pod: Array  # of each call
    told: Array  # log weight of each pair by what other calls tell
    response: tuple[Array, Array]  # (came, by call; went, by request)
    request: tuple[Array, Array]  # (came, by request; went, by call)
    lone: float  # share of calls believed to have no parent among their candidates
    passed_on: bool  # whether what a call asks and gets is what its request did: lookups pass nothing on, so their order tells nothing


@dataclass(slots=True)
class Solved:
    """The probability of each pair, and what each comparison's levels weigh."""

    probability: Array
    comparisons: list[Comparison]
    weights: list[Array]


def solve(group: Group) -> Solved:
    """Weigh and match in turns: evidence gives probabilities, probabilities teach what evidence is worth. Sampling has the last word."""
    candidates = np.bincount(group.call, minlength=group.calls)
    probability = (1 - group.lone) / np.maximum(candidates, 1)[group.call]
    before = np.log((1 - group.lone) / np.maximum(candidates, 1))[group.call] + group.told
    alone = np.full(group.calls, np.log(group.lone))
    comparisons, learned = group.comparisons, weights(group.comparisons, probability)
    competing = rivals(group.call, group.slot, group.exclusive)
    for round_ in range(ROUNDS):
        score = scores(learned, len(group.call)) + before
        updated = marginals(group.call, group.slot, score, alone, _idle(group, probability), group.exclusive, competing)
        moved = float(np.abs(updated - probability).mean()) if len(updated) else 0.0
        probability = updated if not round_ else 0.5 * (probability + updated)  # what swings from side to side settles in the middle
        if round_ and moved < SETTLED:
            break
        comparisons = [*group.comparisons, *_iterated(group, probability)]
        learned = weights(comparisons, probability)
    trust = _trust(group)
    for _ in range(SAMPLED):
        score = trust * (scores(learned, len(group.call)) + before)
        idle = trust * np.log(_idle(group, probability))
        probability = shares(group.call, group.slot, score, trust * alone, idle, group.exclusive, probability, competing)
        comparisons = [*group.comparisons, *_iterated(group, probability)]
        learned = weights(comparisons, probability)
    return Solved(probability, comparisons, learned)


def _ordered(group: Group) -> bool:
    """Whether order tells pairs apart: sampled matchings weigh every other way to pair exclusive calls, if there are enough of them."""
    return group.passed_on and bool(group.exclusive.any()) and len(group.call) >= LEAST_FOR_ORDER


def _trust(group: Group) -> float:
    """What remains of a log weight that was learned from the very pairs it judges, which it fits better than it would others.

    The shrinkage of van Houwelingen and le Cessie (Stat. Med. 9, 1990): the fewer calls taught it, the less. Where nothing rests on the
    order that other pairs are believed to have, weights are held by what is known beforehand instead (`Comparison.worth`).
    """
    return group.calls / (group.calls + CALLS_FITTED) if _ordered(group) else 1.0


def _idle(group: Group, probability: Array) -> Array:
    """How probable it is that a slot stays empty: what its class shows."""
    taken = np.minimum(np.bincount(group.slot, weights=probability, minlength=len(group.slot_class)), 1)
    share = (np.bincount(group.slot_class, weights=taken) + 0.5) / (np.bincount(group.slot_class) + 1)
    return np.clip(1 - share, 0.02, 1.0)[group.slot_class]


def _iterated(group: Group, probability: Array) -> list[Comparison]:
    """Comparisons that rest on what is believed of the other pairs.

    Where requests make one such call each, sampled matchings weigh every other way to pair them. Elsewhere a wrong pairing that keeps its
    own order would confirm itself; and that a request has made such a call already counts no more than is believed beforehand.
    """
    if group.exclusive.any():
        return _order(group, probability) if _ordered(group) else []
    rest = np.bincount(group.slot, weights=probability, minlength=len(group.slot_class))[group.slot] - probability
    level = np.digitize(rest, [0.1, 0.5, 0.9])
    return [Comparison("repeated", level, (0.85, 0.05, 0.04, 0.06), (0.45, 0.1, 0.1, 0.35), worth=BELIEVED)]


def _order(group: Group, probability: Array) -> list[Comparison]:
    chosen = order.likeliest(group.call, probability)
    member, same = _workers(group, probability)
    came, went = group.response
    pairs = group.pod[group.call] * (order.MOST_WORKERS + 1) + member[group.upstream[group.call]]

    def in_order(times: tuple[str, Array, Array]) -> Comparison:
        name, when_came, when_went = times
        known = (when_came >= 0) & (when_went >= 0)
        use = chosen[known[chosen]]
        use = use[np.lexsort((when_came[use], pairs[use]))]
        own = np.full(group.calls, -1, "i8")
        own[group.call[use]] = np.arange(len(use))
        over = order.overtakings(when_came, when_went, pairs, when_came[use], when_went[use], pairs[use], own[group.call])
        return Comparison(
            name,
            np.where(known, order.levels(over), order.LEVELS),
            (0.7, 0.12, 0.06, 0.05, 0.03, 0.02, 0.02),
            (0.2, 0.1, 0.1, 0.2, 0.18, 0.2, 0.02),
            20.0,
            ("order",) + (None,) * 6,
            unknown=order.LEVELS,
        )

    times = (
        ("response order", came[group.call], went[group.parent]),
        ("request order", group.request[0][group.parent], group.request[1][group.call]),
    )
    return [*([same] if same is not None else []), *side_by_side(in_order, times, len(pairs))]


def _workers(group: Group, probability: Array) -> tuple[Array, Comparison | None]:
    """`(worker of each upstream connection, whether both connections of a pair have the same one)`; of each pod apart."""
    member = np.zeros(int(group.upstream.max(initial=-1)) + 1, "i8")
    level = np.full(len(group.call), 1, "i8")
    reused = np.bincount(group.upstream)[group.upstream] > 1  # a connection with one call would take whichever worker suits that call
    several = False
    for pod in np.unique(group.pod[group.call]).tolist():
        at = np.flatnonzero((group.pod[group.call] == pod) & (probability > 0.02) & reused[group.call])
        if len(at) < LEAST_FOR_ORDER:
            continue
        down, up = (
            np.unique(group.downstream[group.parent[at]], return_inverse=True),
            np.unique(group.upstream[group.call[at]], return_inverse=True),
        )
        mine, count = order.workers(down[1], up[1], probability[at])
        if count < 2:
            continue
        several = True
        member[up[0]] = mine
        # the vote of each downstream connection, without the request in question
        votes = np.zeros((len(down[0]), count))
        np.add.at(votes, (down[1], mine[up[1]]), probability[at])
        own = np.zeros((group.parents, count))
        np.add.at(own, (group.parent[at], mine[up[1]]), probability[at])
        place = np.full(int(group.downstream.max()) + 1, -1, "i8")
        place[down[0]] = np.arange(len(down[0]))
        rows = np.flatnonzero(group.pod[group.call] == pod)
        where = place[group.downstream[group.parent[rows]]]
        rest = np.where(where[:, None] >= 0, votes[where] - own[group.parent[rows]], 0.0)
        share = (rest[np.arange(len(rows)), member[group.upstream[group.call[rows]]]] + 0.25) / (
            np.maximum(rest, 0).sum(axis=1) + 0.25 * count
        )
        level[rows] = np.where(reused[group.call[rows]], np.digitize(share, [0.1, 0.3, 0.7, 0.9]), 1)
    if not several:
        return member, None
    return member, Comparison(
        "worker", level, (0.02, 0.08, 0.3, 0.2, 0.4), (0.35, 0.15, 0.3, 0.1, 0.1), 20.0, (None, None, None, None, "worker")
    )  # fmt: skip
