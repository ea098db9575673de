"""HTTP/1.x messages (RFC 9112): a head, and a body whose length the head tells (section 6.3)."""

from __future__ import annotations

import re
from collections import deque

from probes.dissect.framing.cutter import Framer, Side, Skip, Talk, Until

_REQUEST = re.compile(rb"[A-Z][A-Z_-]{0,31} [^\s]+ HTTP/1\.\d\r?$")
_RESPONSE = re.compile(rb"HTTP/1\.\d (\d\d\d)(?=[ \r\n])")
_REQUEST_BEGINS = re.compile(rb"[A-Z][A-Z_-]{2,31} [^\s\0]")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding:[^\n]*chunked", re.IGNORECASE)
_UPGRADE = re.compile(rb"\nupgrade:[ \t]*([\w-]+)", re.IGNORECASE)


class Http1(Talk):
    """What responses are like depends on what was asked: HEAD and CONNECT have no body, 101 and CONNECT end HTTP."""

    protocol = "http"

    def __init__(self) -> None:
        super().__init__()
        self.asked: deque[tuple[bytes, int]] = deque()  # method and turn of requests without answer
        self.becomes: str | None = None  # what is spoken after HTTP, "" where that is not read

    def begins(self, payload: bytes, side: Side) -> bool:
        """Whether a message can begin so."""
        return self.becomes is None and bool((_REQUEST_BEGINS if side.forward else _RESPONSE).match(payload))

    def lost(self, side: Side) -> None:
        """Responses that follow cannot be counted."""
        if not side.forward:
            self.asked.clear()

    def framer(self, side: Side) -> Framer | None:
        """How the side's next message is found."""
        if self.becomes is not None:
            return None
        return self._request(side) if side.forward else self._response(side)

    def _request(self, side: Side) -> Framer:
        head = yield Until(b"\r\n\r\n")
        line = head[: head.index(b"\r\n")]
        if not _REQUEST.match(line):
            raise ValueError(line)
        self.asked.append((line[: line.index(b" ")], side.talk.turn))
        yield from _body(head, otherwise=0)

    def _response(self, side: Side) -> Framer:
        head = yield Until(b"\r\n\r\n")
        found = _RESPONSE.match(head)
        if found is None:
            raise ValueError(head[:16])
        code = int(found[1])
        if 100 <= code < 200 and code != 101:
            return
        if side.current is not None and side.current.broken:
            self.asked = deque(entry for entry in self.asked if entry[1] == self.turn - 1)
        method = self.asked.popleft()[0] if self.asked else b""
        if code == 101 or (method == b"CONNECT" and 200 <= code < 300):
            upgrade = _UPGRADE.search(head)
            self.becomes = upgrade[1].decode().lower() if upgrade else ""
        elif method != b"HEAD" and code not in (204, 304):
            yield from _body(head, otherwise=None)


def _body(head: bytes, otherwise: int | None) -> Framer:
    """Go past the body; `otherwise` is its length where the head says none."""
    if _CHUNKED.search(head):
        while True:
            line = yield Until(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            yield Skip(size, body=True)
            yield Skip(2)
        while (yield Until(b"\r\n")) != b"\r\n":
            pass
        return
    length = _LENGTH.search(head)
    yield Skip(int(length[1]) if length else otherwise, body=True)
