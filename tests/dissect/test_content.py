"""What tells protocols apart, and what is done where nothing does."""

from __future__ import annotations

import pytest

from probes.dissect import Piece, read, recognise, turns
from probes.dissect.framing import framed
from probes.dissect.words import words, words_of_body

HEADS = {
    "http": (b"GET /x HTTP/1.1\r\n", b""),
    "http of the server alone": (b"", b"HTTP/1.1 200 OK\r\n"),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
    "tls": (b"\x16\x03\x01\x02\0\x01\0", b""),
    "mysql": (b"", b"J\0\0\0\x0a8.0.36\0"),
    "postgresql": (b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"),
    "redis": (b"*1\r\n$4\r\nPING\r\n", b""),
    "redis inline": (b"PING\r\n", b"+PONG\r\n"),
    "amqp": (b"AMQP\0\0\x09\x01", b""),
    "nats": (b"", b'INFO {"server_id":"x"}\r\n'),
    "proxy": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b""),
    "proxy 2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", b""),
}


@pytest.mark.parametrize("name", HEADS)
def test_protocols_are_known_by_how_they_begin(name: str) -> None:
    assert recognise(*HEADS[name], (40_000,)) == name.split(maxsplit=1)[0]


@pytest.mark.parametrize("head", [b"", b"\0", b"hello\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"EHLO x\r\n", bytes(range(64))])
def test_what_nothing_tells_is_not_guessed(head: bytes) -> None:
    assert recognise(head, b"", (40_000,)) is None


def test_a_protocol_that_tshark_cannot_read_is_unread_for_that_reason() -> None:
    said = b"CONNECT {}\r\nPING\r\n"
    pieces = [Piece(3, False, 0, b"INFO {}\r\n", 9, 1), Piece(3, True, 0, said, len(said), 2)]
    found = read(pieces, {3: "nats"})
    assert found.exchanges == {}
    assert found.unread == {3: "tshark has no dissector for nats"}


def test_nats_lines_are_cut_with_what_they_carry() -> None:
    said = b"CONNECT {}\r\nPUB shop.orders 7\r\nPING\r\n\n\r\nPING\r\n"
    cut = framed("nats", [Piece(0, True, 0, said[:20], 20, 1), Piece(0, True, 20, said[20:], len(said) - 20, 2)])
    assert [bytes(message.head) for message in cut] == [b"CONNECT {}\r\n", b"PUB shop.orders 7\r\nPING\r\n\n\r\n", b"PING\r\n"]


# reply, offset, wire
TURNS: dict[str, tuple[list[tuple[int, int, int]], list[tuple[int, int, int, int]]]] = {
    "nothing": ([], []),
    "question and answer": ([(0, 0, 5), (1, 0, 7)], [(0, 5, 0, 7)]),
    "pieces of one turn are one": ([(0, 0, 5), (0, 5, 5), (1, 0, 7), (1, 7, 1)], [(0, 10, 0, 8)]),
    "a greeting is none": ([(1, 0, 20), (0, 0, 5), (1, 20, 7)], [(0, 5, 20, 27)]),
    "no answer yet": ([(0, 0, 5)], [(0, 5, -1, -1)]),
    "two turns": ([(0, 0, 5), (1, 0, 7), (0, 5, 2), (1, 7, 3)], [(0, 5, 0, 7), (5, 7, 7, 10)]),
    "an end without bytes changes nothing": ([(0, 0, 5), (1, 0, 0), (0, 5, 1), (1, 0, 7)], [(0, 6, 0, 7)]),
    "the capture began late": ([(0, -3, 5), (1, 0, 7)], [(-3, 2, 0, 7)]),
}


@pytest.mark.parametrize("name", TURNS)
def test_turns_are_exchanges(name: str) -> None:
    rows, expected = TURNS[name]
    found = turns([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    assert [(one.request_start, one.request_end, one.response_start, one.response_end) for one in found] == expected
    assert {(one.protocol, one.operation, one.status) for one in found} <= {("exchange", None, None)}


def test_turns_are_taken_in_the_order_given() -> None:
    assert turns([1, 0], [0, 0], [7, 5], order=[20, 10]) == turns([0, 1], [0, 0], [5, 7])


def test_a_row_and_the_body_that_shows_it_share_words() -> None:
    row = words(["4711", "blue widget", "9.50", "x"], 8)
    page = words_of_body(b"<ul class='items'><li id=4711>Blue <b>widget</b> for 9.50 EUR</li></ul>", "text/html; charset=utf-8")
    answer = words_of_body(b'{"id": 4711, "name": "blue widget", "price": "9.50"}', "application/json")
    assert row == ["4711", "9.50", "blue", "widget"]
    assert set(page) >= {"widget", "9.50"}
    assert set(answer) == set(row), "names of a JSON object are no words"
    assert words_of_body(b"\x89PNG 4711", "image/png") == []
