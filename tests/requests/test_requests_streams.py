"""Where bytes stand in their stream, however sequence numbers run, and when each of them passed a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import packets as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sighted import Sighting, decoded, spans, tcp, udp

from tracer.requests.streams import SEGMENTS, ByteTimes

GIB = 1 << 30
WRAP = 1 << 32


@dataclass(frozen=True)
class Case:
    seen: list[Sighting]
    places: list[tuple[int, int]]  # (start, end) by side, point and time


CASES = {
    "counted from the handshake": Case(
        [tcp(0, "S", 1000), tcp(1, "SA", 70_000, reply=True), tcp(2, "A", 1001, b"0123456789"), tcp(3, "A", 70_001, b"abc", reply=True),
         tcp(4, "A", 1011, b"!")],
        [(0, 10), (10, 11), (0, 3)],
    ),
    "data on the SYN": Case([tcp(0, "S", 1000, b"early"), tcp(1, "A", 1006, b"more")], [(0, 5), (5, 9)]),
    "a handshake that is sent again": Case([tcp(0, "S", 1000), tcp(1, "S", 1000), tcp(2, "A", 1001, b"x")], [(0, 1)]),
    "counted from the lowest number seen": Case([tcp(0, "A", 555, b"0123"), tcp(1, "A", 559, b"45")], [(0, 4), (4, 6)]),
    "an acknowledgment alone begins the count, too": Case([tcp(0, "A", 555), tcp(1, "A", 555, b"0123")], [(0, 4)]),
    "what came before the first packet seen": Case([tcp(0, "A", 559, b"45"), tcp(1, "A", 555, b"0123")], [(4, 6), (0, 4)]),
    "sequence numbers wrap": Case(
        [tcp(0, "S", WRAP - 5), tcp(1, "A", WRAP - 4, b"01234567"), tcp(2, "A", 4, b"8")], [(0, 8), (8, 9)]
    ),
    "and the handshake is just before": Case([tcp(0, "S", WRAP - 1), tcp(1, "A", 0, b"01")], [(0, 2)]),
    "out of order across the wrap": Case(
        [tcp(0, "S", WRAP - 5), tcp(1, "A", 4, b"8"), tcp(2, "A", WRAP - 4, b"01234567")], [(8, 9), (0, 8)]
    ),
    "more than two and four GiB": Case(
        [tcp(0, "S", 99), *(tcp(n + 1, "A", 100 + n * GIB, b"x") for n in range(6))], [(n * GIB, n * GIB + 1) for n in range(6)]
    ),
    "retransmission and overlap": Case(
        [tcp(0, "S", 0), tcp(1, "A", 1, b"0123"), tcp(2, "A", 1, b"0123"), tcp(3, "A", 3, b"2345")], [(0, 4), (0, 4), (2, 6)]
    ),
    "a probe of one byte that was sent before": Case(
        [tcp(0, "S", 0), tcp(1, "A", 1, b"0123"), tcp(2, "A", 4, b"?"), tcp(3, "A", 5, b"4")], [(0, 4), (3, 4), (4, 5)]
    ),
    "a probe without a byte": Case([tcp(0, "S", 0), tcp(1, "A", 1, b"0123"), tcp(2, "A", 4), tcp(3, "A", 5, b"4")], [(0, 4), (4, 5)]),
    "FIN with the last byte, and alone": Case([tcp(0, "S", 0), tcp(1, "FA", 1, b"0123"), tcp(2, "FA", 5)], [(0, 4), (4, 4)]),
    "RST carries no bytes": Case([tcp(0, "S", 0), tcp(1, "A", 1, b"0"), tcp(2, "R", 77_777)], [(0, 1)]),
    "RST with a reason": Case([tcp(0, "S", 0), tcp(1, "A", 1, b"0"), tcp(2, "R", 2, b"why")], [(0, 1), (1, 4)]),
    "one handshake for all nodes": Case(
        [tcp(0, "S", 1000), tcp(1, "A", 1001, b"0123"), tcp(0.5, "A", 1005, b"45", node=1, point=1)], [(0, 4), (4, 6)]
    ),
    "the handshake at another node only": Case(
        [tcp(0, "A", 1003, b"23"), tcp(0, "S", 1000, node=1, point=1), tcp(1, "A", 1001, b"01", node=1, point=1)], [(2, 4), (0, 2)]
    ),
    "without a handshake, from the lowest of all nodes": Case(
        [tcp(5, "A", 1003, b"23"), tcp(0, "A", 1001, b"01", node=1, point=1)], [(2, 4), (0, 2)]
    ),
    "each node follows its own packets": Case(
        [tcp(0, "S", 99, node=n, point=n) for n in range(2)]
        + [tcp(1 + step, "A", 100 + step * GIB, b"x", node=n, point=n) for n in range(2) for step in range(5)],
        2 * [(step * GIB, step * GIB + 1) for step in range(5)],
    ),
    "connections apart": Case(
        [tcp(0, "S", 1000), tcp(1, "A", 1001, b"0"), tcp(0, "A", 5, b"01", connection=1), tcp(1, "A", 7, b"2", connection=1)],
        [(0, 1), (0, 2), (2, 3)],
    ),
    "datagrams are counted": Case([udp(0, b"one"), udp(1, b"two"), udp(2, b"ONE", reply=True)], [(0, 1), (1, 2), (0, 1)]),
    "the same datagram at two points": Case(
        [udp(0, b"one"), udp(1, b"two"), udp(0.1, b"one", point=1), udp(1.1, b"two", point=1)], [(0, 1), (1, 2), (0, 1), (1, 2)]
    ),
    "nothing in it": Case([tcp(0, "S", 1), tcp(1, "A", 2)], []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_places_in_streams(name: str) -> None:
    case = CASES[name]
    _, found = decoded(case.seen)
    assert spans(found) == case.places
    SEGMENTS.check(found)


def test_what_is_told_of_a_segment() -> None:
    seen = [tcp(0, "S", 0), tcp(1, "A", 1, b"0123456789", point=3, snaplen=44), tcp(2, "FA", 11, b"ab", point=4, node=1)]
    observations, found = decoded(seen)
    assert spans(found, "captured", "fin", "point", "node", "reply") == [(0, 10, 4, 0, 3, 0, 0), (10, 12, 2, 1, 4, 1, 0)]
    assert (observations["time_ns"][found["row"]] == found["time_ns"]).all()
    assert found["time_ns"].tolist() == [p.START_NS + 1_000_000, p.START_NS + 2_000_000]


@pytest.mark.parametrize("snaplen", [20, 24, 39, 40])
def test_a_header_that_was_cut_leaves_no_bytes(snaplen: int) -> None:
    _, found = decoded([tcp(0, "S", 0), tcp(1, "A", 1, b"0123", snaplen=snaplen)])
    assert found["captured"].tolist() == [0] * len(found["captured"])


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(-(1 << 31) + 1, (1 << 31) - 1), st.integers(0, 3)), min_size=1, max_size=20),
    isn=st.integers(0, WRAP - 1), both=st.booleans(),
)  # fmt: skip
def test_steps_of_less_than_two_gib_are_told_either_way(steps: list[tuple[int, int]], isn: int, both: bool) -> None:
    """Whatever a stream's places are, they come back, as long as no two packets in a row are 2 GiB apart."""
    place, seen, expected = 0, [tcp(0, "S", isn)], []
    for number, (step, length) in enumerate(steps):
        place += step
        seen.append(tcp(number + 1, "A", isn + 1 + place, b"x" * length))
        if both:  # the other side's numbers have nothing to do with it
            seen.append(tcp(number + 1.5, "A", 7 * isn + number * GIB, reply=True))
        expected += [(place, place + length)] if length else []
    _, found = decoded(seen)
    assert spans(found) == expected


ROWS = st.tuples(
    st.integers(0, 1), st.integers(0, 1), st.integers(0, 2), st.integers(0, 1), st.integers(-3, 20), st.integers(0, 8), st.integers(0, 9)
)


def _table(rows: list[tuple[int, ...]]) -> dict[str, np.ndarray[Any, Any]]:
    columns = {column.name: np.zeros(len(rows), column.dtype) for column in SEGMENTS.columns}
    for number, (connection, reply, point, code, start, length, time) in enumerate(rows):
        named = {
            "connection": connection,
            "reply": reply,
            "point": point,
            "tuple": code,
            "start": start,
            "end": start + length,
            "time_ns": time,
        }
        for name, value in named.items():
            columns[name][number] = value
    return columns


@settings(deadline=None)
@given(rows=st.lists(ROWS, max_size=50), asked=st.lists(ROWS, max_size=20))
def test_a_byte_is_seen_when_the_first_packet_with_it_is(rows: list[tuple[int, ...]], asked: list[tuple[int, ...]]) -> None:
    """Against a search through all; holes, repetitions, overlaps and what was never seen come of themselves."""
    table = _table(rows)
    found = ByteTimes(table).at(*(np.array([each[column] for each in asked], "i8") for column in range(5)))
    for query, row in zip(asked, found.tolist(), strict=True):
        place = query[4]
        covering = [each for each in rows if each[:4] == query[:4] and each[4] <= place < each[4] + each[5]] if place >= 0 else []
        assert (row < 0) == (not covering)
        if covering:
            assert rows[row] in covering
            assert rows[row][6] == min(each[6] for each in covering)
