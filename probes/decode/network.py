"""Network layer: IPv4 (RFC 791) and IPv6 (RFC 8200) into one row, and where their payload is."""

from __future__ import annotations

import numpy as np

from probes.decode.link import be16, be32, be64
from probes.decode.numbers import AH, DSTOPTS, FRAGMENT, HOPOPTS, IPV4, MOBILITY, MORE_FRAGMENTS, ROUTING
from probes.jit import inlined, wide
from probes.schema import Array

V4_MAPPED = 0xFFFF_0000_0000


@inlined
def _ipv4(row: Array, data: Array, at: int, end: int, wire_end: int) -> tuple[int, int, int]:
    """`(protocol, payload offset, payload length)`; protocol -1 where the header is cut or no IPv4."""
    header = (data[at] & 15) * 4
    if data[at] >> 4 != 4 or header < 20 or at + 20 > end:
        return -1, at, 0
    row["ip_id"] = be16(data, at + 4)
    fragment = be16(data, at + 6)
    row["fragment_offset"] = fragment & 0x1FFF
    if fragment & 0x2000:
        row["known"] |= MORE_FRAGMENTS
    row["ttl"] = data[at + 8]
    row["src_lo"] = np.uint64(V4_MAPPED | be32(data, at + 12))
    row["dst_lo"] = np.uint64(V4_MAPPED | be32(data, at + 16))
    total = be16(data, at + 2)
    if total == 0:  # more than 65,535 bytes: segmentation offload, BIG TCP (Linux b1a78b9b9886)
        total = max(wire_end - at, header)
    return wide(data[at + 9]), at + header, total - header


@inlined
def _ipv6(row: Array, data: Array, at: int, end: int, wire_end: int) -> tuple[int, int, int]:
    """Like `_ipv4`, past the extension headers (RFC 8200, 4)."""
    if data[at] >> 4 != 6 or at + 40 > end:
        return -1, at, 0
    length = be16(data, at + 4)
    if length == 0:  # jumbogram (RFC 2675) or segmentation offload
        length = wire_end - at - 40
    row["ttl"] = data[at + 7]
    row["src_hi"], row["src_lo"] = np.uint64(be64(data, at + 8)), np.uint64(be64(data, at + 16))
    row["dst_hi"], row["dst_lo"] = np.uint64(be64(data, at + 24)), np.uint64(be64(data, at + 32))
    proto, here = wide(data[at + 6]), at + 40
    stop = at + 40 + length
    while here + 8 <= end:
        if proto == FRAGMENT:
            fragment = be16(data, here + 2)
            row["fragment_offset"] = fragment >> 3
            if fragment & 1:
                row["known"] |= MORE_FRAGMENTS
            row["ip_id"] = be32(data, here + 4)
            size = 8
            if row["fragment_offset"] != 0:  # what follows is the midst of a datagram, whatever its header is said to be
                return wide(data[here]), here + size, stop - here - size
        elif proto in (HOPOPTS, ROUTING, DSTOPTS, MOBILITY):
            size = (wide(data[here + 1]) + 1) * 8
        elif proto == AH:
            size = (wide(data[here + 1]) + 2) * 4
        else:
            break
        proto, here = wide(data[here]), here + size
    return proto, here, stop - here


@inlined
def network(row: Array, data: Array, at: int, end: int, wire_end: int, ethertype: int) -> tuple[int, int, int]:
    """Fill the network columns of `row`; `(protocol, payload offset, payload length)`, protocol -1 where this is no IP header.

    `end` is where the capture ends, `wire_end` where the packet did on the wire.
    """
    if at >= end:
        return -1, at, 0
    return _ipv4(row, data, at, end, wire_end) if ethertype == IPV4 else _ipv6(row, data, at, end, wire_end)
