"""Network layer: IPv4 (RFC 791) and IPv6 (RFC 8200) into one row, and where their payload is."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import AH, DSTOPTS, FRAGMENT, HOPOPTS, IPV4, MOBILITY, MORE_FRAGMENTS, ROUTING
from probes.decode.rows import Rows
from probes.jit import big16, big32, big64, byte, inside
from probes.schema import Array

V4_MAPPED = 0xFFFF_0000_0000


@inside
def _ipv4(rows: Rows, row: int, data: Array, at: int, end: int, wire_end: int) -> tuple[int, int, int]:
    """`(protocol, payload offset, payload length)`; protocol -1 where the header is cut or no IPv4."""
    header = (byte(data, at) & 15) * 4
    if byte(data, at) >> 4 != 4 or header < 20 or at + 20 > end:
        return -1, at, 0
    rows.ip_id[row] = big16(data, at + 4)
    fragment = big16(data, at + 6)
    if fragment & 0x3FFF:
        rows.fragment_offset[row] = fragment & 0x1FFF
        if fragment & 0x2000:
            rows.known[row] = MORE_FRAGMENTS
    rows.ttl[row] = byte(data, at + 8)
    rows.src_lo[row] = np.uint64(V4_MAPPED | big32(data, at + 12))
    rows.dst_lo[row] = np.uint64(V4_MAPPED | big32(data, at + 16))
    total = big16(data, at + 2)
    if total == 0:  # more than 65,535 bytes: segmentation offload, BIG TCP (Linux b1a78b9b9886)
        total = max(wire_end - at, header)
    return byte(data, at + 9), at + header, total - header


@inside
def _ipv6(rows: Rows, row: int, data: Array, at: int, end: int, wire_end: int) -> tuple[int, int, int]:
    """Like `_ipv4`, past the extension headers (RFC 8200, 4)."""
    if byte(data, at) >> 4 != 6 or at + 40 > end:
        return -1, at, 0
    length = big16(data, at + 4)
    if length == 0:  # jumbogram (RFC 2675) or segmentation offload
        length = wire_end - at - 40
    rows.ttl[row] = byte(data, at + 7)
    rows.src_hi[row], rows.src_lo[row] = np.uint64(big64(data, at + 8)), np.uint64(big64(data, at + 16))
    rows.dst_hi[row], rows.dst_lo[row] = np.uint64(big64(data, at + 24)), np.uint64(big64(data, at + 32))
    proto, here = byte(data, at + 6), at + 40
    stop = at + 40 + length
    while here + 8 <= end:
        if proto == FRAGMENT:
            fragment = big16(data, here + 2)
            rows.fragment_offset[row] = fragment >> 3
            if fragment & 1:
                rows.known[row] |= MORE_FRAGMENTS
            rows.ip_id[row] = big32(data, here + 4)
            size = 8
            if rows.fragment_offset[row] != 0:  # what follows is the midst of a datagram, whatever its header is said to be
                return byte(data, here), here + size, stop - here - size
        elif proto in (HOPOPTS, ROUTING, DSTOPTS, MOBILITY):
            size = (byte(data, here + 1) + 1) * 8
        elif proto == AH:
            size = (byte(data, here + 1) + 2) * 4
        else:
            break
        proto, here = byte(data, here), here + size
    return proto, here, stop - here


@inside
def network(rows: Rows, row: int, data: Array, at: int, end: int, wire_end: int, ethertype: int) -> tuple[int, int, int]:
    """Fill the network columns of a row; `(protocol, payload offset, payload length)`, protocol -1 where this is no IP header.

    `end` is where the capture ends, `wire_end` where the packet did on the wire.
    """
    if at >= end:
        return -1, at, 0
    return _ipv4(rows, row, data, at, end, wire_end) if ethertype == IPV4 else _ipv6(rows, row, data, at, end, wire_end)
