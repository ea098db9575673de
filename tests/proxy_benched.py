"""Made-up bursts of `hopline bench proxy` with a known slope, and the document that they give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.proxy_bench.told import document
from probes.live.proxy_bench.plan import BASELINE, Cost, Plan, Sample
from probes.live.proxy_bench.programming import Programmed
from probes.live.proxy_bench.rounds import spread

SIZES = (1, 101, 1009)
PLAN = Plan(("iptables-nft", "nftables"), SIZES, 2, 1010, 5, 0)
MACHINE = {"kernel": "6.1", "processors": 2, "processor": "<one>", "load": 0.5}


def made(
    slope_ns: float, *, mode: str = "iptables-nft", start_ns: float = 3000.0, warm_ns: float = 0.0, round_ns: float = 0.0, seed: int = 0
) -> list[Sample]:
    """Bursts of a mode whose first packets take `start_ns + slope_ns * position`, less `warm_ns` towards the last Service.

    Times have long tails, and each round has something of its own.
    """
    chance = np.random.default_rng(seed)
    found = []
    for services in SIZES:
        own_of = chance.normal(0, round_ns, PLAN.rounds)
        for turn, (number, count) in enumerate(PLAN.turns()):
            own = own_of[number]
            for target in ("random", "last"):
                position = spread(services, count, turn, chance) if target == "random" else np.full(count, services - 1)
                expected = start_ns + slope_ns * position - (warm_ns if target == "last" else 0)
                times = own + expected * chance.lognormal(0, 0.1, count) + np.where(chance.random(count) < 0.02, 50_000, 0)
                later = 800 * chance.lognormal(0, 0.1, 3 * count)
                found.append(Sample(mode, services, target, number, count, times.astype("i8"), position, later.astype("i8"), 150_000.0))
    return found


def told_of_two() -> dict[str, object]:
    samples = made(17.3) + made(0.0, mode="nftables", seed=1)
    bare = [each for each in made(0.0, start_ns=700.0) if (each.services, each.target) == (SIZES[0], "random")]
    samples += [replace(each, mode=BASELINE, services=0, established_ns=each.established_ns * 0.6) for each in bare]
    loads = [Programmed(mode, 101, what, 7_000_000, 5_000_000) for mode in PLAN.modes for what in ("load", "change")]
    return document(PLAN, [*samples, *loads, Cost(np.linspace(200, 400, 31), 190.0)], {"ipvs": "no <module>"}, MACHINE)
