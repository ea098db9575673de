"""What rings hold comes to the file whole and in order of time, however it lies in them: the same bytes that plain Python makes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.live.packets.blocks import CHUNK_BYTES, Blocks
from probes.live.rings import DISCARDED
from probes.schema import Array

OFFSET_NS = 1_700_000_000_000_000_000
OUTGOING = 4
Packet = tuple[int, int, bytes, bool, int]  # time, ifindex, frame, outgoing, room beyond the frame


def ring(packets: Sequence[Packet | None]) -> Array:
    """Records as the kernel lays them out; None is one that was discarded, full of what lay there before."""
    content = b""
    for packet in packets:
        if packet is None:
            content += struct.pack("=II", DISCARDED | 37, 0) + b"\xff" * 40
            continue
        time_ns, ifindex, frame, outgoing, room = packet
        record = struct.pack("=QIIHB5x", time_ns, ifindex, 2 * len(frame), len(frame), OUTGOING if outgoing else 0)
        record += frame + b"\xee" * room
        content += struct.pack("=II", len(record), 0) + record + b"\xdd" * (-len(record) % 8)
    return np.frombuffer(content, "u1")


def block(packet: Packet, number: int) -> bytes:
    time_ns, _, frame, outgoing, _ = packet
    wall_ns = time_ns + OFFSET_NS
    body = struct.pack("=IIIII", number, wall_ns >> 32, wall_ns & 0xFFFF_FFFF, len(frame), 2 * len(frame)) + frame + bytes(-len(frame) % 4)
    body += struct.pack("=HHII", 2, 4, 2 if outgoing else 1, 0)
    return struct.pack("=II", 6, len(body) + 12) + body + struct.pack("=I", len(body) + 12)


def made(spans: Sequence[Array], maker: Blocks) -> tuple[int, bytes]:
    """All packets of `spans`, with every byte of them taken once."""
    count, content, left = 0, b"", [len(span) for span in spans]
    for packets, some, taken in maker.of(spans, OFFSET_NS):
        count, content = count + packets, content + some.tobytes()
        left = [rest - more for rest, more in zip(left, taken, strict=True)]
    assert left == [0] * len(spans)
    return count, content


packet = st.tuples(st.integers(0, 5), st.integers(1, 200), st.binary(max_size=70), st.booleans(), st.integers(0, 9))
later = st.lists(st.none() | packet, max_size=23)


@settings(deadline=None)  # the first example may compile
@given(st.lists(later, min_size=3, max_size=3))
def test_several_rings_are_merged_in_order_of_time(rings: list[list[Packet | None]]) -> None:
    rows: list[Packet] = []
    laid: list[list[Packet | None]] = []
    for number, each in enumerate(rings):
        now, placed = 1000 + number, []  # no time is in two rings: any order of those is right
        for one in each:
            now += 3 * one[0] if one else 0
            placed.append((now, *one[1:]) if one else None)
        laid.append(placed)
        rows += [one for one in placed if one]
    met: list[int] = []

    def meet(ifindex: int) -> int:
        met.append(ifindex)
        return 3 * ifindex

    count, content = made([ring(each) for each in laid], Blocks(3, meet))
    assert count == len(rows)
    assert sorted(met) == sorted({row[1] for row in rows}), "each interface is asked for once"
    in_order = sorted(rows, key=lambda row: row[0])
    assert content == b"".join(block(row, 3 * row[1]) for row in in_order)


def test_more_than_fits_comes_in_pieces() -> None:
    rows = [(number, 1, bytes([number % 251]) * 1000, number % 2 == 0, number % 8) for number in range(1009)]
    span = ring(rows)
    pieces = list(Blocks(1, lambda _ifindex: 7).of([span], OFFSET_NS))
    assert len(pieces) > 1
    assert all(len(piece) <= CHUNK_BYTES for _, piece, _ in pieces)
    assert made([span], Blocks(1, lambda _ifindex: 7)) == (1009, b"".join(block(row, 7) for row in rows))


def test_nothing_is_discarded_records_alone() -> None:
    assert made([ring([None] * 5), ring([])], Blocks(2, lambda _ifindex: 0)) == (0, b"")
