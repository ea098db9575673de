"""Cutting streams: however the bytes come, the messages are the same; whatever they are, nothing breaks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.dissect import Piece
from probes.dissect.framing import RECIPES, Framed, framed

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
TALKS: dict[str, list[tuple[bool, list[bytes]]]] = {
    "http": [
        (True, [b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"]),
        (False, [CHUNKED, b"HTTP/1.1 204 No Content\r\n\r\n"]),
        (True, [b"HEAD /c HTTP/1.1\r\n\r\n"]),
        (False, [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"]),
    ],
    "redis": [
        (True, [b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"*1\r\n$4\r\nPING\r\n"]),
        (False, [b"%1\r\n$1\r\na\r\n*2\r\n:1\r\n_\r\n", b"+PONG\r\n", b">2\r\n+message\r\n$0\r\n\r\n"]),
    ],
    "postgresql": [
        (True, [b"\0\0\0\x08\x04\xd2\x16\x2f"]),
        (False, [b"N"]),
        (True, [b"\0\0\0\x0b\0\3\0\0a\0\0"]),
        (False, [b"R\0\0\0\x08\0\0\0\0", b"Z\0\0\0\5I"]),
        (True, [b"Q\0\0\0\x0dselect 1\0"]),
        (False, [b"C\0\0\0\x0dSELECT 1\0", b"Z\0\0\0\5I"]),
    ],
    "mysql": [(False, [b"\5\0\0\0\x0a8.0\0"]), (True, [b"\3\0\0\1abc"]), (False, [b"\1\0\0\2\0"]), (True, [b"\5\0\0\0\3ping"])],
    "amqp": [(True, [b"AMQP\0\0\x09\x01"]), (False, [b"\1\0\0\0\0\0\4\0\x0a\0\x0a\xce"])],
    "http2": [(True, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"]), (False, [b"\0\0\1\0\1\0\0\0\1x"])],
}


def pieces_of(talk: list[tuple[bool, list[bytes]]], sizes: list[int]) -> list[Piece]:
    """The talk in pieces of the given sizes, over and over."""
    at = {True: 0, False: 0}
    found: list[Piece] = []
    for forward, messages in talk:
        rest = b"".join(messages)
        while rest:
            size = sizes[len(found) % len(sizes)]
            found.append(Piece(0, forward, at[forward], rest[:size], len(rest[:size]), len(found)))
            at[forward] += len(rest[:size])
            rest = rest[size:]
    return found


def places(messages: list[Framed]) -> list[tuple[bool, int, int]]:
    return sorted((message.forward, message.start, message.end) for message in messages)


@pytest.mark.parametrize("name", TALKS)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_messages_do_not_depend_on_packets(name: str, sizes: list[int]) -> None:
    expected, at = [], {True: 0, False: 0}
    for forward, messages in TALKS[name]:
        for message in messages:
            expected.append((forward, at[forward], at[forward] + len(message)))
            at[forward] += len(message)
    assert places(framed(name, pieces_of(TALKS[name], sizes))) == sorted(expected)


@given(
    name=st.sampled_from(sorted(RECIPES)),
    parts=st.lists(st.tuples(st.booleans(), st.binary(max_size=60), st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_garbage_is_cut_into_something_or_nothing(name: str, parts: list[tuple[bool, bytes, int, int, bool]]) -> None:
    at = {True: 0, False: 0}
    pieces = []
    for forward, payload, missing, cut, end in parts:
        at[forward] += missing
        pieces.append(Piece(0, forward, at[forward], payload, len(payload) + cut, 0, end))
        at[forward] += len(payload) + cut
    for message in framed(name, pieces):
        assert 0 <= message.start <= message.end <= at[message.forward]
        assert message.head or message.size == 0
    ordered = [message for message in framed(name, pieces) if message.forward]
    assert all(before.end <= after.start for before, after in itertools.pairwise(ordered))


def test_tls_after_a_postgresql_question_is_recognised() -> None:
    hello = b"\x16\x03\x01\0\5hello"
    talk = [(True, [b"\0\0\0\x08\x04\xd2\x16\x2f"]), (False, [b"S"]), (True, [hello]), (False, [b"\x17\x03\x03\0\2ab"])]
    found = framed("postgresql", pieces_of(talk, [100]))
    assert [message.protocol for message in found] == ["postgresql", "postgresql", "tls", "tls"]
