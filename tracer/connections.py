"""Connections: legs joined, sides told, translations put in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probes.decode.numbers import SCTP, TCP, TIMESTAMPS
from probes.schema import Array, Table
from tracer import evidence
from tracer.chains import Chain, Ends, Translation, chain, translations_seen
from tracer.ledger_lookup import LedgerLookup
from tracer.schema import TRANSLATIONS

SAMPLED_SIGHTINGS = 512  # of one connection on one node, looked at for the order of tuples
ANSWER_SAMPLE = 4096


@dataclass(slots=True)
class Joined:
    """Sightings sorted by connection and node, with what the joins told of each.

    `connection` and `forward` (client to server) have an entry per sighting; `bounds[c]:bounds[c + 1]` are connection c's sightings.
    """

    sightings: Table
    connection: Array
    forward: Array
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
    ahead = np.flatnonzero(joined.forward)
    pair = joined.connection[ahead] << 32 | sightings["node"][ahead].astype("i8")
    pairs, group = np.unique(pair, return_inverse=True)
    ttl = observations["ttl"][sightings["row"][ahead]].astype("i8")
    highest, lowest = np.zeros(len(pairs), "i8"), np.full(len(pairs), 255, "i8")
    first = np.full(len(pairs), np.iinfo("i8").max)
    np.maximum.at(highest, group, ttl)
    np.minimum.at(lowest, group, ttl)
    np.minimum.at(first, group, sightings["time_ns"][ahead])
    order = np.lexsort((pairs & 0xFFFF_FFFF, first, -lowest, -highest, pairs >> 32))
    ranks: dict[int, list[int]] = {}
    for value in pairs[order].tolist():
        ranks.setdefault(value >> 32, []).append(value & 0xFFFF_FFFF)
    return ranks


def _orders(tuples: list[int], nodes: list[int], identities: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Per node that saw several tuples, the order in which it saw one packet in most of them. Sightings come in order of time per node."""
    start = 0
    for end in range(1, len(nodes) + 1):
        if end < len(nodes) and nodes[end] == nodes[start]:
            continue
        if len(set(tuples[start:end])) > 1:
            by_packet: dict[int, dict[int, None]] = {}
            for index in range(start, min(end, start + SAMPLED_SIGHTINGS)):
                if identities[index]:
                    by_packet.setdefault(identities[index], {})[tuples[index]] = None
            best = max(by_packet.values(), key=len, default={})
            if len(best) > 1:
                yield nodes[start], list(best)
        start = end


@dataclass(slots=True)
class Path:
    """What is known of one connection's way: its chain, its nodes in order, the first tuple seen, and the node whose socket the client is."""

    chain: Chain
    nodes: list[int]
    first_seen: int
    origin_node: int


def paths(joined: Joined, tuples: Table, ranks: dict[int, list[int]], bits: Array, ledger: LedgerLookup) -> Iterator[Path]:
    """The `Path` of each connection, in order."""
    sightings = joined.sightings
    columns = {name: sightings[name] for name in ("tuple", "node", "identity", "time_ns")}
    reverse = _reverse_codes(tuples)
    ends: dict[int, Ends] = {}
    for connection in range(len(joined.bounds) - 1):
        here = slice(int(joined.bounds[connection]), int(joined.bounds[connection + 1]))
        ahead = joined.forward[here]
        seen = columns["tuple"][here][ahead].tolist()
        if not seen:  # only the server's side was captured
            behind = columns["tuple"][here].tolist()
            code = int(reverse[behind[0]])
            alone = Chain(code, code) if len(set(behind)) == 1 and code >= 0 else Chain(-1, -1, problems=["only answers were captured"])
            yield Path(alone, list(dict.fromkeys(columns["node"][here].tolist())), code, -1)
            continue
        nodes = columns["node"][here][ahead].tolist()
        ranked = ranks[connection]
        for code in seen:
            if code not in ends:
                ends[code] = ends_of(tuples, code)
        known: list[Translation] = []
        if len(set(seen)) > 1:
            answers = {int(reverse[code]) for code in columns["tuple"][here][~ahead][:ANSWER_SAMPLE].tolist()}
            orders = list(_orders(seen, nodes, columns["identity"][here][ahead].tolist()))
            known = translations_seen(orders, frozenset(answers), ends, int(bits[connection]))
        start_ns, end_ns = int(columns["time_ns"][here].min()), int(columns["time_ns"][here].max())
        known, origin, confirmed = ledger.translations(known, list(zip(nodes, seen, strict=True)), start_ns, end_ns)
        rank = {node: position for position, node in enumerate(ranked)}
        in_order = [code for _, code in sorted(zip(nodes, seen, strict=True), key=lambda pair: rank[pair[0]])]
        found = chain(in_order, known, rank)
        found.evidence |= int(bits[connection]) | (evidence.CONNTRACK if confirmed else 0)
        yield Path(found, _by_chain(found, ranked, nodes, seen), in_order[0], origin)


def _by_chain(found: Chain, ranked: list[int], nodes: list[int], seen: list[int]) -> list[int]:
    """The nodes in path order: first by how far along the chain their tuples are, then as `ranked`."""
    if not found.translations or len(ranked) == 1:
        return ranked
    position = {found.translations[0].before: 0}
    position |= {step.after: index + 1 for index, step in enumerate(found.translations)}
    earliest: dict[int, int] = {}
    for node, code in zip(nodes, seen, strict=True):
        if code in position:
            earliest[node] = min(earliest.get(node, len(position)), position[code])
    return sorted(ranked, key=lambda node: (earliest.get(node, len(position)), ranked.index(node)))


def _reverse_codes(tuples: Table) -> Array:
    """For each tuple the code of its reverse, -1 where that was never seen."""
    order = np.lexsort((tuples["backward"], tuples["flow"]))
    reverse = np.full(len(order), -1, "i8")
    flow = tuples["flow"][order]
    twins = np.flatnonzero(flow[1:] == flow[:-1])
    reverse[order[twins]], reverse[order[twins + 1]] = order[twins + 1], order[twins]
    return reverse


def translation_table(found: list[Path]) -> Table:
    """The TRANSLATIONS of all connections."""
    rows = [
        (connection, position, step.node, step.before, step.after, step.evidence)
        for connection, path in enumerate(found)
        for position, step in enumerate(path.chain.translations)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(TRANSLATIONS.columns)
    return {column.name: np.array(values, column.dtype) for column, values in zip(TRANSLATIONS.columns, columns, strict=True)}
