"""Source ports: each address goes through its own in a fixed, scattered order, so that none returns while it could still be in use."""

from __future__ import annotations

import numpy as np

from probes.schema import Array

FIRST_EPHEMERAL, EPHEMERAL = 32768, 28232  # net.ipv4.ip_local_port_range
FIRST_MASQUERADED, MASQUERADED = 1024, 64512  # what --random-fully draws from
STRIDE = 7919  # prime, so that it meets every port


class Ports:
    """How many ports each address has used so far."""

    def __init__(self) -> None:
        self._used: dict[tuple[int, int], int] = {}

    def ephemeral(self, address: Array) -> Array:
        """A source port for each new socket of these addresses."""
        return self._next(address, FIRST_EPHEMERAL, EPHEMERAL)

    def masqueraded(self, address: Array) -> Array:
        """A source port for each connection that is masqueraded to these addresses."""
        return self._next(address, FIRST_MASQUERADED, MASQUERADED)

    def _next(self, address: Array, first: int, count: int) -> Array:
        distinct, inverse, times = np.unique(address, return_inverse=True, return_counts=True)
        begun = np.array([self._used.get((one, first), 0) for one in distinct.tolist()], "i8")
        order = np.argsort(inverse, kind="stable")
        rank = np.empty(len(address), "i8")
        rank[order] = np.arange(len(address)) - np.repeat(np.cumsum(times) - times, times)
        for one, used, more in zip(distinct.tolist(), begun.tolist(), times.tolist(), strict=True):
            self._used[one, first] = used + more
        return np.asarray(first + ((begun[inverse] + rank) * STRIDE + distinct[inverse] * 131) % count)
