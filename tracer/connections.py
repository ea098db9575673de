"""Connections: legs joined, sides told, translations put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, pairwise

import numpy as np

from probes.decode.numbers import SCTP, TCP, TIMESTAMPS
from probes.jit import kernel, wide
from probes.schema import Array, Table
from tracer import evidence
from tracer.chains import Translation
from tracer.ledger_lookup import held
from tracer.passages import passages
from tracer.places import Places, places
from tracer.schema import TRANSLATIONS
from tracer.sockets import SocketLookup
from tracer.ways import Evidence, slots, ways

JOINED = ("row", "time_ns", "tuple", "node", "point", "identity", "strong")


@dataclass(slots=True)
class Joined:
    """Sightings (of SIGHTINGS, what JOINED names) sorted by connection and node, with what the joins told of each.

    `connection`, `forward` (client to server) and `towards` (the tuple as the client's packets have or would have it) have an entry per
    sighting; `bounds[c]:bounds[c + 1]` are connection c's sightings.
    """

    sightings: Table
    connection: Array
    forward: Array
    towards: Array
    handshake: Array
    bounds: Array


def identity_evidence(joined: Joined, observations: Table) -> Array:
    """Evidence bits (int64 per connection) for what joined its sightings: how the packets themselves say they are one connection."""
    sightings, bits = joined.sightings, np.empty(len(joined.bounds) - 1, "i8")
    _find_evidence(
        joined.bounds, joined.handshake, sightings["row"], sightings["point"], sightings["identity"], sightings["strong"],
        observations["proto"], observations["known"], observations["payload_hash"], observations["ip_id"], bits,
    )  # fmt: skip
    return bits


@kernel
def _find_evidence(  # noqa: PLR0913, PLR0917 - columns
    bounds: Array, handshake: Array, rows: Array, point: Array, identity: Array, strong: Array, proto: Array, known: Array,
    payload_hash: Array, ip_id: Array, bits: Array,
) -> None:  # fmt: skip
    for connection in range(len(bounds) - 1):
        found, several = 0, False
        for at in range(bounds[connection], bounds[connection + 1]):
            row, kind = rows[at], proto[rows[at]]
            several |= point[at] != point[bounds[connection]]
            if kind == TCP:
                found |= evidence.ISN if handshake[connection] else evidence.SEQ if strong[at] else 0
                found |= evidence.TSVAL if known[row] & TIMESTAMPS else 0
            elif kind == SCTP:
                found |= evidence.VERIFICATION_TAG if identity[at] else 0
            else:
                found |= evidence.PAYLOAD if payload_hash[row] else 0
                found |= evidence.IP_ID if ip_id[row] else 0
        bits[connection] = (found or evidence.TUPLE) if several else 0


def node_ranks(joined: Joined, observations: Table) -> Array:
    """Which node of its path (int64, from 0) each connection's next one is, as they stand in `joined`.

    Each routing node takes one off the TTL; time only breaks ties.
    """
    sightings, most = joined.sightings, len(joined.forward)
    described = [np.empty(most, "i8") for _ in range(6)]  # of which only as much is used, and takes memory, as there are nodes
    count = _describe_nodes(
        joined.connection, sightings["node"], joined.forward, sightings["row"], sightings["time_ns"], observations["ttl"], *described
    )
    connection, node, first_ns, highest, lowest, replies = (column[:count] for column in described)
    order = np.lexsort((node, first_ns, replies, -lowest, -highest, connection))
    ranks = np.empty(count, "i8")
    ranks[order] = np.arange(count) - np.searchsorted(connection, connection)  # those of a connection stay where they are together
    return ranks


@kernel
def _describe_nodes(  # noqa: PLR0913, PLR0917 - columns
    connection: Array, node: Array, forward: Array, rows: Array, time_ns: Array, ttl: Array, connections: Array, nodes: Array,
    first_ns: Array, highest: Array, lowest: Array, replies: Array,
) -> int:  # fmt: skip
    """Write for each node of a connection when it saw the first packet, and the TTLs of requests and replies; returns how many there are.

    Replies go the other way round: they have the lowest TTL near the client.
    """
    last = -1
    for at in range(len(connection)):
        if at == 0 or connection[at] != connection[at - 1] or node[at] != node[at - 1]:
            last += 1
            connections[last], nodes[last], first_ns[last] = connection[at], node[at], time_ns[at]
            highest[last], lowest[last], replies[last] = 0, 255, 255
        first_ns[last] = min(first_ns[last], time_ns[at])
        left = wide(ttl[rows[at]])
        if forward[at]:
            highest[last], lowest[last] = max(highest[last], left), min(lowest[last], left)
        else:
            replies[last] = min(replies[last], left)
    return last + 1


@dataclass(slots=True)
class Paths:
    """What is known of the connections' ways, an entry per connection.

    `original`, `translated` and `evidence` are their chains', `first_node` saw them first, as `first_seen`; `origin_node` is the node whose
    own socket the client is (-1 where that is not so); the sockets are those of client and server (-1 unknown). `translations` is their
    TRANSLATIONS table, `problems` goes by connection, `positions` has where on its connection's path each sighting stands (from 0: the
    number of the node's visit, for replies as for requests).
    """

    original: Array
    translated: Array
    evidence: Array
    first_node: Array
    first_seen: Array
    origin_node: Array
    client_socket: Array
    server_socket: Array
    translations: Table
    problems: dict[int, list[str]]
    positions: Array


def paths(joined: Joined, tuples: Table, ranks: Array, bits: Array, entries: Table, sockets: SocketLookup | None = None) -> Paths:
    """The `Paths` of all connections."""
    sightings, count = joined.sightings, len(joined.bounds) - 1
    seen = places(joined.bounds, sightings, joined.towards, joined.forward, tuples)
    connection = seen.connection
    passed = passages(seen, joined.forward, sightings["identity"], sightings["time_ns"])
    start_ns = np.minimum.reduceat(np.where(seen.copy, np.iinfo("i8").max, seen.first_ns), seen.bounds[:-1])
    end_ns = np.maximum.reduceat(np.where(seen.copy, np.iinfo("i8").min, seen.last_ns), seen.bounds[:-1])
    clients, servers, rewrites = np.full(count, -1), np.full(count, -1), dict[int, Translation]()
    if sockets is not None:
        rewrites = _sockets(seen, sockets, clients, servers)
    next_node = (np.diff(connection, prepend=-1) != 0) | (np.diff(seen.node, prepend=-1) != 0)
    known = Evidence(seen, ranks[np.cumsum(next_node) - 1], passed, held(entries, seen, tuples, start_ns, end_ns), bits, rewrites)
    tuples_of = slots(known)
    found, number = ways(known, tuples, tuples_of)
    first_place, first_slot = seen.bounds[:-1], tuples_of.bounds[:-1]

    def each(name: str) -> Array:
        return np.array([getattr(way, name) for way in found], "i8")[number]

    def code(name: str) -> Array:
        slot = each(name)
        return np.where(slot < 0, -1, tuples_of.code[first_slot + slot])

    origin = each("origin")
    whose, position, steps = _ragged([way.steps for way in found], number, 4)
    translations = {
        "connection": whose, "position": position, "node": seen.node[first_place[whose] + steps[0]],
        "before": tuples_of.code[first_slot[whose] + steps[1]], "after": tuples_of.code[first_slot[whose] + steps[2]], "evidence": steps[3],
    }  # fmt: skip
    *_, (visited,) = _ragged([[(visit,) for visit in way.visited] for way in found], number, 1)
    told = np.array([bool(way.problems) for way in found], bool)[number]
    return Paths(
        code("original"), code("translated"), each("evidence"), seen.node[first_place + each("first_node")], code("first_seen"),
        np.where(origin < 0, -1, seen.node[first_place + origin]), clients, servers,
        {column.name: translations[column.name].astype(column.dtype) for column in TRANSLATIONS.columns},
        {which: list(found[number[which]].problems) for which in np.flatnonzero(told).tolist()}, visited[seen.of],
    )  # fmt: skip


def _ragged(rows: Sequence[Sequence[Sequence[int]]], number: Array, columns: int) -> tuple[Array, Array, Array]:
    """`rows[number[i]]` of each i, one behind the other: `(i, which of its rows, the columns)`, all int64."""
    sizes = np.array([len(each) for each in rows], "i8")
    table = np.array([row for each in rows for row in each], "i8").reshape(-1, columns).T
    count = sizes[number]
    whose = np.repeat(np.arange(len(number)), count)
    within = np.arange(len(whose)) - np.repeat(np.cumsum(count) - count, count)
    return whose, within, table[:, (np.cumsum(sizes) - sizes)[number][whose] + within]


def _sockets(seen: Places, sockets: SocketLookup, clients: Array, servers: Array) -> dict[int, Translation]:
    """Put the sockets of both ends of each connection into `clients` and `servers`; by connection, what a client's tells of its tuple."""
    rewrites = {}
    columns = (seen.node, seen.code, seen.first_ns, seen.last_ns, ~seen.copy)
    for connection, (first, end) in enumerate(pairwise(seen.bounds.tolist())):
        node, code, first_ns, last_ns, whole = (column[first:end].tolist() for column in columns)
        where = dict(compress(zip(zip(node, code, strict=True), zip(first_ns, last_ns, strict=True), strict=True), whole))
        clients[connection], servers[connection] = client, _ = sockets.client(where), sockets.server(where)
        rewrite = sockets.rewrite(client, where) if client >= 0 else None
        if rewrite is not None:
            rewrites[connection] = rewrite
    return rewrites
