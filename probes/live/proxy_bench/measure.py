"""The whole measurement: each size and mode has a node, rounds go over all; what comes out are arrays of times, and no judgement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from probes.live.kube_proxy.model import ServicePort
from probes.live.proxy_bench.fronts import Front, Fronts
from probes.live.proxy_bench.place import CLIENT, ENDPOINTS, NODE, Place, front_of, generated
from probes.live.proxy_bench.plan import BASELINE, Found, Given, Plan, Say
from probes.live.proxy_bench.programming import Programmed, timed
from probes.live.proxy_bench.road import road
from probes.live.proxy_bench.rounds import bursts, cost
from probes.live.proxy_bench.rulesets import MODES, Steps, Texts, run, why_not


def unavailable(modes: Sequence[str], given: Given | None = None) -> dict[str, str]:
    """Modes that cannot be used here and why, by loading the rules of one Service. RoadError where no namespaces can be made."""
    services, _ = generated(1, 1)
    found = {}
    with road("probe", CLIENT, [ENDPOINTS]) as made:
        for name in modes:
            if given is not None and name not in given.texts:
                found[name] = f"the folder has no {MODES[name].dump} of that mode"
                continue
            reason = why_not(MODES[name], made, MODES[name].texts(NODE, services))
            if reason is not None:
                found[name] = reason
    return found


def measure(plan: Plan, say: Say, given: Given | None = None) -> Iterator[Found]:
    """All samples of `plan`, as they are measured. Every namespace is gone when the iterator is closed.

    `say` is told what happens and how far it is. RoadError where a command fails, BpfError where the instrument cannot be used.
    """
    if given is not None:
        plan = given.plan(plan)
    steps, done = len(plan.services) * len(plan.modes) + len(plan.turns()) * plan.cells, 0
    with ExitStack() as stack:

        def place(mode: str, size: int, fronts: Sequence[Front]) -> Place:
            return Place(f"{mode}-{size}", mode, CLIENT if given is None else given.client, fronts, stack, plan.caches)

        places: dict[tuple[str, int], Place] = {}
        for size in plan.services:
            before, after = generated(size, plan.endpoints)
            for mode in plan.modes:
                say(f"{size:,} Services, {mode}: loading rules", done, steps)
                fronts = [front_of(service) for service in before] if given is None else given.fronts[mode]
                here = places[mode, size] = place(mode, size, fronts)
                if given is None:
                    yield from _program(here, size, before, after)
                else:
                    yield _load(here, size, given.texts[mode])
                done += 1
        bare = place(BASELINE, 0, next(reversed(places.values())).fronts.fronts)
        for sample in bursts(plan, {(BASELINE, 0): bare, **places}):
            say(f"round {sample.round + 1} of {plan.rounds}: {sample.services:,} Services, {sample.mode}", done, steps)
            done += 1
            yield sample
        say("the instrument's own cost", steps, steps)
        yield cost(bare)


def _load(place: Place, size: int, texts: Texts) -> Programmed:
    """Load all rules into a node that has none."""
    found = _timed(place, size, "load", MODES[place.mode].load(texts))
    place.road.keep_conntrack_small()
    return found


def _program(place: Place, size: int, before: Sequence[ServicePort], after: Sequence[ServicePort]) -> Iterator[Programmed]:
    """Load the rules of `before`, then turn them into those of `after`."""
    mode = MODES[place.mode]
    texts, changed = mode.texts(NODE, before), mode.texts(NODE, after)
    yield _load(place, size, texts)
    place.fronts = Fronts([front_of(service) for service in after])
    yield _timed(place, size, "change", mode.change(texts, changed))


def _timed(place: Place, size: int, what: str, steps: Steps) -> Programmed:
    """Run `steps` while knocking at the last Service, until a knock is sent to an endpoint that this Service has now."""
    target = place.fronts.target(len(place.fronts) - 1)
    times = timed(
        place.road, place.instrument, target, lambda seen: bool((place.fronts.positions(seen) >= 0).all()), lambda: run(place.road, steps)
    )
    return Programmed(place.mode, size, what, *times)
