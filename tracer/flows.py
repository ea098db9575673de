"""Whose packet a node's kernel speaks of: the connection of a tuple at a moment, on that node's own clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from probes.decode.numbers import ACK, SYN, TCP
from probes.schema import Array, Table
from tracer.pipeline import Reconstruction
from tracer.tuples import FIELDS, mix, reverse_codes

# What a kernel tells of a packet is about as old as its sighting; a node that saw nothing of it has a clock of its own.
APART_NS = 1_000_000_000


class Flows:
    """The connections of one reconstruction by their tuples, in either direction, and by the sequence number of their SYN."""

    def __init__(self, tables: Reconstruction) -> None:
        self._tables = tables
        self._hashes = mix(*(tables.tuples[name] for name in FIELDS))
        node_of_point = np.array([tables.nodes.index(point.node) for point in tables.points] or [0], "i8")
        connections = tables.sighting_connections.astype("i8")
        nodes = node_of_point[tables.sighting_points]
        times = tables.observations["time_ns"][tables.sighting_rows]
        self._spans = _spans(connections, nodes, times)
        self._overall = _spans(connections, np.full(len(connections), -1), times)
        reverse = reverse_codes(tables.tuples) if len(self._hashes) else np.empty(0, "i8")
        towards = np.where(tables.sighting_forward, tables.sighting_tuples, reverse[tables.sighting_tuples])
        pairs = [np.stack([connections, towards.astype("i8")])]
        told = tables.translations
        pairs += [np.stack([told["connection"].astype("i8"), told[side].astype("i8")]) for side in ("before", "after")]
        ends = np.arange(len(tables.connections["original"]))
        pairs += [np.stack([ends, tables.connections[side].astype("i8")]) for side in ("original", "translated")]
        self._by_tuple: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        for connection, code in np.unique(np.concatenate(pairs, axis=1), axis=1).T.tolist():
            if code >= 0:
                self._by_tuple[code].append((connection, True))
                self._by_tuple[int(reverse[code])].append((connection, False))
        self._by_syn = self._syns()

    def _syns(self) -> dict[tuple[int, int], set[tuple[int, bool]]]:
        """Connections by (sequence number, the ACK bit) of their SYNs, and whether the client sent it."""
        tables = self._tables
        rows = tables.sighting_rows
        found: dict[tuple[int, int], set[tuple[int, bool]]] = defaultdict(set)
        flags = tables.observations["tcp_flags"][rows]
        at = np.flatnonzero((tables.observations["proto"][rows] == TCP) & (flags & SYN > 0))
        columns = (tables.observations["seq"][rows[at]], flags[at], tables.sighting_connections[at], tables.sighting_forward[at])
        for seq, flag, connection, forward in zip(*(column.tolist() for column in columns), strict=True):
            found[seq, flag & ACK].add((connection, forward))
        return found

    def codes(self, table: Table) -> Array:
        """The code (i8) of each row's tuple; -1 where no connection has it. `table` has the columns of `tracer.tuples.FIELDS`."""
        hashes = mix(*(table[name] for name in FIELDS))
        if not len(self._hashes):
            return np.full(len(hashes), -1)
        place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[place] == hashes, place, -1)

    def of_tuple(self, node: int, code: int, time_ns: int) -> tuple[int, bool] | None:
        """The connection that has this tuple then, and whether it is its client's direction; None where there is none, or several."""
        return self._nearest(node, self._by_tuple.get(code, ()), time_ns)

    def of_syn(self, node: int, seq: int, flags: int, time_ns: int) -> tuple[int, bool] | None:
        """The same by the sequence number of a SYN, which NAT keeps."""
        return self._nearest(node, self._by_syn.get((seq, flags & ACK), ()), time_ns) if flags & SYN else None

    def _nearest(self, node: int, among: Iterable[tuple[int, bool]], time_ns: int) -> tuple[int, bool] | None:
        """The one of `among` that was there at that time, or nearest to it; None where none was near, or two were as near."""
        found = sorted((self._apart_ns(node, connection, time_ns), connection, forward) for connection, forward in among)
        if not found or found[0][0] > APART_NS or (len(found) > 1 and found[0][0] == found[1][0]):
            return None
        return found[0][1:]

    def _apart_ns(self, node: int, connection: int, time_ns: int) -> int:
        first, last = self._spans.get((connection, node)) or self._overall[connection, -1]
        return max(first - time_ns, time_ns - last, 0)


def _spans(connections: Array, nodes: Array, times: Array) -> dict[tuple[int, int], tuple[int, int]]:
    """The first and last time (ns) of each (connection, node)."""
    order = np.lexsort((times, nodes, connections))
    connections, nodes, times = connections[order], nodes[order], times[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(connections) != 0) | (np.diff(nodes) != 0)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(order)) - 1
    keys = zip(connections[first].tolist(), nodes[first].tolist(), strict=True)
    return dict(zip(keys, zip(times[first].tolist(), times[last].tolist(), strict=True), strict=True))
