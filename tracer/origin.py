"""Is the first tuple seen of a node's own connection what its socket has, or was it masqueraded before any observation point?

A node's call to a Service is translated inside the node: its tuple before NAT is on no wire, only the ledger has it. Without a ledger the
packet itself still tells something: the socket chose its maximum segment size, source port and TTL by the route to the address it asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracer import evidence

EPHEMERAL_PORTS = range(32768, 61000)  # net.ipv4.ip_local_port_range; --random-fully draws from 1024-65535 (nf_nat_core.c)
INITIAL_TTLS = (64, 128, 255)


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """What the client's first packet tells: its MSS (bytes, 0 unknown) against the answer's, the route's MTU-wise, port and TTL."""

    mss: int
    answer_mss: int
    larger_mss_known: bool  # some node's socket in this capture used a larger one, so the route to Services does differ
    port: int
    ttl: int


def verdict(packet: FirstPacket) -> tuple[bool | None, int]:
    """`(masqueraded, evidence bits)`: True or False where the packet tells, None where both are possible."""
    if packet.ttl not in INITIAL_TTLS:  # already routed once on its own node: IPVS sends it through the dummy device
        return True, evidence.TTL
    if packet.port not in EPHEMERAL_PORTS:
        return True, evidence.PORT_RANGE
    if packet.mss and packet.answer_mss:
        if packet.mss > packet.answer_mss:
            return True, evidence.MSS
        if packet.larger_mss_known:
            return False, evidence.MSS
    return None, 0
