"""What tshark prints (`-T pdml`) as layers: which protocol's message stands where in which packet, and its fields.

That is XML, five kilobytes a packet: a parser that calls back for each tag takes three times as long as tshark. But tshark writes it in one
way only (epan/print.c): a name is its tag's first attribute, and no attribute contains a quotation mark or a bracket (`print_escaped_xml`).
So it can be searched.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO

from probes.dissect.framing import MOST_BODY_BYTES, Framed, digest

Fields = dict[str, list[str]]
BODY = "http.file_data"  # kept as a digest: bodies are compared, never shown
_BODY, _READ_BYTES = BODY.encode(), 1 << 20
_PACKET_END, _LAYER_END, _END = b"</packet>", b"</proto>", b"</pdml>"
_NUMBER = re.compile(rb'<field name="num"[^>]* show="(\d+)"')
_FIELD = rb'<field name="(%b)"(?: (?!show=)\w+="[^"]*")*(?: show="([^"]*)")?([^>]*)>'  # name, show, the rest of the tag
_FIELD_END, _NOBODYS, _ANY = b"</field>", b"_ws", rb'[^"]*'
_FIELDS, _TAGS = re.compile(_FIELD % _ANY), re.compile(_FIELD % _ANY + b"|" + _FIELD_END)
_VALUE = re.compile(rb' value="([0-9a-f]*)"')
# "3 Reassembled TCP Segments (3041 bytes): #2(1000), #3(1000), #4(1041)"
_REASSEMBLED = re.compile(rb'<field name="(?:tcp|tls)\.segments"[^>]*>')
_SEGMENTS = re.compile(rb"bytes\): #(\d+)\(")
# XML has no control characters, and tshark lets some through; what is white space there is a blank in an attribute
_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")
_CONTROLS |= dict.fromkeys((9, 10, 13), " ")


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


class _Packets:
    """Finds layers called `wanted` in packets, with the fields that are asked for; fields called `parts` begin a group."""

    def __init__(self, wanted: Mapping[str, str], parts: Iterable[str]) -> None:
        names = b"|".join(re.escape(name).encode() for name in wanted)
        self._asked = {name: re.compile(_FIELD % fields.encode()) for name, fields in wanted.items() if fields}
        self._layer = re.compile(rb'<proto name="(' + names + rb')"[^>]*>')
        self._parts = frozenset(name.encode() for name in parts)

    def layers(self, packet: bytes) -> Iterator[Layer]:
        """The layers of one packet."""
        number = _NUMBER.search(packet)
        frame, behind = int(number[1]) if number else 0, 0
        while found := self._layer.search(packet, behind):
            reassembled = _REASSEMBLED.findall(packet, behind, found.start())
            began = _SEGMENTS.search(reassembled[-1]) if reassembled else None
            layer = Layer(found[1].decode(), frame, int(began[1]) if began else frame)
            behind = found.end()
            if packet[behind - 2] != ord("/"):
                behind = packet.find(_LAYER_END, behind)
                self._read(layer, packet[found.end() : behind])
            yield layer

    def _read(self, layer: Layer, content: bytes) -> None:
        asked = self._asked.get(layer.name)
        if asked or not any(part in content for part in self._parts):
            for name, show, rest in (asked or _FIELDS).findall(content):
                _add(layer, layer.fields, name, show, rest)
            return
        depth = group_depth = 0
        for tag in _TAGS.finditer(content):
            name, show, rest = tag.groups(b"")
            if tag[0] != _FIELD_END:
                depth += 1
                if name in self._parts:
                    layer.groups.append({_text(name): [_text(show)]})
                    group_depth = depth
                else:
                    _add(layer, layer.groups[-1] if group_depth else layer.fields, name, show, rest)
                if not rest.endswith(b"/"):
                    continue
            group_depth = 0 if depth == group_depth else group_depth
            depth -= 1


def _add(layer: Layer, target: Fields, name: bytes, show: bytes, rest: bytes) -> None:
    if name == _BODY:
        value = _VALUE.search(rest)
        content = bytes.fromhex(value[1].decode()) if value else b""
        layer.fields[BODY] = [digest(content)]
        layer.body = content[:MOST_BODY_BYTES]
    elif name and not name.startswith(_NOBODYS):
        target.setdefault(_text(name), []).append(_text(show))


@lru_cache(1 << 14)
def _text(written: bytes) -> str:
    """What an XML parser makes of an attribute."""
    text = written.decode("utf-8", "replace")
    if not text.isprintable():
        text = text.replace("\r\n", "\n").translate(_CONTROLS)
    return html.unescape(text) if "&" in text else text


def read_layers(stream: IO[bytes], wanted: Mapping[str, str], parts: Iterable[str]) -> Iterator[Layer]:
    """The layers called `wanted` of the PDML in `stream`, in order; fields called `parts` begin a group. ValueError where it breaks off.

    `wanted` says of each layer which fields are asked for (a regular expression for their names): then it has these alone, and no groups.
    Of one that says nothing all are read.
    """
    packets = _Packets(wanted, parts)
    rest = b""
    while chunk := stream.read(_READ_BYTES):
        *whole, rest = (rest + chunk).split(_PACKET_END)
        for packet in whole:
            yield from packets.layers(packet)
    if _END not in rest:
        raise ValueError("its last packet has no end")
