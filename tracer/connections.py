"""Connections: legs joined, sides told, translations put in order."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from probes.decode.numbers import SCTP, TCP, TIMESTAMPS
from probes.schema import Array, Table
from tracer import evidence
from tracer.arrangement import arrangement
from tracer.chains import Ends, Translation, translations_seen
from tracer.ledger_lookup import LedgerLookup
from tracer.passages import passages
from tracer.places import Places, places
from tracer.schema import TRANSLATIONS
from tracer.sockets import SocketLookup
from tracer.tuples import mix
from tracer.visits import Place

JOINED = ("row", "time_ns", "tuple", "node", "point", "identity", "strong")
CHUNK = 1 << 14  # connections whose columns are lists at the same time


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
    sightings, connection = joined.sightings, joined.connection
    count = len(joined.bounds) - 1
    rows = sightings["row"]
    proto = observations["proto"][rows]
    bits = np.zeros(count, "i8")
    tcp, sctp = proto == TCP, proto == SCTP
    stamped = (observations["known"][rows] & TIMESTAMPS > 0) & tcp
    rules = (
        (evidence.ISN, tcp & joined.handshake[connection]),
        (evidence.SEQ, tcp & ~joined.handshake[connection] & (sightings["strong"] > 0)),
        (evidence.TSVAL, stamped),
        (evidence.VERIFICATION_TAG, sctp & (sightings["identity"] > 0)),
        (evidence.PAYLOAD, ~tcp & ~sctp & (observations["payload_hash"][rows] != 0)),
        (evidence.IP_ID, ~tcp & ~sctp & (observations["ip_id"][rows] != 0)),
    )
    for bit, told in rules:
        has = np.zeros(count, bool)
        has[connection[told]] = True
        bits |= np.where(has, bit, 0)
    lowest, highest = (each.reduceat(sightings["point"], joined.bounds[:-1]) for each in (np.minimum, np.maximum))
    return np.where(lowest != highest, bits | evidence.TUPLE * (bits == 0), 0)


def node_ranks(joined: Joined, observations: Table) -> dict[int, list[int]]:
    """Per connection seen on several nodes, its nodes in path order: each routing node takes one off the TTL; time only breaks ties."""
    sightings = joined.sightings
    pair = joined.connection << 32 | sightings["node"].astype("i8")
    begin = np.flatnonzero(np.diff(pair, prepend=-1))
    pairs, ttl, ahead = pair[begin], observations["ttl"][sightings["row"]], joined.forward
    highest = np.maximum.reduceat(np.where(ahead, ttl, 0), begin).astype("i8")
    lowest = np.minimum.reduceat(np.where(ahead, ttl, 255), begin).astype("i8")
    replies = np.minimum.reduceat(np.where(ahead, 255, ttl), begin)  # the other way round: replies have the lowest TTL near the client
    first = np.minimum.reduceat(sightings["time_ns"], begin)
    order = np.lexsort((pairs & 0xFFFF_FFFF, first, replies, -lowest, -highest, pairs >> 32))
    ranks: dict[int, list[int]] = {}
    for value in pairs[order].tolist():
        ranks.setdefault(value >> 32, []).append(value & 0xFFFF_FFFF)
    return ranks


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


def paths(
    joined: Joined, tuples: Table, ranks: dict[int, list[int]], bits: Array, ledger: LedgerLookup, sockets: SocketLookup | None = None
) -> Paths:
    """The `Paths` of all connections."""
    sightings, count = joined.sightings, len(joined.bounds) - 1
    seen = places(joined.bounds, sightings, joined.towards, joined.forward, tuples)
    passed = passages(seen, joined.bounds, joined.forward, sightings["identity"], sightings["time_ns"])
    sources, destinations = (_end_codes(tuples, side) for side in ("src", "dst"))
    numbers, facts, rows = array("q"), array("q"), array("q")
    problems: dict[int, list[str]] = {}
    for connection, told, everywhere, where, start_ns, end_ns in _by_connection(seen, bits):
        known: list[Translation] = []
        if connection in passed:
            ends: dict[int, Ends] = {code: (sources[code], destinations[code]) for passage in passed[connection] for code in passage.order}
            known = translations_seen(passed[connection], ends, told)
        known, origin, confirmed = ledger.translations(known, list(where), start_ns, end_ns)
        client, server = -1, -1
        if sockets is not None:
            client, server = sockets.client(where), sockets.server(where)
            known = sockets.translations(known, client, where) if client >= 0 else known
        ranked = ranks[connection]
        rank = {node: position for position, node in enumerate(ranked)}
        codes = list(dict.fromkeys([*(code for _, code in everywhere), *(code for step in known for code in (step.before, step.after))]))
        number = {code: position for position, code in enumerate(codes)}
        found = arrangement(
            tuple([(rank[node], number[code], (node, code) in where) for node, code in everywhere]),
            tuple([(rank[step.node], number[step.before], number[step.after]) for step in known]),
        )
        numbers.extend(found.visited)
        whole = told | (evidence.CONNTRACK if confirmed else 0)
        for step in known:
            whole |= step.evidence
        codes.append(-1)  # for what cannot be told
        chained = codes[found.original], codes[found.translated]
        facts.extend((*chained, whole, ranked[found.first_node], codes[found.first_seen], origin, client, server))
        for position, place in enumerate(found.steps):
            step = known[place]
            rows.extend((connection, position, step.node, step.before, step.after, step.evidence))
        if found.problems:
            problems[connection] = list(found.problems)
    original, translated, evidences, first_nodes, first_seen, origins, clients, servers = np.frombuffer(facts, "i8").reshape(count, 8).T
    steps = np.frombuffer(rows, "i8").reshape(-1, len(TRANSLATIONS.columns)).T
    translations = {column.name: values.astype(column.dtype) for column, values in zip(TRANSLATIONS.columns, steps, strict=True)}
    return Paths(
        original, translated, evidences, first_nodes, first_seen, origins, clients, servers, translations, problems,
        np.frombuffer(numbers, "i8")[seen.of],
    )  # fmt: skip


def _end_codes(tuples: Table, side: str) -> array[int]:
    """For each tuple a number that is the same where its source ("src") or destination ("dst") is."""
    return array("Q", mix(tuples[f"{side}_hi"], tuples[f"{side}_lo"], tuples[f"{side[0]}port"]).tobytes())


Spans = dict[Place, tuple[int, int]]


def _by_connection(seen: Places, bits: Array) -> Iterator[tuple[int, int, list[Place], Spans, int, int]]:
    """Each connection, its evidence, its places, when each but the half-translated copies was first and last seen, and all of these."""
    bounds = seen.bounds.tolist()
    start_ns = np.minimum.reduceat(np.where(seen.copy, np.iinfo("i8").max, seen.first_ns), seen.bounds[:-1]) if len(bits) else bits
    end_ns = np.maximum.reduceat(np.where(seen.copy, np.iinfo("i8").min, seen.last_ns), seen.bounds[:-1]) if len(bits) else bits
    for start in range(0, len(bits), CHUNK):
        end = min(start + CHUNK, len(bits))
        part = slice(bounds[start], bounds[end])
        columns = (getattr(seen, name)[part].tolist() for name in ("node", "code", "first_ns", "last_ns", "copy"))
        rows = zip(*columns, strict=True)
        each = zip(*(column[start:end].tolist() for column in (bits, start_ns, end_ns)), strict=True)
        for connection, (told, first_ns, last_ns) in enumerate(each, start):
            here = list(islice(rows, bounds[connection + 1] - bounds[connection]))
            spans = {(node, code): (first, last) for node, code, first, last, copy in here if not copy}
            yield connection, told, [(node, code) for node, code, *_ in here], spans, first_ns, last_ns
