"""Drops that kernels told of (`probes.drops`), tied to the connections whose packets died."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from probes.decode.numbers import ACK, SYN
from probes.drops import EVENTS, Drops, Place
from tracer.flows import Flows

# Reasons (include/net/dropreason-core.h) by which a connection loses nothing on its way: a copy made for somebody else died, or what came
# again, or an ACK that a later one overtook (PAWS_ACK), or what had arrived (a FIN, mostly) in a socket that was closed.
NO_LOSS = frozenset({
    "PACKET_SOCK_ERROR", "OTHERHOST", "UNICAST_IN_L2_MULTICAST", "DUP_FRAG", "TCP_OFOMERGE", "TCP_OLD_DATA", "TCP_OLD_SEQUENCE",
    "TCP_OLD_ACK", "TCP_RFC7323_PAWS_ACK", "TCP_RESET", "QUEUE_PURGE",
})  # fmt: skip


def drop_problems(flows: Flows, nodes: tuple[str, ...], drops: Mapping[str, Drops]) -> dict[int, list[str]]:
    """What each connection's record says of its packets that died: `node-b dropped its SYN: NETFILTER_DROP in nf_hook_slow`."""
    found: dict[int, Counter[tuple[str, str, Place]]] = {}
    for name in sorted(drops):
        node, table = nodes.index(name) if name in nodes else -1, drops[name].table
        codes = flows.codes(table)
        for row in np.flatnonzero((table["event"] == EVENTS["drop"]) & (table["proto"] > 0)).tolist():
            place, time_ns, flags = drops[name].places[table["place"][row]], int(table["time_ns"][row]), int(table["tcp_flags"][row])
            if place.reason in NO_LOSS:
                continue
            whose = flows.of_tuple(node, int(codes[row]), time_ns) or flows.of_syn(node, int(table["seq"][row]), flags, time_ns)
            if whose is not None:
                connection, forward = whose
                found.setdefault(connection, Counter())[name, _packet(flags, forward=forward), place] += 1
    return {connection: [_told(*each, count) for each, count in sorted(told.items(), key=str)] for connection, told in found.items()}


def _packet(flags: int, *, forward: bool) -> str:
    if flags & SYN:
        return "SYN-ACK" if flags & ACK else "SYN"
    return "packet" if forward else "answer's packet"


def _told(node: str, packet: str, place: Place, count: int) -> str:
    times = "" if count == 1 else f" {count} times" if packet.startswith("SYN") else f" ({count} of them)"
    return f"{node} dropped its {packet}{times}: {place}"
