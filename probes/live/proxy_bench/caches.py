"""What a node's other work does between two new connections: nothing of the last one is left in the processor's own caches.

Where nothing else is done between them, a walk through rules takes what the walk before it left there, and its time depends on how much of
that fits: times bend where rules are as large as the cache, and differ with whatever a sibling thread leaves of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

COLD, WARM = "cold", "warm"
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_OWN_LEVELS, _LINE_BYTES = ("1", "2"), 64  # the third is shared by processors
_UNKNOWN_BYTES = 2 << 20  # some machines tell of no caches, or not how large they are
_TIMES = 2  # what is read once may pass a cache by: its hardware keeps what was read again


def between(caches: str) -> Callable[[], float]:
    """What is to be done before each connection, for COLD or WARM caches, and how many ns it took: some 0.1 ms, NaN where it is nothing.

    What is read comes from the cache that processors share, or from memory: it takes as long as others leave of them.
    """
    if caches == WARM:
        return lambda: np.nan
    lines = np.ones(_TIMES * own_bytes(), "u1")[::_LINE_BYTES]  # ones: zeros would all be one page of the kernel's

    def empty() -> float:
        begun_ns = time.perf_counter_ns()
        lines.max()
        return time.perf_counter_ns() - begun_ns

    return empty


def own_bytes() -> int:
    """The largest cache that a processor has to itself, as Linux tells."""
    own = [size for size in _CACHES.glob("index*/size") if size.with_name("level").read_text().strip() in _OWN_LEVELS]
    return max((int(size.read_text().strip().removesuffix("K")) << 10 for size in own), default=_UNKNOWN_BYTES)
