"""Packets for Wireshark's dissectors: the streams of connections, each in order and without repetition, under addresses of our own.

What is dissected is not what one interface saw (NAT on both sides, GRO, tunnels, losses, repetitions) but what the applications wrote, so
nothing of the network is left in it. A stream's connection is its address pair, its place in the stream is its sequence number, and its
server port is the one that Wireshark knows the protocol by.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

LINKTYPE_RAW = 101
CLIENT_PORT = 49152
MOST_BYTES = 65_495  # of payload in an IPv4 packet
_TCP, _UDP = 6, 17
_FIN, _ACK, _PSH = 1, 16, 8
FILE_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, LINKTYPE_RAW)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one direction of a connection, at `offset` in its stream (a datagram: anywhere).

    `wire` is how many there were where the capture cut them, `end` whether the stream ends behind them.
    """

    connection: int
    forward: bool
    offset: int
    payload: bytes
    wire: int
    time_ns: int
    end: bool = False
    stream: bool = True  # TCP, else a datagram


def packets(piece: Piece, port: int, heard: int) -> Iterator[bytes]:
    """The pcap records of a piece: one packet, or as many as it takes.

    `port` is the server's, `heard` how many bytes of the other direction came before.
    """
    start, size = 0, len(piece.payload)
    while True:
        part = piece.payload[start : start + MOST_BYTES]
        last = start + len(part) >= size
        wire = min(piece.wire - start, MOST_BYTES) if last else len(part)
        yield _record(piece, part, wire, start, port, heard, end=piece.end and last)
        start += len(part)
        if last:
            return


def _record(piece: Piece, part: bytes, wire: int, start: int, port: int, heard: int, *, end: bool) -> bytes:
    client, server = 0x0A00_0000 | piece.connection, 0x0B00_0000 | piece.connection
    addresses = (client, server) if piece.forward else (server, client)
    ports = (CLIENT_PORT, port) if piece.forward else (port, CLIENT_PORT)
    if piece.stream:
        flags = _ACK | (_PSH if part else 0) | (_FIN if end else 0)
        sequence, acknowledged = (piece.offset + start + 1) & 0xFFFF_FFFF, (heard + 1) & 0xFFFF_FFFF
        header = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, 65_535, 0, 0)
    else:
        header = struct.pack(">HHHH", *ports, wire + 8, 0)
    total = 20 + len(header) + wire
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, min(total, 65_535), 0, 0, 64, _TCP if piece.stream else _UDP, 0, *addresses)
    seconds, nanoseconds = divmod(piece.time_ns, 1_000_000_000)
    captured = len(ip) + len(header) + len(part)
    return struct.pack("<IIII", seconds & 0xFFFF_FFFF, nanoseconds, captured, total) + ip + header + part
