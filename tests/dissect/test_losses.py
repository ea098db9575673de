"""Bytes that were not captured: what is still paired is paired right, and little else is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from probes.dissect import Exchange, Piece

from .lab import Conversation, reread
from .recordings import RECORDINGS

Damage = Callable[[list[Piece], random.Random], list[Piece]]
VARIANTS = 31


def range_missing(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """Any contiguous range of one side is missing."""
    forward = chance.random() < 0.5
    end = max((piece.offset + piece.wire for piece in pieces if piece.forward == forward), default=0)
    start = chance.randrange(max(end, 1))
    return without(pieces, forward, start, start + chance.choice((1, 7, 40, 300, 3000, 40_000)))


def without(pieces: list[Piece], forward: bool, start: int, end: int) -> list[Piece]:
    return [part for piece in pieces for part in (_around(piece, start, end) if piece.forward == forward else [piece])]


def _around(piece: Piece, start: int, end: int) -> Iterator[Piece]:
    here, there = max(start - piece.offset, 0), min(end - piece.offset, len(piece.payload))
    if here >= there:
        yield piece
        return
    if here:
        yield replace(piece, payload=piece.payload[:here], wire=here, end=False)
    if there < len(piece.payload):
        yield replace(piece, offset=piece.offset + there, payload=piece.payload[there:], wire=len(piece.payload) - there)


def piece_missing(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """Any piece is missing."""
    lost = chance.randrange(len(pieces))
    return pieces[:lost] + pieces[lost + 1 :]


def pieces_missing(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """One piece in ten is missing."""
    return [piece for piece in pieces if chance.random() > 0.1] or pieces[:1]


def begun_late(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """The capture began inside the connection: places count from the first byte seen."""
    rest = pieces[chance.randrange(len(pieces)) :]
    first = {forward: next((piece.offset for piece in rest if piece.forward == forward), 0) for forward in (True, False)}
    return [replace(piece, offset=piece.offset - first[piece.forward]) for piece in rest]


def cut_short(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """Every packet was captured up to a length, IP and TCP headers included."""
    most = chance.choice((96, 128, 200)) - 66
    return [replace(piece, payload=piece.payload[:most]) for piece in pieces]


# How many of a keep-alive connection's exchanges have to be left: what is lost is what was in the missing bytes, and its neighbours.
_SURVIVE: dict[Damage, float] = {range_missing: 0.5, piece_missing: 0.85, cut_short: 0.99}
DAMAGES: tuple[Damage, ...] = (range_missing, piece_missing, pieces_missing, begun_late, cut_short)


def shifts(before: list[Piece], after: list[Piece], forward: bool) -> int:
    """By how much the places of a side have moved."""
    times = {piece.time_ns: piece.offset for piece in before if piece.forward == forward}
    return next((times[piece.time_ns] - piece.offset for piece in after if piece.forward == forward and piece.offset == 0), 0)


def wrong(truth: list[Exchange], found: list[Exchange], moved: tuple[int, int]) -> list[Exchange]:
    """The pairs in `found` that are not in `truth`."""
    by_request = {exchange.request_start: exchange for exchange in truth}
    bad = []
    for exchange in found:
        if exchange.request_start < 0 or exchange.response_start < 0:
            continue
        true = by_request.get(exchange.request_start + moved[0])
        same = true is not None and true.response_start <= exchange.response_start + moved[1] < true.response_end
        if not same or (true is not None and exchange.status not in (None, true.status) and exchange.problem is None):
            bad.append(exchange)
    return bad


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", RECORDINGS)
def test_pairs_that_survive_damage_are_right(name: str, damage: Damage, recording: Callable[[str], list[Conversation]]) -> None:
    for talk in recording(name):
        if len(talk.exchanges) < 3 or talk.protocol is None:
            continue
        chance = random.Random(f"{name} {damage.__name__}")
        variants = [damage(talk.pieces, chance) for _ in range(VARIANTS)]
        kept = 0
        for variant, found in zip(variants, reread(variants, talk.protocol), strict=True):
            late = damage is begun_late
            moved = tuple(shifts(talk.pieces, variant, forward) if late else 0 for forward in (True, False))
            assert wrong(talk.exchanges, found, (moved[0], moved[1])) == []
            kept += sum(exchange.request_start >= 0 and exchange.response_start >= 0 for exchange in found)
        if name == "keepalive-http" and damage in _SURVIVE:
            assert kept > _SURVIVE[damage] * VARIANTS * len(talk.exchanges)
