"""Bursts in turn, each between two looks at how fast the machine is just now; and what the instrument itself costs.

Other work on the machine, a sibling thread of the same core included, slows everything by half and more for a second or so. A burst counts
when packets without any rules took their usual time right before it and right after it; else it is tried again. What decides is never the
burst itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from probes.live.proxy_bench.place import DATA_PACKETS, Place
from probes.live.proxy_bench.plan import BASELINE, TARGETS, Cost, Plan, Sample
from probes.live.proxy_bench.quiet import undisturbed
from probes.schema import Array

WARM_UP = 50  # connections before each burst that are not counted: caches and branches are then as in its middle
GAUGE = 40  # connections of one look
QUIET = 1.1  # times the shortest that was seen
ATTEMPTS = 5
COST_PAIRS, COST_BURST = 31, 200


@dataclass(slots=True)
class Gauge:
    """How long packets take through a node without rules; `best_ns` is the shortest median of established ones so far."""

    place: Place
    best_ns: float = np.inf

    def look(self) -> tuple[float, float]:
        """Medians of first and established packets now, in ns."""
        first_ns, _, established_ns = self.place.burst(np.zeros(GAUGE, "i8"), direct=True)
        found = float(np.median(first_ns)), float(np.median(established_ns))
        self.best_ns = min(self.best_ns, found[1])
        return found

    def disturbance(self, *looks: tuple[float, float]) -> float:
        """The slowest of `looks` over the shortest that was seen: 1 where nothing disturbs."""
        return max(established for _, established in looks) / self.best_ns


def a_round(plan: Plan, size: int, number: int, places: Mapping[str, Place], gauge: Gauge, chance: np.random.Generator) -> Iterator[Sample]:
    """Every mode and target, and the baseline, once, in an order by chance."""
    count = plan.of_round(number)
    order = [(name, target) for name in plan.modes for target in TARGETS] + [(BASELINE, TARGETS[0])]
    for at in chance.permutation(len(order)).tolist():
        name, target = order[at]
        last = len(places[name].fronts) - 1
        wanted = spread(last + 1, count, chance) if target == "random" else np.full(count, last)
        yield _burst(name, size, target, number, places[name], wanted, gauge)


def spread(services: int, count: int, chance: np.random.Generator) -> Array:
    """`count` of `services` positions (i8), each as likely as any, evenly over them all (stratified), in an order by chance.

    Positions drawn independently would make a round's median vary by where they happen to lie.
    """
    found = ((np.arange(count) + chance.random(count)) * services / count).astype("i8")
    return chance.permutation(np.minimum(found, services - 1))


def _burst(name: str, size: int, target: str, number: int, place: Place, wanted: Array, gauge: Gauge) -> Sample:
    """The first attempt that nothing disturbed, else the least disturbed one."""
    tried: list[Sample] = []
    with undisturbed():
        while len(tried) < ATTEMPTS and (not tried or tried[-1].disturbance > QUIET):
            place.forget()
            place.burst(wanted[:WARM_UP], direct=name == BASELINE)
            before = gauge.look()
            found = place.burst(wanted, direct=name == BASELINE)
            after = gauge.look()
            base_first_ns, base_established_ns = (float(np.mean(each)) for each in zip(before, after, strict=True))
            tried.append(
                Sample(
                    name, size, target, number, len(wanted), *found, base_first_ns, base_established_ns,
                    gauge.disturbance(before, after), len(tried) + 1,
                )
            )  # fmt: skip
    return replace(min(tried, key=lambda each: each.disturbance), attempts=len(tried))


def cost(place: Place) -> Cost:
    """Bursts with and without the instrument, in turn: a connection's median time, by how often its packets are seen."""
    targets = [place.fronts.fronts[0].endpoints[0]] * COST_BURST
    differences, sightings = [], 1.0
    for number in range(COST_PAIRS):
        spent = {}
        with undisturbed():
            for on in (True, False) if number % 2 else (False, True):
                place.instrument.listen(on)
                place.load.connect(targets[:WARM_UP], DATA_PACKETS)
                place.instrument.take()
                times = place.load.connect(targets, DATA_PACKETS)
                spent[on] = float(np.median(times[times >= 0]))
                if on:
                    sightings = len(place.instrument.take()) / COST_BURST
        differences.append((spent[True] - spent[False]) / sightings)
    place.instrument.listen(True)
    return Cost(np.array(differences), place.instrument.seen().own_ns)
