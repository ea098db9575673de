"""Connections: legs joined, sides told, translations put in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probes.decode.numbers import SCTP, TCP, TIMESTAMPS
from probes.schema import Array, Table
from tracer import evidence
from tracer.chains import Chain, Ends, Translation, chain, half_translated_replies, translations_seen
from tracer.ledger_lookup import LedgerLookup
from tracer.passages import passages
from tracer.schema import TRANSLATIONS
from tracer.sockets import SocketLookup
from tracer.tuples import mix
from tracer.visits import Place, visits


@dataclass(slots=True)
class Joined:
    """Sightings sorted by connection and node, with what the joins told of each.

    `connection`, `forward` (client to server) and `towards` (the tuple as the client's packets have or would have it) have an entry per
    sighting; `bounds[c]:bounds[c + 1]` are connection c's sightings.
    """

    sightings: Table
    connection: Array
    forward: Array
    towards: Array
    handshake: Array
    bounds: Array


def ends_of(tuples: Table, code: int) -> Ends:
    """Source and destination of a tuple, each (hi, lo, port)."""
    src = int(tuples["src_hi"][code]), int(tuples["src_lo"][code]), int(tuples["sport"][code])
    return src, (int(tuples["dst_hi"][code]), int(tuples["dst_lo"][code]), int(tuples["dport"][code]))


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
    points = np.unique(np.stack([connection, sightings["point"].astype("i8")]), axis=1)[0]
    several = np.bincount(points, minlength=count) > 1
    return np.where(several, bits | evidence.TUPLE * (bits == 0), 0)


def node_ranks(joined: Joined, observations: Table) -> dict[int, list[int]]:
    """Per connection seen on several nodes, its nodes in path order: each routing node takes one off the TTL; time only breaks ties."""
    sightings = joined.sightings
    pair = joined.connection << 32 | sightings["node"].astype("i8")
    pairs, group = np.unique(pair, return_inverse=True)
    ttl, ahead = observations["ttl"][sightings["row"]].astype("i8"), joined.forward
    highest, lowest, replies = np.zeros(len(pairs), "i8"), np.full(len(pairs), 255, "i8"), np.full(len(pairs), 255, "i8")
    first = np.full(len(pairs), np.iinfo("i8").max)
    np.maximum.at(highest, group[ahead], ttl[ahead])
    np.minimum.at(lowest, group[ahead], ttl[ahead])
    np.minimum.at(replies, group[~ahead], ttl[~ahead])  # the other way round: replies have the lowest TTL near the client
    np.minimum.at(first, group, sightings["time_ns"])
    order = np.lexsort((pairs & 0xFFFF_FFFF, first, replies, -lowest, -highest, pairs >> 32))
    ranks: dict[int, list[int]] = {}
    for value in pairs[order].tolist():
        ranks.setdefault(value >> 32, []).append(value & 0xFFFF_FFFF)
    return ranks


@dataclass(slots=True)
class Path:
    """What is known of one connection's way.

    Its chain, the node that saw it first, the first tuple seen, the node whose own socket the client is (-1 where that is not so), the
    number of the visit that each (node, tuple) belongs to, and the sockets of client and server (-1 unknown).
    """

    chain: Chain
    first_node: int
    first_seen: int
    origin_node: int
    visits: dict[Place, int]
    client_socket: int = -1
    server_socket: int = -1


def paths(
    joined: Joined, tuples: Table, ranks: dict[int, list[int]], bits: Array, ledger: LedgerLookup, sockets: SocketLookup | None = None
) -> Iterator[Path]:
    """The `Path` of each connection, in order."""
    sightings = joined.sightings
    ends: dict[int, Ends] = {}
    for connection in range(len(joined.bounds) - 1):
        here = slice(int(joined.bounds[connection]), int(joined.bounds[connection + 1]))
        codes, nodes = joined.towards[here].tolist(), sightings["node"][here].tolist()
        times, ahead = sightings["time_ns"][here].tolist(), joined.forward[here].tolist()
        known: list[Translation] = []
        distinct, everywhere = set(codes), dict.fromkeys(zip(nodes, codes, strict=True))
        if len(distinct) > 1:
            ends |= {code: ends_of(tuples, code) for code in distinct if code not in ends}
            identities = sightings["identity"][here].tolist()
            if copies := half_translated_replies(codes, ahead, ends):
                distinct -= copies
                rows = [row for row in zip(codes, nodes, times, ahead, identities, strict=True) if row[0] in distinct]
                codes, nodes, times, ahead, identities = (list(column) for column in zip(*rows, strict=True))
            known = translations_seen(passages(nodes, codes, identities, times, ahead), ends, int(bits[connection]))
        places = list(dict.fromkeys(zip(nodes, codes, strict=True)))
        known, origin, confirmed = ledger.translations(known, places, min(times), max(times))
        client, server = -1, -1
        if sockets is not None:
            spans = _spans(nodes, codes, times)
            client, server = sockets.client(spans), sockets.server(spans)
            known = sockets.translations(known, client, spans) if client >= 0 else known
        ranked = ranks[connection]
        rank = {node: position for position, node in enumerate(ranked)}
        in_order = [code for _, code in sorted(places, key=lambda place: rank[place[0]])]
        found = chain(in_order, known, rank)
        found.evidence |= int(bits[connection]) | (evidence.CONNTRACK if confirmed else 0)
        first = found.translations[0].before if found.translations and found.translations[0].before in distinct else in_order[0]
        numbers = visits(found, list(everywhere), ranked)
        first_node = min(everywhere, key=lambda place: (numbers[place], rank[place[0]]))[0]
        yield Path(found, first_node, first, origin, numbers, client, server)


def _spans(nodes: list[int], codes: list[int], times: list[int]) -> dict[Place, tuple[int, int]]:
    """When each tuple was first and last seen on each node."""
    spans: dict[Place, tuple[int, int]] = {}
    for node, code, time in zip(nodes, codes, times, strict=True):
        first, last = spans.get((node, code), (time, time))
        spans[node, code] = min(first, time), max(last, time)
    return spans


def positions(joined: Joined, found: list[Path]) -> Array:
    """Where on its connection's path each sighting stands (int64, from 0): the number of the node's visit, for replies as for requests."""
    keys = np.array([(c, node, code, number) for c, path in enumerate(found) for (node, code), number in path.visits.items()], "i8")
    place = mix(keys[:, 0], keys[:, 1], keys[:, 2])
    order = np.argsort(place)
    wanted = mix(joined.connection, joined.sightings["node"], joined.towards)
    return np.asarray(keys[:, 3][order][np.searchsorted(place[order], wanted)])


def translation_table(found: list[Path]) -> Table:
    """The TRANSLATIONS of all connections."""
    rows = [
        (connection, position, step.node, step.before, step.after, step.evidence)
        for connection, path in enumerate(found)
        for position, step in enumerate(path.chain.translations)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(TRANSLATIONS.columns)
    return {column.name: np.array(values, column.dtype) for column, values in zip(TRANSLATIONS.columns, columns, strict=True)}
