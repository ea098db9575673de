"""Everything that message passing and sampling estimate, by going through all matchings one by one."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probes.schema import Array
from tracer.requests.parents.rivals import Rivals, rivals


@dataclass
class Graph:
    """Pairs of calls and slots, sorted by call, with the log weights of pairs, of calls without one, and of idle slots."""

    pairs: list[tuple[int, int]]
    score: list[float]
    alone: list[float]
    idle: list[float]
    exclusive: list[bool]

    def columns(self, *, idle_as_weight: bool) -> tuple[Array, ...]:
        """What `marginals` (idle slots by weight) and `shares` (by its log) are called with, but for `likely`."""
        call, slot = (np.array([pair[side] for pair in self.pairs], "i8") for side in range(2))
        idle = np.exp(self.idle) if idle_as_weight else np.array(self.idle)
        return call, slot, np.array(self.score), np.array(self.alone), idle, np.array(self.exclusive, bool)

    def rivals(self) -> Rivals:
        """Which calls compete."""
        call, slot, *_, exclusive = self.columns(idle_as_weight=False)
        return rivals(call, slot, exclusive)

    def matchings(self) -> Iterator[tuple[list[int], float]]:
        """(pair of each call, -1 for none; weight) of every matching."""
        mine = [[row for row, pair in enumerate(self.pairs) if pair[0] == call] for call in range(len(self.alone))]

        def choose(call: int, chosen: list[int], taken: frozenset[int], weight: float) -> Iterator[tuple[list[int], float]]:
            if call == len(self.alone):
                rest = sum(self.idle[slot] for slot in range(len(self.idle)) if slot not in taken)
                yield chosen, math.exp(weight + rest)
                return
            yield from choose(call + 1, [*chosen, -1], taken, weight + self.alone[call])
            for row in mine[call]:
                slot = self.pairs[row][1]
                if not self.exclusive[call]:
                    yield from choose(call + 1, [*chosen, row], taken, weight + self.score[row])
                elif slot not in taken:
                    yield from choose(call + 1, [*chosen, row], taken | {slot}, weight + self.score[row])

        yield from choose(0, [], frozenset(), 0.0)

    def exact(self) -> Array:
        """The share of all matchings, by weight, in which each pair holds."""
        held, total = np.zeros(len(self.pairs)), 0.0
        for chosen, weight in self.matchings():
            total += weight
            for row in chosen:
                if row >= 0:
                    held[row] += weight
        return held / total


def any_graph(chance: random.Random, calls: int, slots: int, *, density: float = 0.6, width: float = 2.0) -> Graph:
    pairs = [(call, slot) for call in range(calls) for slot in range(slots) if chance.random() < density]
    every = chance.random() < 0.5
    return Graph(
        pairs, [chance.uniform(-width, width) for _ in pairs], [chance.uniform(-width, width) for _ in range(calls)],
        [chance.uniform(-width, 0) for _ in range(slots)], [every or chance.random() < 0.6 for _ in range(calls)],
    )  # fmt: skip


def forest(chance: random.Random, calls: int, slots: int) -> Graph:
    """A graph without cycles: a pair is left out where it would close one."""
    graph = any_graph(chance, calls, slots, density=1.0)
    group = list(range(calls + slots))
    kept = []
    for call, slot in sorted(graph.pairs, key=lambda _: chance.random()):
        one, other = group[call], group[calls + slot]
        if one != other:
            group = [one if each == other else each for each in group]
            kept.append((call, slot))
    graph.pairs = sorted(kept)
    graph.score = graph.score[: len(kept)]
    return graph
