"""Tunnels: whether there is a packet inside this one, and where it starts.

VXLAN RFC 7348, Geneve RFC 8926, GRE RFC 2784/2890, IP in IP RFC 2003, 6in4 RFC 4213.
"""

from __future__ import annotations

from probes.decode.link import ethernet
from probes.decode.numbers import (
    ARP,
    GENEVE,
    GENEVE_PORT,
    GRE,
    GRE_TUNNEL,
    IP_IN_IP,
    IPIP,
    IPV4,
    IPV6,
    PLAIN,
    SIX_IN_FOUR,
    TRANSPARENT_ETHERNET_BRIDGING,
    UDP,
    VXLAN,
    VXLAN_PORT,
    VXLAN_PORT_LINUX,
)
from probes.jit import big16, big32, byte, inside
from probes.schema import Array

NOTHING = (PLAIN, 0, 0, 0)


@inside
def _inner(data: Array, tunnel: int, protocol: int, at: int, end: int, identifier: int) -> tuple[int, int, int, int]:
    if protocol == TRANSPARENT_ETHERNET_BRIDGING:
        protocol, at = ethernet(data, at, end)
    return tunnel, protocol, at, identifier


@inside
def _vxlan(data: Array, at: int, end: int, length: int, known_port: bool) -> tuple[int, int, int, int]:
    """The I flag must be set (RFC 7348, 5). On other ports it must be alone, and the inner frame look like IP or ARP of fitting length.

    On its own ports reserved bits are ignored, as the RFC has it: the group policy extension puts its identifier there.
    """
    if at + 8 > end or byte(data, at) & 8 == 0:
        return NOTHING
    identifier = big32(data, at + 4) >> 8
    ethertype, inner = ethernet(data, at + 8, end)
    if known_port:
        return VXLAN, ethertype, inner, identifier
    if big32(data, at) != 0x0800_0000 or byte(data, at + 7) != 0:
        return NOTHING
    room = length - (inner - at)
    if ethertype == IPV4 and inner + 4 <= end and byte(data, inner) >> 4 == 4 and big16(data, inner + 2) <= room:
        return VXLAN, ethertype, inner, identifier
    if ethertype == IPV6 and inner + 6 <= end and byte(data, inner) >> 4 == 6 and big16(data, inner + 4) + 40 <= room:
        return VXLAN, ethertype, inner, identifier
    if ethertype == ARP and room >= 28:
        return VXLAN, ethertype, inner, identifier
    return NOTHING


@inside
def _geneve(data: Array, at: int, end: int) -> tuple[int, int, int, int]:
    if at + 8 > end or byte(data, at) >> 6 != 0:
        return NOTHING
    return _inner(data, GENEVE, big16(data, at + 2), at + 8 + (byte(data, at) & 63) * 4, end, big32(data, at + 4) >> 8)


@inside
def _gre(data: Array, at: int, end: int) -> tuple[int, int, int, int]:
    if at + 4 > end or byte(data, at + 1) & 7 != 0:
        return NOTHING
    flags, protocol, key, inner = byte(data, at), big16(data, at + 2), 0, at + 4
    if flags & 0x80:  # checksum and reserved
        inner += 4
    if flags & 0x20:
        if inner + 4 <= end:
            key = big32(data, inner)
        inner += 4
    if flags & 0x10:  # sequence number
        inner += 4
    return _inner(data, GRE_TUNNEL, protocol, inner, end, key)


@inside
def tunnelled(data: Array, proto: int, at: int, end: int, length: int) -> tuple[int, int, int, int]:
    """`(tunnel, ethertype, offset, identifier)` of the packet inside the one whose L4 header is at `at`; tunnel PLAIN where none is."""
    if proto == UDP:
        if at + 16 > end:
            return NOTHING
        dport = big16(data, at + 2)
        if dport == GENEVE_PORT:
            return _geneve(data, at + 8, end)
        return _vxlan(data, at + 8, end, length - 8, dport in (VXLAN_PORT, VXLAN_PORT_LINUX))
    if proto == IPIP:
        return IP_IN_IP, IPV4, at, 0
    if proto == SIX_IN_FOUR:
        return IP_IN_IP, IPV6, at, 0
    if proto == GRE:
        return _gre(data, at, end)
    return NOTHING
