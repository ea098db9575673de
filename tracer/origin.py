"""Whether the first tuple seen is what the client's socket has, or was translated before any observation point.

DNAT happens on the client's own node, and a node's own call to a Service is translated inside the node: its tuple before NAT is on no wire,
only the ledger has it. So the first tuple seen counts as the original only where it was seen at the client's own door, where a ledger says
so, or where nothing could have translated it. Where only the packet can tell, its socket chose the maximum segment size, source port and
TTL by the route to the address it asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracer import evidence

EPHEMERAL_PORTS = range(32768, 61000)  # net.ipv4.ip_local_port_range; --random-fully draws from 1024-65535 (nf_nat_core.c)
INITIAL_TTLS = (64, 128, 255)
BRIDGE_KINDS = ("bridge", "vxlan", "geneve", "ipip", "gre")
# Devices where a pod's packet arrives after br_netfilter translated it, or on its way to another node.
_BRIDGES = re.compile(r"(cni|cbr|br-|docker|kube-bridge|flannel|vxlan|cilium_|tunl|geneve|weave|ovn-k8s)")


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """What a client's first packet tells: its MSS and the answer's (bytes, 0 unknown), source port and TTL.

    `larger_mss_known`: the node's routes allow a larger MSS than the answer's, so that a Service's address would have led to another one.
    """

    mss: int
    answer_mss: int
    larger_mss_known: bool
    port: int
    ttl: int


def masqueraded(packet: FirstPacket) -> tuple[bool | None, int]:
    """`(verdict, evidence bits)` for a node's own packet: True or False where it tells, None where both are possible."""
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


def could_be_door(interface: str, kind: str | None) -> bool:
    """Whether a pod's packet may be seen at `interface` as the pod made it: not on a tunnel, nor on a bridge behind br_netfilter."""
    return kind not in BRIDGE_KINDS and not _BRIDGES.match(interface)
