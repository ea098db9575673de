"""Transport layer: TCP (RFC 9293, 7323), UDP (RFC 768), SCTP (RFC 9260), ICMP (RFC 792) and ICMPv6 (RFC 4443) into one row."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ICMP, ICMPV6, MORE_FRAGMENTS, PAYLOAD_PREFIX, PORTS, SCTP, SEQUENCE, TCP, TIMESTAMPS, UDP
from probes.decode.rows import Rows
from probes.jit import big16, big32, big64, byte, inside
from probes.schema import Array

TIMESTAMPS_ALONE = 0x0101_080A  # two times no operation, then timestamps: how most segments begin their options (RFC 7323, appendix A)


@inside
def payload_hash(data: Array, at: int, end: int, length: int) -> np.uint64:
    """A hash in the manner of FNV-1a over the payload's first PAYLOAD_PREFIX bytes; 0 where there are none or the capture cut them."""
    wanted = min(length, PAYLOAD_PREFIX)
    if wanted <= 0 or at + wanted > end:
        return np.uint64(0)
    mixed, stop = np.uint64(0xCBF29CE484222325), at + wanted
    while at + 8 <= stop:  # eight bytes in one step: a multiplication a byte was a quarter of all decoding
        mixed = (mixed ^ np.uint64(big64(data, at))) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(29)
        at += 8
    while at < stop:
        mixed = (mixed ^ np.uint64(byte(data, at))) * np.uint64(0x100000001B3)
        at += 1
    return mixed


@inside
def _tcp_options(rows: Rows, row: int, data: Array, at: int, end: int) -> int:
    known = 0
    if at + 12 <= end and big32(data, at) == TIMESTAMPS_ALONE:
        rows.tsval[row], rows.tsecr[row] = big32(data, at + 4), big32(data, at + 8)
        known, at = TIMESTAMPS, at + 12
    while at < end:
        kind = byte(data, at)
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= end:
            break
        length = byte(data, at + 1)
        if length < 2 or at + length > end:
            break
        if kind == 8 and length == 10:
            rows.tsval[row] = big32(data, at + 2)
            rows.tsecr[row] = big32(data, at + 6)
            known = TIMESTAMPS
        elif kind == 2 and length == 4:
            rows.mss[row] = big16(data, at + 2)
        at += length
    return known


@inside
def _tcp(rows: Rows, row: int, data: Array, begin: int, at: int, end: int, length: int) -> int:
    if at + 14 > end:
        return 0
    rows.seq[row] = big32(data, at + 4)
    rows.ack[row] = big32(data, at + 8)
    rows.tcp_flags[row] = byte(data, at + 13)
    header = (byte(data, at + 12) >> 4) * 4
    if at + 16 <= end:
        rows.window[row] = big16(data, at + 14)
    if header < 20 or header > length:
        return SEQUENCE
    rows.payload_bytes[row] = length - header
    rows.payload_at[row] = at + header - begin
    rows.payload_hash[row] = payload_hash(data, at + header, end, length - header)
    return SEQUENCE | _tcp_options(rows, row, data, at + 20, min(at + header, end))


@inside
def _sctp(rows: Rows, row: int, data: Array, at: int, end: int, length: int) -> int:
    """Verification tag and first chunk: its type, and the TSN (DATA) or initiate tag (INIT, INIT ACK) behind the chunk's header."""
    if at + 12 > end:
        return 0
    rows.seq[row] = big32(data, at + 4)
    rows.payload_bytes[row] = max(length - 12, 0)
    rows.payload_hash[row] = payload_hash(data, at + 12, end, length - 12)
    if at + 13 <= end:
        rows.tcp_flags[row] = byte(data, at + 12)
    if at + 20 <= end:
        rows.ack[row] = big32(data, at + 16)
    return SEQUENCE


@inside
def is_icmp_error(proto: int, kind: int) -> bool:
    """Destination unreachable, source quench, redirect, time exceeded, parameter problem; ICMPv6: 1 to 4."""
    if proto == ICMP:
        return kind in (3, 4, 5, 11, 12)
    return proto == ICMPV6 and 1 <= kind <= 4


@inside
def _icmp(rows: Rows, row: int, data: Array, at: int, end: int, length: int, proto: int) -> None:
    if at + 4 > end:
        return
    kind = byte(data, at)
    rows.icmp_type[row] = kind
    rows.icmp_code[row] = byte(data, at + 1)
    rows.payload_bytes[row] = max(length - 8, 0)
    echo = kind in (0, 8) if proto == ICMP else kind in (128, 129)
    if echo and at + 8 <= end:
        rows.sport[row] = big16(data, at + 4)
        rows.dport[row] = rows.sport[row]
        rows.seq[row] = big16(data, at + 6)
        rows.known[row] |= PORTS | SEQUENCE
        rows.payload_hash[row] = payload_hash(data, at + 8, end, length - 8)


@inside
def transport(rows: Rows, row: int, data: Array, begin: int, at: int, end: int, length: int, proto: int) -> None:
    """Fill the transport columns of a row from the header at `at`.

    `length` is what the IP header says follows, `begin` is where the frame does, `end` where the capture of it ends.
    """
    if proto in (ICMP, ICMPV6):
        _icmp(rows, row, data, at, end, length, proto)
        return
    if proto not in (TCP, UDP, SCTP):
        rows.payload_bytes[row] = max(length, 0)
        return
    if at + 4 > end:
        return
    rows.sport[row] = big16(data, at)
    rows.dport[row] = big16(data, at + 2)
    known = PORTS
    if proto == TCP:
        known |= _tcp(rows, row, data, begin, at, end, length)
    elif proto == UDP:
        # of a first fragment, what its datagram has in all: fragments are cut anew on the way, at bridges and by NAT
        fragmented = rows.known[row] & MORE_FRAGMENTS != 0 and at + 6 <= end
        rows.payload_bytes[row] = max((big16(data, at + 4) if fragmented else length) - 8, 0)
        rows.payload_at[row] = at + 8 - begin
        rows.payload_hash[row] = payload_hash(data, at + 8, end, length - 8)
    else:
        known |= _sctp(rows, row, data, at, end, length)
    rows.known[row] |= known
