"""The places of each connection: which of its tuples were seen on which node, and which of those are half-translated copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.jit import bare, kernel
from probes.schema import Array, Table
from tracer.tuples import mix


@dataclass(frozen=True, slots=True)
class Places:
    """One row per (connection, node, tuple as the client's packets have it), by connection and in the order of its first sighting.

    `bounds[c]:bounds[c + 1]` are connection c's (those of one node are next to each other), `of` has the place of each sighting. `asked_at`
    and `answered_at` are its first sightings of each direction, -1 where there was none. `copy` marks what only replies had and what leads
    where the client's packets were seen to go: SNAT undone, DNAT not yet.
    """

    bounds: Array
    of: Array
    node: Array
    code: Array
    first_ns: Array
    last_ns: Array
    asked_at: Array
    answered_at: Array
    copy: Array

    @property
    def connection(self) -> Array:
        """That of each place."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))


@kernel
def first_equal(bounds: Array, values: Array, found: Array) -> None:
    """For each value the place, from the beginning of its group, of the first that is equal: group g is `bounds[g]:bounds[g + 1]`."""
    for group in range(len(bounds) - 1):
        for row in range(bounds[group], bounds[group + 1]):
            place = bounds[group]
            while values[place] != values[row]:
                place += 1
            found[row] = place - bounds[group]


@bare
def _find_places(  # noqa: PLR0913, PLR0917 - columns
    bounds: Array, node: Array, code: Array, forward: Array, time_ns: Array, of: Array, here: Array, first_place: Array,
    asked_at: Array, answered_at: Array, first_ns: Array, last_ns: Array,
) -> int:  # fmt: skip
    """Number the places of sightings by connection and node, and describe them as `Places` does; `first_place[c]` is connection c's.

    `here` has room for the tuples of one node.
    """
    count = 0
    for connection in range(len(bounds) - 1):
        first_place[connection] = count
        begin = count  # of this node's
        for row in range(bounds[connection], bounds[connection + 1]):
            if row > bounds[connection] and node[row] != node[row - 1]:
                begin = count
            place = begin
            while place < count and here[place - begin] != code[row]:
                place += 1
            if place == count:
                here[count - begin] = code[row]
                asked_at[count] = answered_at[count] = -1
                first_ns[count] = last_ns[count] = time_ns[row]
                count += 1
            of[row] = place
            if forward[row]:
                asked_at[place] = row if asked_at[place] < 0 else asked_at[place]
            else:
                answered_at[place] = row if answered_at[place] < 0 else answered_at[place]
            first_ns[place] = min(first_ns[place], time_ns[row])
            last_ns[place] = max(last_ns[place], time_ns[row])
    first_place[len(bounds) - 1] = count
    return count


@kernel
def _mark_copies(bounds: Array, code: Array, asked: Array, destination: Array, copy: Array) -> None:
    for connection in range(len(bounds) - 1):
        first, end = bounds[connection], bounds[connection + 1]
        for place in range(first, end):
            known, leads = False, False
            for other in range(first, end):
                if asked[other]:
                    known |= code[other] == code[place]
                    leads |= destination[other] == destination[place]
            copy[place] = leads and not known


def places(bounds: Array, sightings: Table, towards: Array, forward: Array, tuples: Table) -> Places:
    """The `Places` of sightings sorted by connection, node and time; the other columns are those of `tracer.connections.Joined`."""
    of, first_place = np.empty(len(towards), "i8"), np.empty(len(bounds), "i8")
    described = [np.empty(len(towards), "i8") for _ in range(4)]  # of which only as much is used, and takes memory, as there are places
    here = np.empty(int(np.diff(bounds).max(initial=0)), "i8")
    count = _find_places(bounds, sightings["node"], towards, forward, sightings["time_ns"], of, here, first_place, *described)
    asked_at, answered_at, first_ns, last_ns = (column[:count] for column in described)
    first_row = np.where(asked_at < 0, answered_at, np.where(answered_at < 0, asked_at, np.minimum(asked_at, answered_at)))
    node, code = (column[first_row].astype("i8") for column in (sightings["node"], towards))
    copy = np.zeros(count, bool)
    destination = mix(*(tuples[name][code] for name in ("dst_hi", "dst_lo", "dport")))
    _mark_copies(first_place, code, asked_at >= 0, destination, copy)
    return Places(first_place, of, node, code, first_ns, last_ns, asked_at, answered_at, copy)
