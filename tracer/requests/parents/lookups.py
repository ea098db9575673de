"""Which DNS lookup a connection came of: the name was resolved to the address that was then connected to."""

from __future__ import annotations

import numpy as np

from probes.schema import Array
from tracer.requests.parents.candidates import candidates
from tracer.requests.parents.comparisons import anytime, counted, unlike_chance
from tracer.requests.parents.facts import Facts
from tracer.requests.parents.linkage import scores, weights
from tracer.requests.parents.matching import marginals
from tracer.requests.parents.rivals import rivals
from tracer.requests.parents.ways import shares

LATEST_NS = 5_000_000_000  # after its answer, an address is taken from a cache
ROUNDS = 4
LONE, IDLE = 0.05, 0.3  # shares of connections that came of no lookup, and of lookups that led to none


def lookups(facts: Facts) -> tuple[Array, Array, Array]:
    """`(call, lookup, probability)`: rows of requests that opened a connection, and of the DNS queries that told them where to."""
    asked = np.array([row for row, kind in enumerate(facts.kind) if kind == "dns" and facts.answer[row] >= 0], "i8")
    unread = np.array([each is None for each in facts.exchanges], bool)  # its first packet is all that there is of it
    fresh = np.flatnonzero(((facts.begin < facts.start) | unread) & (facts.caller >= 0))
    if not len(asked) or not len(fresh):
        none = np.zeros(0, "i8")
        return none, none, np.zeros(0)
    answered = facts.end[asked]
    resolved = [set(each.answers.get("addresses", "").split()) if (each := facts.exchanges[row]) else set() for row in asked.tolist()]
    targets = [facts.target[row] for row in fresh.tolist()]
    call, lookup = _pairs(facts, fresh, asked, resolved, targets, 1)
    elapsed = facts.begin[fresh[call]] - answered[lookup]
    later, earlier = _pairs(facts, fresh, asked, resolved, targets, -1)  # what came before its lookup's answer is there by chance
    by_chance = counted(answered[earlier] - facts.begin[fresh[later]]) + anytime(np.full(len(asked), LATEST_NS))
    compared = [unlike_chance("lookup", elapsed, by_chance)]
    count = np.bincount(call, minlength=len(fresh))
    probability = 1.0 / np.maximum(count, 1)[call]
    alone, idle, exclusive = np.full(len(fresh), np.log(LONE)), np.full(len(asked), IDLE), np.ones(len(fresh), bool)
    score, competing = np.zeros(len(call)), rivals(call, lookup, exclusive)
    for _ in range(ROUNDS):
        score = scores(weights(compared, probability), len(call)) - np.log(np.maximum(count, 1))[call]
        probability = marginals(call, lookup, score, alone, idle, exclusive, competing)
    probability = shares(call, lookup, score, alone, np.log(idle), exclusive, probability, competing)
    return fresh[call], asked[lookup], probability


def _pairs(
    facts: Facts, fresh: Array, asked: Array, resolved: list[set[str]], targets: list[str | None], direction: int
) -> tuple[Array, Array]:
    """`(place in fresh, place in asked)` of connections to an address that was told before; `direction` -1: that was told afterwards."""
    answered = direction * facts.end[asked]
    call, lookup = candidates(direction * facts.begin[fresh], facts.caller[fresh], answered, answered + LATEST_NS, facts.caller[asked])
    fits = np.array([targets[c] in resolved[d] for c, d in zip(call.tolist(), lookup.tolist(), strict=True)], bool)
    return call[fits], lookup[fits]
