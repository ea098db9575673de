"""Bursts in turn, each between two looks at how fast the machine is just now; and what the instrument itself costs.

Other work on the machine, a sibling thread of the same core included, slows everything by half and more for a second or so. A burst counts
when packets that meet no rules took their usual time meanwhile: those of a node without any, right before and right after, and established
ones in the burst itself. Else it is tried again after all others. First packets, which are what is asked about, decide
nothing.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from probes.live.proxy_bench.place import DATA_PACKETS, Place
from probes.live.proxy_bench.plan import BASELINE, TARGETS, Cost, Plan, Sample
from probes.live.proxy_bench.quiet import undisturbed
from probes.schema import Array

WARM_UP = 50  # connections before each burst that are not counted, to other Services: code and common chains are then as in its middle
GAUGE = 40  # connections of one look
CALIBRATION = 25  # looks before anything is measured
QUIET = 1.1  # times the shortest that was seen
REPEATED = 0.25  # of a size's bursts: where neighbours never rest, measuring must end all the same
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, less their whole part, lie evenly between 0 and 1, however many there are
COST_PAIRS, COST_BURST = 31, 200


class Gauge:
    """How long packets take that meet no rules, beside the shortest that it has seen."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._best_ns: dict[tuple[str, int], float] = {}  # medians of established packets, by mode and number of Services
        with undisturbed():
            for _ in range(CALIBRATION):
                self.look()

    def look(self) -> tuple[float, float]:
        """Medians of first and established packets without rules, now, in ns."""
        first_ns, _, established_ns = self._place.burst(np.zeros(GAUGE, "i8"), direct=True)
        found = float(np.median(first_ns)), float(np.median(established_ns))
        self.disturbance(BASELINE, 0, found[1])
        return found

    def disturbance(self, mode: str, services: int, established_ns: float) -> float:
        """How much longer than the shortest so far: 1 where nothing disturbs."""
        best_ns = self._best_ns[mode, services] = min(self._best_ns.get((mode, services), np.inf), established_ns)
        return established_ns / best_ns


def bursts(plan: Plan, size: int, places: Mapping[str, Place], gauge: Gauge, chance: np.random.Generator) -> Iterator[Sample]:
    """Every mode and target, and the baseline, at each turn, in an order by chance; then again what was disturbed.

    Of what is disturbed at every attempt, the least disturbed one. A random Service is another one at each attempt, as long as
    there are others. Long and short ways through the rules follow one another alike in every round and mode: what one leaves in the caches
    is what the next finds there.
    """
    cells = [(name, target) for name in plan.modes for target in TARGETS] + [(BASELINE, TARGETS[0])]
    turns = plan.turns()
    drawn = {name: itertools.count() for name in places}
    waiting = deque((turn, *cells[at]) for turn in range(len(turns)) for at in chance.permutation(len(cells)).tolist())
    again = int(REPEATED * len(waiting))
    tried: dict[tuple[int, str, str], list[Sample]] = {}
    while waiting:
        turn, name, target = burst = waiting.popleft()
        (number, count), last = turns[turn], len(places[name].fronts) - 1
        order = np.random.default_rng((plan.seed, turn % (len(turns) // plan.rounds)))
        warm, wanted = (
            spread(last + 1, some, next(drawn[name]), order) if target == "random" else np.full(some, last) for some in (WARM_UP, count)
        )
        attempts = tried.setdefault(burst, [])
        attempts.append(_burst(name, size, target, number, places[name], warm, wanted, gauge))
        if attempts[-1].disturbance > QUIET and len(attempts) < plan.attempts and again > 0:
            waiting.append(burst)
            again -= 1
        else:
            yield replace(min(attempts, key=lambda each: each.disturbance), attempts=len(attempts))


def spread(services: int, count: int, number: int, chance: np.random.Generator) -> Array:
    """`count` of `services` positions (i8) at equal distances over them all, in an order by chance; others for each `number`.

    Positions drawn independently would make a round's median vary by where they happen to lie.
    """
    found = ((np.arange(count) + number * GOLDEN % 1) * services / count).astype("i8")
    return chance.permutation(np.minimum(found, services - 1))


def _burst(name: str, size: int, target: str, number: int, place: Place, warm: Array, wanted: Array, gauge: Gauge) -> Sample:
    """Connections to the Services at positions `wanted`, after those at `warm`, between two looks at the gauge."""
    direct = name == BASELINE
    with undisturbed():
        place.forget()
        place.burst(warm, direct=direct)
        before = gauge.look()
        first_ns, position, established_ns = place.burst(wanted, direct=direct)
        after = gauge.look()
    base_first_ns, base_established_ns = (float(np.mean(each)) for each in zip(before, after, strict=True))
    disturbance = max(gauge.disturbance(BASELINE, 0, each[1]) for each in (before, after))
    if len(established_ns):
        disturbance = max(disturbance, gauge.disturbance(name, size, float(np.median(established_ns))))
    return Sample(
        name, size, target, number, len(wanted), first_ns, position, established_ns, base_first_ns, base_established_ns, disturbance, 1
    )


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
