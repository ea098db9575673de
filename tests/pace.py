"""How much longer one thing takes than another, in a processor's time: machines differ, ratios hold on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 5


def ratio(work: Callable[[], object], other: Callable[[], object]) -> float:
    """How many times as long `work` takes as `other`: the shortest of some rounds, in turn, of each."""
    times: dict[Callable[[], object], list[float]] = {work: [], other: []}
    for _ in range(ROUNDS):
        for run, spent in times.items():
            began = time.process_time()
            run()
            spent.append(time.process_time() - began)
    return min(times[work]) / min(times[other])
