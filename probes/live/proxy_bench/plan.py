"""What is asked of a measurement, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from probes.live.proxy_bench.caches import COLD
from probes.live.proxy_bench.fronts import Front
from probes.live.proxy_bench.programming import Programmed
from probes.live.proxy_bench.rulesets import Texts
from probes.schema import Array

TARGETS = ("random", "last")
TURNS = 14  # bursts of a cell in one round, if it has so many connections: the machine's moods are shorter than a round
BASELINE = "none"  # the node that has no rules: clients ask the endpoint itself


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `connections` are those of one cell (a mode, a number of Services and a target), over all `rounds` together.

    `caches`: whether a connection finds some of the last one there.
    """

    modes: tuple[str, ...]
    services: tuple[int, ...]
    endpoints: int
    connections: int
    rounds: int
    seed: int
    caches: str = COLD

    @property
    def cells(self) -> int:
        """How many are measured at each turn, the baseline among them."""
        return len(self.modes) * len(self.services) * len(TARGETS) + 1

    def turns(self) -> list[tuple[int, int]]:
        """(round, connections) of each of a cell's bursts, in order."""
        each = min(TURNS, self.connections // self.rounds)
        count = self.rounds * each
        return [(turn // each, self.connections // count + (turn < self.connections % count)) for turn in range(count)]


@dataclass(frozen=True, slots=True)
class Given:
    """Rules that are there already: a cluster's. `client` is an address that they take for a pod's."""

    texts: Mapping[str, Texts]  # by mode
    fronts: Mapping[str, Sequence[Front]]  # by mode, in the order of its rules
    client: str

    def plan(self, plan: Plan) -> Plan:
        """`plan` with as many Services as there are here (the most of any mode), and as many endpoints as each has in the mean."""
        most = max(self.fronts.values(), key=len)
        endpoints = sum(len(front.endpoints) for front in most) / len(most)
        return replace(plan, services=(len(most),), endpoints=max(1, round(endpoints)))


@dataclass(frozen=True, slots=True)
class Sample:
    """One burst. Of the packets that were paired: `first_ns` (i8) of SYNs with each one's `position` (i8), `established_ns` (i8).

    Times are from the client's side of the node to the server's side. `mode` is BASELINE, with no Services, where the node has no rules.
    `emptied_ns` is the median of how long emptying the caches took before each connection (NaN: they were left warm).
    """

    mode: str
    services: int
    target: str
    round: int
    sent: int
    first_ns: Array
    position: Array
    established_ns: Array
    emptied_ns: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What the instrument costs a packet: ns per sighting, of pairs of bursts with and without it (f8), and by its own clock."""

    pairs_ns: Array
    own_ns: float


Found = Sample | Programmed | Cost
Say = Callable[[str, int, int], None]
