"""Network layer: IPv4 (RFC 791) and IPv6 (RFC 8200) into one row, and where their payload is."""

from __future__ import annotations

import numpy as np

from probes.decode.link import be16, be32, be64
from probes.decode.numbers import AH, DSTOPTS, FRAGMENT, HOPOPTS, IPV4, MOBILITY, MORE_FRAGMENTS, ROUTING
from probes.jit import inlined
from probes.schema import Array

V4_MAPPED = 0xFFFF_0000_0000


@inlined
def _ipv4(row: Array, data: Array, at: int, end: int) -> tuple[int, int, int]:
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
    if total == 0:  # segmentation offload before the length was written
        total = max(end - at, header)
    return np.int64(data[at + 9]), at + header, total - header


@inlined
def _ipv6(row: Array, data: Array, at: int, end: int) -> tuple[int, int, int]:
    """Like `_ipv4`, past the extension headers (RFC 8200, 4)."""
    if data[at] >> 4 != 6 or at + 40 > end:
        return -1, at, 0
    length = be16(data, at + 4)
    if length == 0:  # jumbogram or segmentation offload
        length = end - at - 40
    row["ttl"] = data[at + 7]
    row["src_hi"], row["src_lo"] = np.uint64(be64(data, at + 8)), np.uint64(be64(data, at + 16))
    row["dst_hi"], row["dst_lo"] = np.uint64(be64(data, at + 24)), np.uint64(be64(data, at + 32))
    proto, here = np.int64(data[at + 6]), at + 40
    stop = at + 40 + length
    while here + 8 <= end:
        if proto == FRAGMENT:
            fragment = be16(data, here + 2)
            row["fragment_offset"] = fragment >> 3
            if fragment & 1:
                row["known"] |= MORE_FRAGMENTS
            row["ip_id"] = be32(data, here + 4)
            size = 8
        elif proto == HOPOPTS or proto == ROUTING or proto == DSTOPTS or proto == MOBILITY:  # noqa: PLR1714 (compiled code)
            size = (np.int64(data[here + 1]) + 1) * 8
        elif proto == AH:
            size = (np.int64(data[here + 1]) + 2) * 4
        else:
            break
        proto, here = np.int64(data[here]), here + size
    return proto, here, stop - here


@inlined
def network(row: Array, data: Array, at: int, end: int, ethertype: int) -> tuple[int, int, int]:
    """Fill the network columns of `row`; `(protocol, payload offset, payload length)`, protocol -1 where this is no IP header."""
    if at >= end:
        return -1, at, 0
    return _ipv4(row, data, at, end) if ethertype == IPV4 else _ipv6(row, data, at, end)
