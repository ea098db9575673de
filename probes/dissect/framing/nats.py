"""NATS client protocol (NATS manual, "Client Protocol"): lines; what is published or delivered follows its line."""

from __future__ import annotations

import re

from probes.dissect.framing.cutter import MOST_HEAD_BYTES, Framer, Side, Skip, Talk, Until

_BEGINS = re.compile(rb"(CONNECT|H?PUB|SUB|UNSUB|PING|PONG|INFO|H?MSG|\+OK|-ERR)[ \r]", re.IGNORECASE)
_CARRIES = (b"PUB", b"HPUB", b"MSG", b"HMSG")


class Nats(Talk):
    """The last word of a line that carries something is its size."""

    protocol = "nats"

    def begins(self, payload: bytes, side: Side) -> bool:
        """A line that begins with one of the protocol's words."""
        del side
        return bool(_BEGINS.match(payload))

    def framer(self, side: Side) -> Framer | None:
        """A line, and what it carries."""
        del side
        return _line()


def _line() -> Framer:
    line = yield Until(b"\r\n")
    if not _BEGINS.match(line):
        raise ValueError(line)
    name, *arguments = line.split()
    if name.upper() in _CARRIES:
        yield Skip(int(arguments[-1]) + 2, keep=MOST_HEAD_BYTES)
