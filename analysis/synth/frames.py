"""Records of a capture file, byte for byte: Linux cooked frames with IPv4 and TCP, inside VXLAN between nodes.

Checksums are right (TCP's as after offloading; the outer UDP's is 0, which VXLAN allows: RFC 7348, 4.1).
"""

from __future__ import annotations

import struct

import numpy as np

from analysis.synth.ways import BRIDGE, CLIENT, FLANNEL, IFINDEX, SERVER, TUNNEL, WIRE
from probes.jit import copy, inlined, kernel, wide
from probes.schema import Array

SYN, FIN, PSH, ACK = 2, 1, 8, 16
NANOSECONDS_MAGIC, LINKTYPE_LINUX_SLL2 = 0xA1B23C4D, 276
RECORD_BYTES, COOKED_BYTES, OUTER_BYTES, MOST_HEADER_BYTES = 16, 20, 50, 16 + 20 + 50 + 20 + 40
VXLAN_PORT = 8472

PACKET = np.dtype(
    [
        ("time_ns", "i8"),  # when its sender sent it
        ("conversation", "i4"),
        ("message", "i4"),  # -1 where it carries none
        ("offset", "i4"),  # of its first byte in the message
        ("length", "i4"),
        ("checksum", "u4"),  # of the bytes it carries, not yet folded
        ("seq", "u4"),
        ("ack", "u4"),
        ("tsval", "u4"),
        ("tsecr", "u4"),
        ("ip_id", "u2"),
        ("window", "u2"),
        ("mss", "u2"),
        ("flags", "u1"),
        ("reply", "u1"),
        ("first_places", "u1"),  # lost behind so many places of its way; 255: not lost
        ("where", "u1"),  # EVERYWHERE, AT_SENDER or BEYOND it
    ]
)
EVERYWHERE, AT_SENDER, BEYOND = 0, 1, 2
NOT_LOST = 255
_WIRE_INDEX, _BRIDGE_INDEX, _FLANNEL_INDEX = IFINDEX[WIRE], IFINDEX[BRIDGE], IFINDEX[FLANNEL]  # numba knows no dicts of the module


def file_header(snaplen: int) -> bytes:
    """The header of a capture file with nanoseconds."""
    return struct.pack("<IHHiIII", NANOSECONDS_MAGIC, 2, 4, 0, 0, snaplen, LINKTYPE_LINUX_SLL2)


@inlined
def _put16(out: Array, at: int, value: int) -> None:
    out[at], out[at + 1] = (value >> 8) & 255, value & 255


@inlined
def _put32(out: Array, at: int, value: int) -> None:
    out[at], out[at + 1], out[at + 2], out[at + 3] = (value >> 24) & 255, (value >> 16) & 255, (value >> 8) & 255, value & 255


@inlined
def _little32(out: Array, at: int, value: int) -> None:
    out[at], out[at + 1], out[at + 2], out[at + 3] = value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255


@inlined
def _folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@inlined
def _summed(out: Array, first: int, end: int) -> int:
    total = 0
    for at in range(first, end, 2):
        total += (wide(out[at]) << 8) | wide(out[at + 1])
    return total


@inlined
def _ip_header(out: Array, at: int, source: int, destination: int, length: int, identity: int, ttl_and_protocol: int) -> None:
    _put16(out, at, 0x4500)
    _put16(out, at + 2, length)
    _put16(out, at + 4, identity)
    _put16(out, at + 6, 0x4000)  # do not fragment
    _put16(out, at + 8, ttl_and_protocol)
    _put16(out, at + 10, 0)
    _put32(out, at + 12, source)
    _put32(out, at + 16, destination)
    _put16(out, at + 10, _folded(_summed(out, at, at + 20)))


@kernel
def checksum_payloads(packets: Array, heads: Array, head_bytes: Array, body_at: Array, text: Array) -> None:
    """Fill in PACKET.checksum."""
    messages, offsets, lengths, checksums = packets["message"], packets["offset"], packets["length"], packets["checksum"]
    for row in range(len(packets)):
        message, offset, total = messages[row], wide(offsets[row]), 0
        if message < 0:
            continue
        head, behind = head_bytes[message], body_at[message] - head_bytes[message]
        for place in range(offset, offset + lengths[row]):
            byte = wide(heads[message, place] if place < head else text[behind + place])
            total += byte if (place - offset) & 1 else byte << 8
        checksums[row] = (total & 0xFFFF) + (total >> 16)


@kernel
def write_records(  # noqa: PLR0913, PLR0917, PLR0915 - columns
    packet: Array, sighting: Array, time_ns: Array, packets: Array, sightings: Array, ends: Array, places: Array, node_address: Array,
    heads: Array, head_bytes: Array, body_at: Array, text: Array, snaplen: int, out: Array,
) -> int:  # fmt: skip
    """Write records into `out`, in order; returns how many bytes.

    Record i is what the place `sighting[i]` (row of `sightings`) saw of `packet[i]` (row of `packets`) at `time_ns[i]`. `ends[c, stage]`
    has source, its port, destination, its port; `places[c]` the nodes A, M, B and the interface indexes of both veths.
    """
    start = 0
    for record in range(len(packet)):
        row, place = packet[record], sighting[record]
        which, stage = packets["conversation"][row], sightings["stage"][place]
        source, sport, destination, dport = ends[which, stage, 0], ends[which, stage, 1], ends[which, stage, 2], ends[which, stage, 3]
        if packets["reply"][row]:
            source, sport, destination, dport = destination, dport, source, sport
        device, flags = wide(sightings["device"][place]), wide(packets["flags"][row])
        options = 20 if flags & SYN else 12
        length = wide(packets["length"][row])
        tcp_bytes = 20 + options + length
        tunneled = device == TUNNEL
        frame_bytes = COOKED_BYTES + (OUTER_BYTES if tunneled else 0) + 20 + tcp_bytes
        kept = min(frame_bytes, snaplen)

        _little32(out, start, time_ns[record] // 1_000_000_000)
        _little32(out, start + 4, time_ns[record] % 1_000_000_000)
        _little32(out, start + 8, kept)
        _little32(out, start + 12, frame_bytes)
        at = start + RECORD_BYTES
        _put32(out, at, 0x0800_0000)
        index = _WIRE_INDEX
        if device == BRIDGE:
            index = _BRIDGE_INDEX
        elif device == FLANNEL:
            index = _FLANNEL_INDEX
        elif device == CLIENT:
            index = places[which, 3]
        elif device == SERVER:
            index = places[which, 4]
        _put32(out, at + 4, index)
        _put32(out, at + 8, (1 << 16) | (wide(sightings["packet_type"][place]) << 8) | 6)
        _put16(out, at + 12, 0x0A58)
        _put32(out, at + 14, source)
        _put16(out, at + 18, 0)
        at += COOKED_BYTES
        if tunneled:
            one = node_address[places[which, sightings["outer_from"][place]]]
            other = node_address[places[which, sightings["outer_to"][place]]]
            inside = 14 + 20 + tcp_bytes
            _ip_header(out, at, one, other, 36 + inside, (wide(packets["ip_id"][row]) + which) & 0xFFFF, 64 << 8 | 17)
            _put16(out, at + 20, 32768 + (sport * 31 + dport * 7 + source) % 28232)
            _put16(out, at + 22, VXLAN_PORT)
            _put16(out, at + 24, 16 + inside)
            _put16(out, at + 26, 0)
            _put32(out, at + 28, 0x0800_0000)
            _put32(out, at + 32, 1 << 8)
            _put16(out, at + 36, 0x0A58)
            _put32(out, at + 38, other)
            _put16(out, at + 42, 0x0A58)
            _put32(out, at + 44, one)
            _put16(out, at + 48, 0x0800)
            at += OUTER_BYTES
        _ip_header(out, at, source, destination, 20 + tcp_bytes, wide(packets["ip_id"][row]), wide(sightings["ttl"][place]) << 8 | 6)
        at += 20
        _put16(out, at, sport)
        _put16(out, at + 2, dport)
        _put32(out, at + 4, wide(packets["seq"][row]))
        _put32(out, at + 8, wide(packets["ack"][row]))
        _put16(out, at + 12, ((20 + options) // 4) << 12 | flags)
        _put16(out, at + 14, wide(packets["window"][row]))
        _put32(out, at + 16, 0)
        if flags & SYN:
            _put32(out, at + 20, 2 << 24 | 4 << 16 | wide(packets["mss"][row]))
            _put16(out, at + 24, 4 << 8 | 2)  # SACK permitted
            _put16(out, at + 26, 8 << 8 | 10)
            _put32(out, at + 36, 1 << 24 | 3 << 16 | 3 << 8 | 7)  # window scale
        else:
            _put32(out, at + 20, 0x0101_080A)
        stamps = at + (28 if flags & SYN else 24)
        _put32(out, stamps, wide(packets["tsval"][row]))
        _put32(out, stamps + 4, wide(packets["tsecr"][row]))
        header_end = at + 20 + options
        total = (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF) + 6 + tcp_bytes
        total += _summed(out, at, header_end) + wide(packets["checksum"][row])
        _put16(out, at + 16, _folded(total))
        end = start + RECORD_BYTES + kept
        message, offset = packets["message"][row], wide(packets["offset"][row])
        if message >= 0:
            shown = min(length, max(end - header_end, 0))
            from_head = min(max(head_bytes[message] - offset, 0), shown)
            copy(out, header_end, heads[message], offset, from_head)
            copy(out, header_end + from_head, text, body_at[message] + offset + from_head - head_bytes[message], shown - from_head)
        start = end
    return start
