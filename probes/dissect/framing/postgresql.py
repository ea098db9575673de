"""PostgreSQL messages (PostgreSQL manual, "Message Formats"): a type and a length, but for what begins a connection."""

from __future__ import annotations

from probes.dissect.framing.cutter import MOST_HEAD_BYTES, Framer, Side, Skip, Take, Talk
from probes.dissect.framing.lengths import PREFIXES, Prefixed

_CLIENT = b"QPBEDCFHSXdcfp"
_SERVER = b"RKSTDCEZN123nstIGHWAdcVv"
_SSL_REQUEST, _GSS_REQUEST = b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"


class Postgresql(Talk):
    """A client asks for TLS before it says anything else; the answer is one letter."""

    protocol = "postgresql"

    def __init__(self) -> None:
        super().__init__()
        self.asked_for_tls = False
        self.tls: Prefixed | None = None

    def begins(self, payload: bytes, side: Side) -> bool:
        """Whether a message can begin so."""
        if self.tls is not None:
            return False
        startup = side.forward and payload[:1] == b"\0" and len(payload) >= 8
        letter = payload[0] in (_CLIENT if side.forward else _SERVER) and payload[1:2] in (b"", b"\0")
        return startup or letter

    def framer(self, side: Side) -> Framer | None:
        """How the side's next message is found."""
        if not side.forward and self.asked_for_tls:
            return self._letter()
        if self.protocol == "tls":
            return _record()
        return _startup(self) if side.forward and side.buffer[:1] == b"\0" else _message(side)

    def _letter(self) -> Framer:
        self.asked_for_tls = False
        answer = yield Take(1)
        if answer in (b"S", b"G"):
            self.protocol = "tls"


def _startup(talk: Postgresql) -> Framer:
    head = yield Take(8)
    talk.asked_for_tls = head[4:] in (_SSL_REQUEST, _GSS_REQUEST)
    yield Skip(int.from_bytes(head[:4], "big") - 8, keep=MOST_HEAD_BYTES)


def _message(side: Side) -> Framer:
    head = yield Take(5)
    size = int.from_bytes(head[1:], "big")
    if head[0] not in (_CLIENT if side.forward else _SERVER) or size < 4:
        raise ValueError(head)
    yield Skip(size - 4, keep=MOST_HEAD_BYTES)


def _record() -> Framer:
    row = PREFIXES["tls"]
    head = yield Take(row.size)
    yield Skip(row.length(head), keep=row.keep(head))
