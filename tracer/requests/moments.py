"""When connections began to be of use, by their client: a TLS handshake, a login."""

from __future__ import annotations

import numpy as np

from probes.schema import Table, take
from tracer.clocks import Clocks
from tracer.requests.passed import CLIENT_END, HELLO, LOGIN, SERVER_END


def handshakes(beginnings: Table, clocks: Clocks) -> dict[int, tuple[int, int]]:
    """`(start, end)` (aligned ns) of each connection's TLS handshake, as its client saw it; those not seen whole are left out."""
    start, one, other = (_times(beginnings, what, clocks) for what in (HELLO, CLIENT_END, SERVER_END))
    return {row: (time, max(one[row], other[row])) for row, time in start.items() if row in one and row in other}


def logins(beginnings: Table, clocks: Clocks) -> dict[int, int]:
    """When (aligned ns) the client of each connection began to log in, where its protocol has such a thing."""
    return _times(beginnings, LOGIN, clocks)


def _times(beginnings: Table, what: int, clocks: Clocks) -> dict[int, int]:
    mine = take(beginnings, np.flatnonzero(beginnings["what"] == what))
    return dict(zip(mine["connection"].tolist(), clocks.align(mine["node"], mine["time_ns"]).tolist(), strict=True))
