"""Link layer: where the network header starts, which protocol it is, and what the capture says of interface and direction.

https://www.tcpdump.org/linktypes.html
"""

from __future__ import annotations

from probes.decode.numbers import IN, IPV4, IPV6, OUT, QINQ, QINQ_OLD, UNKNOWN, VLAN
from probes.jit import big16, big32, byte, inside
from probes.schema import Array

NULL, ETHERNET, RAW_12, RAW_14, RAW, LOOP, SLL, RAW_IPV4, RAW_IPV6, SLL2 = 0, 1, 12, 14, 101, 108, 113, 228, 229, 276
LINK_TYPES = {
    NULL: "NULL", ETHERNET: "EN10MB", RAW_12: "RAW", RAW_14: "RAW", RAW: "RAW", LOOP: "LOOP", SLL: "LINUX_SLL",
    RAW_IPV4: "IPV4", RAW_IPV6: "IPV6", SLL2: "LINUX_SLL2",
}  # fmt: skip

ALL_INTERFACES = (SLL, SLL2)  # what `tcpdump -i any` writes


@inside
def ethernet(data: Array, at: int, end: int) -> tuple[int, int]:
    """`(ethertype, offset)` behind an Ethernet header and its VLAN tags; ethertype 0 where the frame is cut before."""
    if at + 14 > end:
        return 0, at
    return vlan_tags(data, big16(data, at + 12), at + 14, end)


@inside
def vlan_tags(data: Array, ethertype: int, at: int, end: int) -> tuple[int, int]:
    """`(ethertype, offset)` behind any 802.1Q and 802.1ad tags."""
    while ethertype in (VLAN, QINQ, QINQ_OLD) and at + 4 <= end:
        ethertype, at = big16(data, at + 2), at + 4
    return ethertype, at


@inside
def _ip_version(data: Array, at: int, end: int) -> int:
    if at >= end:
        return 0
    version = byte(data, at) >> 4
    return IPV4 if version == 4 else IPV6 if version == 6 else 0


@inside
def _packet_type(kind: int) -> int:
    """Linux's PACKET_OUTGOING (4) is out; HOST, BROADCAST, MULTICAST, OTHERHOST (0-3) came in (if_packet.h)."""
    return OUT if kind == 4 else IN if kind < 4 else UNKNOWN


@inside
def link_layer(data: Array, at: int, end: int, link_type: int) -> tuple[int, int, int, int]:
    """`(ethertype, offset, direction, ifindex)`; ethertype 0 where there is nothing of IP, ifindex -1 where the header has none."""
    if link_type == ETHERNET:
        ethertype, at = ethernet(data, at, end)
        return ethertype, at, UNKNOWN, -1
    if link_type == SLL2:
        if at + 20 > end:
            return 0, at, UNKNOWN, -1
        ifindex, direction = big32(data, at + 4), _packet_type(byte(data, at + 10))
        if ifindex >= 1 << 31:  # an int in the kernel, and positive
            ifindex = -1
        ethertype, at = vlan_tags(data, big16(data, at), at + 20, end)
        return ethertype, at, direction, ifindex
    if link_type == SLL:
        if at + 16 > end:
            return 0, at, UNKNOWN, -1
        direction = _packet_type(big16(data, at))
        ethertype, at = vlan_tags(data, big16(data, at + 14), at + 16, end)
        return ethertype, at, direction, -1
    if link_type in (NULL, LOOP):
        # Four bytes of address family in the byte order of the capturing host; its values differ by system, the IP version does not.
        return _ip_version(data, at + 4, end), at + 4, UNKNOWN, -1
    if link_type in (RAW, RAW_12, RAW_14, RAW_IPV4, RAW_IPV6):
        return _ip_version(data, at, end), at, UNKNOWN, -1
    return 0, at, UNKNOWN, -1
