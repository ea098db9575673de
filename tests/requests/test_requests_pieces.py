"""Streams put together from what any of the points captured: every byte once, in order, with what is missing accounted for."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sighted import HEADERS, Sighting, decoded, tcp, udp

from probes.schema import Table, size
from tracer.requests.pieces import PIECES, pieces

WRAP = 1 << 32
MOST_BYTES = 120
POINTS = ((0, 0), (0, 1), (1, 2))  # (node, point)
SHIFT_MS = (0.0, 5000.0)  # clocks of the nodes


def pieces_of(seen: list[Sighting]) -> tuple[Table, list[bytes]]:
    """The PIECES of connection 0, and the bytes that each names in its frame."""
    observations, table = decoded(seen)
    found = PIECES.check(pieces(table, observations, np.ones(1, bool)))
    ordered = sorted(seen, key=lambda each: (each.connection, each.node, each.ms))
    content = []
    for row, skip, length in zip(*(found[name].tolist() for name in ("row", "skip", "size")), strict=True):
        at = int(observations["payload_at"][row]) + skip
        content.append(ordered[row].packet[: ordered[row].snaplen][at : at + length])
    assert [len(part) for part in content] == found["size"].tolist()
    return found, content


def cut(length: int, chance: random.Random) -> list[tuple[int, int]]:
    """A stream in segments, some of them again, overlapping or out of order, as one point may see it."""
    places = sorted({0, length, *(chance.randrange(length + 1) for _ in range(chance.randrange(6)))})
    segments = [(one, other) for one, other in pairwise(places) if other > one]
    for _ in range(chance.randrange(3)):
        one = chance.randrange(length + 1)
        again = (one, min(length, one + chance.randrange(1, 40)))
        if again[1] > again[0]:
            segments.insert(chance.randrange(len(segments) + 1), again)
    for _ in range(chance.randrange(3)):
        if len(segments) > 1:
            here = chance.randrange(len(segments) - 1)
            segments[here : here + 2] = reversed(segments[here : here + 2])
    return segments


def covered(parts: list[tuple[int, int]]) -> set[int]:
    return {place for start, end in parts for place in range(start, end)}


class Seen:
    """Two streams as three points on two nodes saw them, and what of them was captured."""

    def __init__(self, chance: random.Random, *, lossy: bool, snap: bool, handshake: bool) -> None:
        self.streams = [chance.randbytes(chance.randrange(MOST_BYTES)) for _ in range(2)]
        self.isn = [chance.choice((chance.randrange(WRAP), WRAP - chance.randrange(MOST_BYTES))) for _ in range(2)]
        self.fin = [chance.random() < 0.5 for _ in range(2)]
        self.sightings: list[Sighting] = []
        self.captured: list[list[tuple[int, int]]] = [[], []]
        self.sent: list[list[tuple[int, int]]] = [[], []]
        self.ended = [False, False]
        starts: list[list[int]] = [[], []]
        for node, point in POINTS:
            snaplen = chance.choice((None, HEADERS, HEADERS + 7, HEADERS + 30)) if snap else None
            time = SHIFT_MS[node] + point / 8
            for side, stream in enumerate(self.streams):
                if handshake and (point == 0 or chance.random() < 0.5):
                    self._see(time, "SA" if side else "S", side, -1, 0, node, point, snaplen)
                for start, end in [*cut(len(stream), chance), (len(stream), len(stream))]:
                    time += 1
                    fin = self.fin[side] and end == len(stream)
                    if (lossy and chance.random() < 0.3) or (start == end and not fin):
                        continue
                    self._see(time, "FA" if fin else "A", side, start, end, node, point, snaplen)
                    starts[side].append(start)
                    self.sent[side].append((start, end))
                    self.captured[side].append((start, end if snaplen is None else min(end, start + snaplen - HEADERS)))
                    self.ended[side] |= fin
        # without a handshake, places count from the lowest number seen
        self.base = [0 if handshake else min(each, default=0) for each in starts]

    def _see(self, time: float, flags: str, side: int, start: int, end: int, node: int, point: int, snaplen: int | None) -> None:
        payload = self.streams[side][max(start, 0) : end]
        self.sightings.append(
            tcp(time, flags, self.isn[side] + 1 + start, payload, reply=bool(side), node=node, point=point, snaplen=snaplen)
        )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chance=st.randoms(use_true_random=False), lossy=st.booleans(), snap=st.booleans(), handshake=st.booleans())
def test_every_byte_that_any_point_captured_is_there_once(chance: random.Random, lossy: bool, snap: bool, handshake: bool) -> None:
    seen = Seen(chance, lossy=lossy, snap=snap, handshake=handshake)
    found, content = pieces_of(seen.sightings)
    for side, stream in enumerate(seen.streams):
        mine = np.flatnonzero(found["reply"] == side).tolist()
        offset, wire, size_ = (
            (found[name][mine] + (seen.base[side] if name == "offset" else 0)).tolist() for name in ("offset", "wire", "size")
        )
        read = [(start, start + length) for start, length in zip(offset, size_, strict=True)]
        there = [(start, start + length) for start, length in zip(offset, wire, strict=True)]
        for row, (start, end) in zip(mine, read, strict=True):
            assert content[row] == stream[start:end]
        assert covered(read) == covered(seen.captured[side])
        assert sum(size_) == len(covered(read)), "no byte twice"
        assert covered(there) == covered(seen.sent[side]), "what was not captured is known to have been there"
        assert sum(wire) == len(covered(there))
        assert offset == sorted(offset), "in the order of the stream"
        ends = [there[place][1] for place, row in enumerate(mine) if found["fin"][row]]
        assert ends == [len(stream)] * seen.ended[side], "the end once, behind the last byte"


@settings(max_examples=60, deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_whole_streams_come_out_whole(chance: random.Random) -> None:
    """What one point dropped and another saw is not missed."""
    seen = Seen(chance, lossy=False, snap=False, handshake=True)
    found, content = pieces_of([each for each in seen.sightings if each.point != 0 or each.packet[33] & 2 or chance.random() < 0.5])
    for side, stream in enumerate(seen.streams):
        assert b"".join(part for part, reply in zip(content, found["reply"].tolist(), strict=True) if reply == side) == stream


def conversation(rounds: int) -> list[tuple[bool, bytes]]:
    return [(bool(turn % 2), f"{'answer' if turn % 2 else 'question'} {turn // 2}.".encode()) for turn in range(2 * rounds)]


def talk(rounds: int, *, missed: set[int], elsewhere: tuple[int, int]) -> list[Sighting]:
    """Question and answer in turns, whole at the point `elsewhere` (node, point), later than at point 0, which missed some.

    A long upload that only point 0 saw makes it the best of both.
    """
    node, point = elsewhere
    seen, at = [], [1001, 5001]
    for number, (reply, text) in enumerate(conversation(rounds)):
        seen += [] if number in missed else [tcp(number, "A", at[reply], text, reply=reply)]
        seen.append(
            tcp(SHIFT_MS[node] + number + 0.2, "A", at[reply], text, reply=reply, node=node, point=point, snaplen=HEADERS + len(text))
        )
        at[reply] += len(text)
    last = tcp(len(seen) + 2, "A", at[0], b"the rest of a long upload" * 9)
    return [tcp(-2, "S", 1000), tcp(-1, "SA", 5000, reply=True), *seen, last]


@pytest.mark.parametrize("missed", [set(), {0}, {1}, {2}, {3}, {6}, {7}, {1, 2}, {2, 3, 4}])
def test_turns_are_kept_where_another_point_of_the_node_saw_what_was_missed(missed: set[int]) -> None:
    _, content = pieces_of(talk(4, missed=missed, elsewhere=(0, 1)))
    assert content[:-1] == [text for _, text in conversation(4)]


@pytest.mark.parametrize("missed", range(8))
def test_no_answer_comes_before_its_question_for_being_seen_on_another_node_only(missed: int) -> None:
    found, content = pieces_of(talk(4, missed={missed}, elsewhere=(1, 2)))
    asked = 0
    for reply, text in zip(found["reply"].tolist(), content, strict=True):
        asked += not reply
        if reply:
            assert asked > int(text.decode().rpartition(" ")[2].strip(".")), content


def test_what_is_not_wanted_is_left_out() -> None:
    seen = [tcp(0, "A", 1, b"a"), tcp(0, "A", 1, b"bc", connection=1), udp(0, b"defg", connection=2)]
    observations, table = decoded(seen)
    for wanted, total in (([True, False, False], 1), ([False, True, True], 6), ([False] * 3, 0)):
        found = pieces(table, observations, np.array(wanted))
        assert int(found["size"].sum()) == total
    assert size(pieces(table, observations, np.zeros(3, bool))) == 0


def test_datagrams_are_read_at_the_point_that_saw_most() -> None:
    seen = [udp(n, f"q{n}".encode(), point=point, node=point) for n in range(5) for point in range(2) if (n, point) != (2, 0)]
    seen += [udp(7, b"answer", reply=True, point=point, node=point) for point in range(2)]
    found, content = pieces_of(seen)
    assert content == [b"q0", b"q1", b"q2", b"q3", b"q4", b"answer"]
    assert found["offset"].tolist() == [0, 1, 2, 3, 4, 0]
    assert not found["stream"].any()
