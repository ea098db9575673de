"""The PROXY protocol's header (HAProxy, "The PROXY protocol", versions 1 and 2) before a connection's own protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probes.dissect.feed import Piece
from probes.dissect.framing.cutter import Framed

_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST = 107  # bytes of a version 1 header


def header_size(head: bytes) -> int | None:
    """How many bytes of `head` are a PROXY header; None where it has none, or not all of it."""
    if head.startswith(b"PROXY "):
        end = head.find(b"\r\n", 0, _LONGEST)
        return end + 2 if end > 0 else None
    if head.startswith(_V2) and len(head) >= 16:
        size = 16 + int.from_bytes(head[14:16], "big")
        return size if len(head) >= size else None
    return None


def without_header(pieces: Sequence[Piece]) -> tuple[list[Framed], list[Piece]]:
    """The client's PROXY header as a message (none where it is not all there), and the pieces without it."""
    head = b""
    first = next((piece for piece in pieces if piece.forward), None)
    for piece in pieces:
        if piece.forward and header_size(head) is None:
            head += piece.payload
    size = header_size(head)
    if size is None or first is None:
        return [], list(pieces)
    end = first.offset + size
    header = Framed("proxy", True, first.offset, 0, 0, 0, False, False, first.time_ns, end, bytearray(head[:size]), size=size, whole=True)
    rest = [behind(piece, end) if piece.forward else piece for piece in pieces]
    return [header], [piece for piece in rest if piece is not None]


def behind(piece: Piece, place: int) -> Piece | None:
    """What of a piece stands behind `place` in its stream; None where nothing does."""
    skip = max(place - piece.offset, 0)
    if skip == 0:
        return piece
    if skip >= piece.wire and not piece.end:
        return None
    return replace(piece, offset=piece.offset + skip, payload=piece.payload[skip:], wire=max(piece.wire - skip, 0))
