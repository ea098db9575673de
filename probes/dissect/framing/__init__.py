"""Streams cut into messages, without knowing what they say.

`framed` is the entrance. A protocol that is cut has a row in RECIPES; others go to Wireshark's dissectors as streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from probes.dissect.content import recognise
from probes.dissect.feed import Piece
from probes.dissect.framing.cutter import MOST_BODY_BYTES, Body, Framed, Recipe, cut, digest
from probes.dissect.framing.http1 import Http1
from probes.dissect.framing.lengths import PREFIXES, Prefixed
from probes.dissect.framing.nats import Nats
from probes.dissect.framing.postgresql import Postgresql
from probes.dissect.framing.proxied import behind, without_header
from probes.dissect.framing.redis import Redis

RECIPES: dict[str, Recipe] = {
    "http": Http1, "nats": Nats, "redis": Redis, "postgresql": Postgresql, **{name: partial(Prefixed, name) for name in PREFIXES}
}  # fmt: skip

__all__ = ["MOST_BODY_BYTES", "RECIPES", "Body", "Framed", "digest", "framed"]


def framed(protocol: str, pieces: Sequence[Piece]) -> list[Framed]:
    """The messages of a connection that speaks `protocol`, from its pieces in the order in which they became readable."""
    header: list[Framed] = []
    start = 0
    if protocol == "proxy":
        header, pieces = without_header(pieces)
        start = header[0].end if header else 0
        client, server = (next((piece.payload for piece in pieces if piece.forward == side), b"") for side in (True, False))
        protocol = recognise(client, server, ()) or ""
    if protocol not in RECIPES:
        return header
    talk = RECIPES[protocol]()
    messages = cut(talk, pieces, start)
    if isinstance(talk, Http1) and talk.becomes == "h2c":
        messages += _upgraded(messages, pieces)
    return header + messages


def _upgraded(messages: Sequence[Framed], pieces: Sequence[Piece]) -> list[Framed]:
    """What follows the upgrade to HTTP/2 (RFC 7540, 3.2)."""
    ends = {forward: max((message.end for message in messages if message.forward == forward), default=0) for forward in (True, False)}
    rest = [part for piece in pieces if (part := behind(piece, ends[piece.forward])) is not None]
    return cut(Prefixed("http2"), rest, ends[True], ends[False])
