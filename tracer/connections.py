"""Connections: legs joined, sides told, translations put in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probes.decode.numbers import SCTP, TCP, TIMESTAMPS
from probes.schema import Array, Table
from tracer import evidence
from tracer.chains import Chain, Ends, Passage, Translation, chain, translations_seen
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


def _passages(tuples: list[int], identities: list[int], times: list[int]) -> list[Passage]:
    """The passages of the packet that was seen under most tuples, in order of time; empty where none was seen under several."""
    by_packet: dict[int, dict[int, Passage]] = {}
    for code, identity, time_ns in zip(tuples[:SAMPLED_SIGHTINGS], identities, times, strict=False):
        if identity:
            seen = by_packet.setdefault(identity, {})
            seen[code] = Passage(code, seen[code].first_ns if code in seen else time_ns, time_ns)
    best = max(by_packet.values(), key=len, default={})
    return sorted(best.values(), key=lambda passage: (passage.first_ns, passage.last_ns)) if len(best) > 1 else []


def _orders(
    nodes: list[int], tuples: list[int], identities: list[int], times: list[int], ahead: list[bool], reverse: Array
) -> Iterator[tuple[int, list[Passage]]]:
    """Per node that saw the client's packets under several tuples, one packet's passages. Sightings come in order of node and time.

    The kernel stamps a packet once on its way in, so a bridge's port and the bridge show equal times: then the answer's way back decides.
    """
    start = 0
    for end in range(1, len(nodes) + 1):
        if end < len(nodes) and nodes[end] == nodes[start]:
            continue
        there = range(start, end)
        out, back = [i for i in there if ahead[i]], [i for i in there if not ahead[i]]
        if len({tuples[i] for i in out}) > 1:
            request = _passages([tuples[i] for i in out], [identities[i] for i in out], [times[i] for i in out])
            answer = _passages([tuples[i] for i in back], [identities[i] for i in back], [times[i] for i in back])
            nearness = {int(reverse[passage.code]): -passage.first_ns for passage in answer}
            request.sort(key=lambda passage: (passage.first_ns, passage.last_ns, nearness.get(passage.code, 0)))
            if request:
                yield nodes[start], request
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
            every = (columns[name][here].tolist() for name in ("node", "tuple", "identity", "time_ns"))
            orders = list(_orders(*every, ahead.tolist(), reverse))
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
