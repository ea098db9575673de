"""Bursts in turn, of all modes and of a node without rules; and what the instrument itself costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from probes.live.proxy_bench.place import DATA_PACKETS, Place
from probes.live.proxy_bench.plan import BASELINE, TARGETS, Cost, Plan, Sample
from probes.live.proxy_bench.quiet import undisturbed
from probes.schema import Array

WARM_UP = 15  # connections before each burst that are not counted, to other Services: code and common chains are then as in its middle
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, less their whole part, lie evenly between 0 and 1, however many there are
COST_PAIRS, COST_BURST = 31, 200


def bursts(plan: Plan, places: Mapping[tuple[str, int], Place]) -> Iterator[Sample]:
    """Every mode, number of Services (the keys of `places`) and target, and the baseline, at each turn, in an order by chance.

    So a round takes a fifth of the whole time: what disturbs a machine for seconds is no more than a part of any round of any cell.

    A random Service is another one in each burst, as long as there are others. Long and short ways through the rules follow one another
    alike in every round and mode: what one leaves in the caches is what the next finds there.
    """
    cells = [(key, target) for key in places for target in (TARGETS[:1] if key[0] == BASELINE else TARGETS)]
    turns, chance = plan.turns(), np.random.default_rng(plan.seed)
    drawn = {key: itertools.count() for key in places}
    for turn, (number, count) in enumerate(turns):
        for key, target in (cells[at] for at in chance.permutation(len(cells)).tolist()):
            last = len(places[key].fronts) - 1
            order = np.random.default_rng((plan.seed, turn % (len(turns) // plan.rounds)))
            warm, wanted = (
                spread(last + 1, some, next(drawn[key]), order) if target == "random" else np.full(some, last) for some in (WARM_UP, count)
            )
            yield _burst(key, target, number, places[key], warm, wanted)


def spread(services: int, count: int, number: int, chance: np.random.Generator) -> Array:
    """`count` of `services` positions (i8) at equal distances over them all, in an order by chance; others for each `number`.

    Positions drawn independently would make a round's median vary by where they happen to lie.
    """
    found = ((np.arange(count) + number * GOLDEN % 1) * services / count).astype("i8")
    return chance.permutation(np.minimum(found, services - 1))


def _burst(key: tuple[str, int], target: str, number: int, place: Place, warm: Array, wanted: Array) -> Sample:
    """Connections to the Services at positions `wanted`, after those at `warm`."""
    direct = key[0] == BASELINE
    with undisturbed():
        place.forget()
        place.burst(warm, direct=direct)
        burst = place.burst(wanted, direct=direct)
    emptied_ns = float(np.median(burst.emptied_ns))
    return Sample(*key, target, number, len(wanted), burst.first_ns, burst.position, burst.established_ns, emptied_ns)


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
                times, _ = place.load.connect(targets, DATA_PACKETS)
                spent[on] = float(np.median(times[times >= 0]))
                if on:
                    sightings = len(place.instrument.take()) / COST_BURST
        differences.append((spent[True] - spent[False]) / sightings)
    place.instrument.listen(True)
    return Cost(np.array(differences), place.instrument.seen().own_ns)
