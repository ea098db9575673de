"""The ways that packets take through nodes, as kube-proxy's modes were seen to give them on recorded clusters (`-i any`).

A way is what is seen of one packet, one place after another: `A.client<o64` is node A's end of the client's veth, into the node, with the
original tuple and TTL 64. Nodes: A where the packet enters or its client is, M where another node's NodePort was asked, B the server's.
Devices: the veths of client and server, the bridge (cni0), flannel.1, eth0 (`wire`), and eth0 inside VXLAN (`tunnel`). Directions: `<`
in, `>` out, `!` in but addressed to another host, as a bridge shows what it only forwards. Tuples, always the client's way: o original,
m behind the first node's SNAT, t translated; h and k are half-translated copies, which br_netfilter shows: source of o or m, destination
of t.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from probes.schema import Array

ROLES, DEVICES, STAGES = "AMB", ("client", "server", "bridge", "flannel", "wire", "tunnel"), "omthk"
CLIENT, SERVER, BRIDGE, FLANNEL, WIRE, TUNNEL = range(6)

IFINDEX = {BRIDGE: 4, FLANNEL: 3, WIRE: 2, TUNNEL: 2}
TO_US, OTHER_HOST, BY_US = 0, 3, 4  # packet types of Linux cooked captures

STEP_NS, WIRE_NS = 4_000, 40_000  # between two places of one node, between two nodes

SIGHTING = np.dtype(
    [
        ("role", "u1"),  # index into ROLES
        ("device", "u1"),  # index into DEVICES
        ("packet_type", "u1"),
        ("stage", "u1"),  # index into STAGES
        ("ttl", "u1"),
        ("outer_from", "u1"),  # roles of a tunnel's ends
        ("outer_to", "u1"),
        ("at_sender", "u1"),  # on the node that the packet comes from
        ("delay_ns", "i8"),  # since the first place
    ]
)

_OVER = "A.flannel>t63 A.tunnel>t63 B.tunnel<t63 B.flannel<t63 B.bridge>t62 B.server>t62"
_BACK = "B.server<t64 B.bridge<t64 B.flannel>t63 B.tunnel>t63 A.tunnel<t63 A.flannel<t63"

Ways = Mapping[str, tuple[str, str]]  # request, reply

COMMON: Ways = {
    "direct-remote": (f"A.client<t64 A.bridge<t64 {_OVER}", f"{_BACK} A.bridge>t62 A.client>t62"),
    "direct-local": ("A.client<t64 A.server>t64 A.bridge!t64", "A.server<t64 A.client>t64 A.bridge!t64"),
    "service-remote": (f"A.client<o64 A.bridge<t64 {_OVER}", f"{_BACK} A.bridge>o62 A.client>o62"),
    "service-local": ("A.client<o64 A.server>t64 A.bridge!t64", "A.server<t64 A.client>o64 A.bridge!t64"),
    "hairpin": ("A.server<o64 A.server>t64 A.bridge!h64", "A.server<t64 A.server>o64 A.bridge!h64"),
    "node-remote": ("A.flannel>t64 A.tunnel>t64 B.tunnel<t64 B.flannel<t64 B.bridge>t63 B.server>t63", _BACK),
    "node-local": ("A.bridge>t64 A.server>t64", "A.server<t64 A.bridge<h64"),
    "masqueraded-remote": (f"A.wire<o64 {_OVER}", f"{_BACK} A.wire>o62"),
    "masqueraded-local": ("A.wire<o64 A.bridge>t63 A.server>t63", "A.server<t64 A.bridge<h64 A.wire>o63"),
    "kept-local": ("A.wire<o64 A.bridge>t63 A.server>t63", "A.server<t64 A.bridge<t64 A.wire>o63"),
    "other-node-remote": (
        "A.client<o64 A.bridge<o64 A.wire>m63 M.wire<m63 M.flannel>t62 M.tunnel>t62 B.tunnel<t62 B.flannel<t62 B.bridge>t61 B.server>t61",
        "B.server<t64 B.bridge<t64 B.flannel>t63 B.tunnel>t63 M.tunnel<t63 M.flannel<t63 M.wire>m62 A.wire<m62 A.bridge>o61 A.client>o61",
    ),
    "other-node-local": (
        "A.client<o64 A.bridge<o64 A.wire>m63 M.wire<m63 M.bridge>t62 M.server>t62",
        "M.server<t64 M.bridge<k64 M.wire>m63 A.wire<m63 A.bridge>o62 A.client>o62",
    ),
    "egress": ("A.client<o64 A.bridge<o64 A.wire>t63", "A.wire<t64 A.bridge>o63 A.client>o63"),
    "outside-endpoint": ("A.client<o64 A.bridge<h64 A.wire>t63", "A.wire<t64 A.bridge>o63 A.client>o63"),
}
OF_MODE: Mapping[str, Ways] = {
    "iptables": {},
    "nftables": {  # the bridge gets a second, routed copy
        "service-local": (
            "A.client<o64 A.server>t64 A.bridge!t64 A.bridge>t63 A.server>t63",
            "A.server<t64 A.client>o64 A.bridge!t64",
        ),
        "hairpin": (
            "A.server<o64 A.server>t64 A.bridge!h64 A.bridge>h63 A.server>h63",
            "A.server<t64 A.server>o64 A.bridge!h64 A.bridge>h63 A.server>h63",
        ),
    },
    "ipvs": {  # translates in the node's own input, behind the bridge; the node's own calls pass the dummy device first
        "direct-local": ("A.client<t64 A.server>t64", "A.server<t64 A.client>t64"),
        "service-remote": (f"A.client<o64 A.bridge<o64 {_OVER}", f"{_BACK} A.bridge>o62 A.client>o62"),
        "service-local": ("A.client<o64 A.bridge<o64 A.bridge>t63 A.server>t63", "A.server<t64 A.client>o64"),
        "hairpin": ("A.server<o64 A.bridge<o64 A.bridge>t63 A.server>t63", "A.server<t64 A.server>o64"),
        "node-remote": (_OVER, _BACK),
        "node-local": ("A.bridge>t63 A.server>t63", "A.server<t64 A.bridge<h64"),
        "outside-endpoint": ("A.client<o64 A.bridge<o64 A.wire>t63", "A.wire<t64 A.bridge>o63 A.client>o63"),
    },
}
NAMES = tuple(COMMON)
NUMBER = {name: number for number, name in enumerate(NAMES)}

_PLACE = re.compile(r"([AMB])\.(\w+)([<>!])([omthk])(\d+)")


@dataclass(frozen=True, slots=True)
class WayTable:
    """All ways of one mode: their SIGHTING rows, one way behind the other.

    Way w, direction d (0 request, 1 reply) has `count[w, d]` of `sightings`, from `first[w, d]` on.
    `travel_ns[w, d]` is how long a packet takes from its first place to its last.
    """

    sightings: Array
    first: Array
    count: Array
    travel_ns: Array


def way_table(mode: str) -> WayTable:
    """The ways that packets take where kube-proxy runs in `mode`."""
    ways = {**COMMON, **OF_MODE[mode]}
    parsed = [[_sightings(text) for text in ways[name]] for name in NAMES]
    count = np.array([[len(one) for one in pair] for pair in parsed], "i8")
    first = (np.cumsum(count) - count.ravel()).reshape(count.shape)
    travel = np.array([[one["delay_ns"][-1] for one in pair] for pair in parsed], "i8")
    return WayTable(np.concatenate([one for pair in parsed for one in pair]), first, count, travel)


def _sightings(text: str) -> Array:
    found = np.zeros(len(text.split()), SIGHTING)
    delay = 0
    for number, place in enumerate(text.split()):
        match = _PLACE.fullmatch(place)
        if match is None:
            raise ValueError(f"{place}: no place on a way")
        role, device, way, stage, ttl = ROLES.index(match[1]), DEVICES.index(match[2]), match[3], STAGES.index(match[4]), int(match[5])
        crossing = number > 0 and device in (WIRE, TUNNEL) and role != found["role"][number - 1]
        delay += 0 if number == 0 else WIRE_NS if crossing else STEP_NS
        kind = BY_US if way == ">" else OTHER_HOST if way == "!" or device in (CLIENT, SERVER) else TO_US
        found[number] = (role, device, kind, stage, ttl, role, role, role == found["role"][0] or number == 0, delay)
        if crossing:
            found["outer_from"][number] = found["role"][number - 1]
            found["outer_to"][number - 1] = role
    return found
