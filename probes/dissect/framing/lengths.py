"""Messages that begin with their length: a row per protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from probes.dissect.framing.cutter import MOST_HEAD_BYTES, Framer, Side, Skip, Take, Talk


@dataclass(frozen=True, slots=True)
class Prefix:
    """`size` bytes come first; `length` reads from them how many follow; `fits` says whether they can be a beginning."""

    size: int
    length: Callable[[bytes], int]
    fits: Callable[[bytes, bool], bool]
    keep: Callable[[bytes], int] = lambda _head: MOST_HEAD_BYTES
    ends_at_loss: bool = False  # what follows cannot be read without what is missing (HPACK, TLS)


def _big(head: bytes, start: int, end: int) -> int:
    return int.from_bytes(head[start:end], "big")


def _little(head: bytes, start: int, end: int) -> int:
    return int.from_bytes(head[start:end], "little")


PREFIXES = {
    # RFC 1035, 4.2.2
    "dns": Prefix(2, lambda head: _big(head, 0, 2), lambda head, _: _big(head, 0, 2) >= 12),
    # "MySQL Packets"; a turn of the client begins with number 0, one of the server with 0 or 1
    "mysql": Prefix(4, lambda head: _little(head, 0, 3), lambda head, forward: head[3] <= (0 if forward else 1) and head[:3] != b"\0\0\0"),
    # KIP "Protocol guide"
    "kafka": Prefix(4, lambda head: _big(head, 0, 4), lambda head, _: 4 <= _big(head, 0, 4) < 1 << 28),
    # MongoDB manual, "Wire Protocol": the length counts itself
    "mongodb": Prefix(
        16, lambda head: _little(head, 0, 4) - 16,
        lambda head, _: 16 <= _little(head, 0, 4) < 1 << 26 and _little(head, 12, 16) in (1, 2004, 2010, 2011, 2012, 2013),
    ),
    # AMQP 0-9-1, 2.3.5: type, channel, size; the frame's end octet follows
    "amqp": Prefix(7, lambda head: _big(head, 3, 7) + 1, lambda head, _: head[0] in (1, 2, 3, 8) and _big(head, 3, 7) < 1 << 24),
    # RFC 9113, 4.1; DATA is not looked into
    "http2": Prefix(
        9, lambda head: _big(head, 0, 3), lambda head, _: head[3] <= 9 and head[5] < 128,
        keep=lambda head: 0 if head[3] == 0 else MOST_HEAD_BYTES, ends_at_loss=True,
    ),
    # RFC 8446, 5.1
    "tls": Prefix(
        5, lambda head: _big(head, 3, 5), lambda head, _: 20 <= head[0] <= 23 and head[1] == 3 and _big(head, 3, 5) <= 1 << 14 | 2048,
        ends_at_loss=True,
    ),
}  # fmt: skip
# What a client says first where that has another shape.
_PREFACES = {"http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "amqp": b"AMQP"}
_SHORT = 4  # bytes that tell a preface from a frame
_PREFACE_SIZES = {"http2": 24, "amqp": 8}


class Prefixed(Talk):
    """A protocol of PREFIXES. A MySQL client may go over to TLS."""

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.protocol = protocol
        self.row = PREFIXES[protocol]
        self.preface = _PREFACES.get(protocol)
        self.stopped = False

    def begins(self, payload: bytes, side: Side) -> bool:
        """Whether a message can begin so."""
        if self.stopped:
            return False
        if self.preface is not None and payload.startswith(self.preface[:_SHORT]):
            return True
        login = self.protocol == "mysql" and side.at == 0 and payload[3:4] == b"\1"  # answers the server's greeting, number 0
        return login or (len(payload) >= self.row.size and self.row.fits(payload[: self.row.size], side.forward))

    def lost(self, side: Side) -> None:
        """Responses that follow cannot be counted."""
        if self.row.ends_at_loss and (side.forward or self.messages):
            self.stopped = True

    def framer(self, side: Side) -> Framer | None:
        """How the side's next message is found."""
        if self.stopped:
            return None
        if self.protocol == "mysql" and side.buffer.startswith(b"\x16\x03") and self.messages:
            self.protocol, self.row = "tls", PREFIXES["tls"]
        return self._message(side)

    def _message(self, side: Side) -> Framer:
        row = self.row
        head = yield Take(_SHORT if self.preface else row.size)
        if self.preface:
            if head == self.preface[:_SHORT]:
                yield Take(_PREFACE_SIZES[self.protocol] - _SHORT)
                return
            head += yield Take(row.size - _SHORT)
        if not row.fits(head, side.forward) and self.protocol != "mysql":
            raise ValueError(head)
        yield Skip(row.length(head), keep=row.keep(head))
