"""ICMP errors and the connections they are about, by the header embedded in them (RFC 792, RFC 4443, 2.4)."""

from __future__ import annotations

import numpy as np

from probes.schema import Array, Table
from tracer.connections import Joined


def attach(joined: Joined, observations: Table, rows: Array, codes: Array, node_of_point: Array) -> Array:
    """For each of `rows` (embedded headers, their tuples in `codes`) the connection it is about (int64), -1 where none was seen.

    The embedded tuple must have been seen on the same node not after the error; of several connections the latest before it is meant.
    """
    sightings = joined.sightings
    if not len(rows):
        return np.empty(0, "i8")
    wanted = np.isin(sightings["tuple"], codes)
    part = {name: sightings[name][wanted] for name in ("tuple", "node", "time_ns")}
    connection = joined.connection[wanted]
    order = np.lexsort((part["time_ns"], part["node"], part["tuple"]))
    key = part["tuple"][order].astype("i8") << 16 | part["node"][order]
    node = node_of_point[observations["point"][rows]].astype("i8")
    want = codes.astype("i8") << 16 | node
    time_ns = observations["time_ns"][rows]
    # position behind the last sighting of that tuple on that node at or before the error
    ranks = np.searchsorted(key, want, side="left")
    ends = np.searchsorted(key, want, side="right")
    found = np.full(len(rows), -1, "i8")
    times, owners = part["time_ns"][order], connection[order]
    for index, (start, end) in enumerate(zip(ranks.tolist(), ends.tolist(), strict=True)):
        behind = start + int(np.searchsorted(times[start:end], time_ns[index], side="right"))
        if behind > start:
            found[index] = owners[behind - 1]
    return found
