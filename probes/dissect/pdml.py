"""What tshark prints (`-T pdml`) as layers: which protocol's message stands where in which packet, and its fields."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO
from xml.parsers import expat

from probes.dissect.framing import MOST_BODY_BYTES, Framed, digest

Fields = dict[str, list[str]]
BODY = "http.file_data"  # kept as a digest: bodies are compared, never shown
_READ_BYTES = 1 << 18
_REASSEMBLED = ("tcp.segments", "tls.segments")
# "3 Reassembled TCP Segments (3041 bytes): #2(1000), #3(1000), #4(1041)"
_SEGMENTS = re.compile(r"bytes\): #(\d+)\(")
# XML has no control characters, and tshark lets some through
_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")


@dataclass(slots=True)
class Layer:
    """One message of a protocol, from packets `first` to `frame`.

    `groups` are its parts where the protocol puts several into one (HTTP/2: frames). `forward` is whether the client sent it, `message`
    what it is where streams were cut into messages: whoever made the packets fills them in.
    """

    name: str
    frame: int
    first: int
    fields: Fields = field(default_factory=dict)
    groups: list[Fields] = field(default_factory=list)
    forward: bool = True
    message: Framed | None = None
    body: bytes = b""  # of HTTP inside TLS: the content's first bytes


class _Reader:
    """Takes XML as it comes; `layers` are those finished since they were last taken."""

    def __init__(self, wanted: frozenset[str], parts: frozenset[str]) -> None:
        self._wanted, self._parts = wanted, parts
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._frame = 0
        self._first: int | None = None  # packet in which what is reassembled in this one began
        self._layer: Layer | None = None
        self._depth = 0  # of <field> inside the layer,
        self._group_depth = 0  # and of the part that is being read
        self.layers: list[Layer] = []

    def feed(self, chunk: bytes, *, final: bool) -> None:
        self._parser.Parse(self._decoder.decode(chunk, final).translate(_CONTROLS), final)

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        if element == "field":
            self._field(attributes)
        elif element == "packet":
            self._first = None
        elif element == "proto" and attributes["name"] in self._wanted:
            self._layer = Layer(attributes["name"], self._frame, self._first or self._frame)
            self._first = None
            self._depth = self._group_depth = 0

    def _field(self, attributes: dict[str, str]) -> None:
        name = attributes.get("name", "")
        layer = self._layer
        if layer is None:
            if name == "num":
                self._frame = int(attributes["show"])
            elif name in _REASSEMBLED:
                found = _SEGMENTS.search(attributes.get("showname", ""))
                self._first = int(found[1]) if found else None
            return
        self._depth += 1
        if name in self._parts:
            layer.groups.append({name: [attributes.get("show") or ""]})
            self._group_depth = self._depth
        elif name == BODY:
            content = bytes.fromhex(attributes.get("value", ""))
            layer.fields[BODY] = [digest(content)]
            layer.body = content[:MOST_BODY_BYTES]
        elif name and not name.startswith("_ws"):
            target = layer.groups[-1] if self._group_depth else layer.fields
            target.setdefault(name, []).append(attributes.get("show") or "")

    def _end(self, element: str) -> None:
        if self._layer is None:
            return
        if element == "field":
            if self._depth == self._group_depth:
                self._group_depth = 0
            self._depth -= 1
        elif element == "proto":
            self.layers.append(self._layer)
            self._layer = None


def read_layers(stream: IO[bytes], wanted: Iterable[str], parts: Iterable[str]) -> Iterator[Layer]:
    """The layers called `wanted` of the PDML in `stream`, in order; fields called `parts` begin a group. ValueError where it is no PDML."""
    reader = _Reader(frozenset(wanted), frozenset(parts))
    while True:
        chunk = stream.read(_READ_BYTES)
        try:
            reader.feed(chunk, final=not chunk)
        except expat.ExpatError as error:
            raise ValueError(str(error)) from None
        yield from reader.layers
        reader.layers.clear()
        if not chunk:
            return
