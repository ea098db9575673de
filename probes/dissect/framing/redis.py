"""Redis serialization protocol, versions 2 and 3 ("Redis serialization protocol specification")."""

from __future__ import annotations

import re

from probes.dissect.framing.cutter import Framer, Side, Skip, Talk, Until

_KEPT_BYTES = 64  # of a value
_COUNTED = b"*~>%|"
_SIZED = b"$!="
_SIMPLE = b"+-:_#,("
_COMMAND = re.compile(rb"\*\d+\r\n|[A-Za-z]{2,20}( [!-~]+)*\r\n")


class Redis(Talk):
    """Commands are arrays of strings, or a line (an inline command)."""

    protocol = "redis"

    def begins(self, payload: bytes, side: Side) -> bool:
        """Whether a message can begin so."""
        if side.forward:
            return bool(_COMMAND.match(payload))
        return payload[:1] in {bytes([letter]) for letter in _COUNTED + _SIZED + _SIMPLE}

    def framer(self, side: Side) -> Framer | None:
        """How the side's next message is found."""
        return _values(side)


def _values(side: Side) -> Framer:
    left, line = 1, b""
    while left:
        line = yield Until(b"\r\n")
        left -= 1
        kind, rest = line[:1], line[1:-2]
        if kind in (b"*", b"~", b">"):
            left += max(int(rest), 0)
        elif kind == b"%":
            left += 2 * int(rest)
        elif kind == b"|":  # attributes go before the value they belong to
            left += 2 * int(rest) + 1
        elif kind in (b"$", b"!", b"="):
            size = int(rest)
            if size >= 0:
                yield Skip(size + 2, keep=_KEPT_BYTES)
        elif not (kind in (b"+", b"-", b":", b"_", b"#", b",", b"(") or (side.forward and kind.isalpha())):
            raise ValueError(line)
