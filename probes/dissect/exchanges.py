"""Pieces of streams in, exchanges out."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from probes.dissect.feed import MOST_BYTES, Piece, packets
from probes.dissect.framing import RECIPES, Framed, framed
from probes.dissect.messages import Exchange, Message, Reading
from probes.dissect.protocols import BY_NAME, PROTOCOLS, finish
from probes.dissect.protocols.tls import Handshakes
from probes.dissect.tshark import dissect, known_protocols

_APPLICATION_DATA = 23  # TLS content type


@dataclass(frozen=True, slots=True)
class _Sent:
    """A packet of the feed: whose it is, where its bytes stand in the stream, and which message it is where streams were cut."""

    connection: int
    forward: bool
    start: int
    end: int
    message: Framed | None


class _Feed:
    """The packets for tshark; `sent` says what each of them was, by its number."""

    def __init__(self, pieces: Iterable[Piece], protocols: Mapping[int, str], *, layers: Container[str], keys: bool) -> None:
        self._pieces, self._protocols, self._layers, self._keys = pieces, protocols, layers, keys
        self.sent: list[_Sent] = []
        self.spoken: dict[int, set[str]] = {}
        self.handshakes = Handshakes()

    def __iter__(self) -> Iterator[bytes]:
        for connection, pieces in groupby(self._pieces, key=lambda piece: piece.connection):
            protocol = self._protocols[connection]
            together = list(pieces)
            if together[0].stream and (protocol in RECIPES or protocol == "proxy"):
                yield from self._messages(connection, framed(protocol, together))
            else:
                yield from self._datagrams(together, BY_NAME[protocol].port)

    def _datagrams(self, pieces: list[Piece], port: int) -> Iterator[bytes]:
        for piece in pieces:
            for record in packets(piece, port, 0):
                self.sent.append(_Sent(piece.connection, piece.forward, piece.offset, piece.offset + 1, None))
                yield record

    def _messages(self, connection: int, messages: list[Framed]) -> Iterator[bytes]:
        """Each message by itself, as much of it as is looked into, one behind the other: for tshark the rest was not captured."""
        spoken = self.spoken.setdefault(connection, set())
        said: dict[tuple[str, bool], int] = {}
        for message in messages:
            spoken.add(message.protocol)
            if message.protocol == "tls":
                self.handshakes.add(connection, message)
                if message.head[0] == _APPLICATION_DATA and not self._keys:
                    continue
            if BY_NAME[message.protocol].layer not in self._layers:
                continue
            at, heard = (said.get((message.protocol, forward), 0) for forward in (message.forward, not message.forward))
            size = max(message.size, len(message.head) + message.more)
            said[message.protocol, message.forward] = at + size
            wire = min(size, MOST_BYTES) if message.more else size
            piece = Piece(connection, message.forward, at, bytes(message.head), wire, message.time_ns)
            for record in packets(piece, BY_NAME[message.protocol].port, heard):
                self.sent.append(_Sent(connection, message.forward, message.start, message.end, message))
                yield record


def read(
    pieces: Iterable[Piece],
    protocols: Mapping[int, str],
    *,
    keys: Path | None = None,
    progress: Callable[[int], None] = lambda _packets: None,
) -> Reading:
    """What each connection said.

    `pieces` come connection by connection, in the order in which their bytes became readable; `protocols` says what each connection speaks
    (a name of BY_NAME). `keys` is a TLS key log file. `progress` is called with the number of packets dissected so far. DissectionError
    where tshark is missing or fails.
    """
    known = known_protocols()
    used = [protocol for protocol in PROTOCOLS if protocol.layer in known or not known]
    by_layer = {protocol.layer: protocol for protocol in used}
    feed = _Feed(pieces, protocols, layers=by_layer, keys=keys is not None)
    rules = [protocol.decode_as for protocol in used if protocol.decode_as]
    messages: dict[int, dict[str, list[Message]]] = {}
    found = Reading()
    turns: dict[int, tuple[bool, int, int]] = {}  # inside TLS and of datagrams: who spoke last, turn, messages in it
    fields = {protocol.layer: protocol.fields for protocol in used}
    for layer in dissect(feed, fields, [protocol.part for protocol in used if protocol.part], rules, keys):
        progress(layer.frame)
        sent, protocol = feed.sent[layer.frame - 1], by_layer[layer.name]
        cut = sent.message if sent.message is not None and sent.message.protocol == protocol.name else None
        layer.forward, layer.message = sent.forward, cut
        if protocol.name == "tls":
            feed.handshakes.read(sent.connection, layer)
            continue
        first = feed.sent[layer.first - 1]
        said = messages.setdefault(sent.connection, {}).setdefault(protocol.name, [])
        try:
            read_here = list(protocol.read(layer))
        except ValueError:  # a number that is none: what was captured is no message, whatever the dissector made of it
            continue
        for message in read_here:
            message.forward, message.start, message.end = sent.forward, first.start, sent.end
            if cut is not None:
                message.turn, message.rank, message.whole = cut.turn, cut.rank, cut.whole
                message.broken, message.cut = cut.broken, cut.cut
            else:
                spoke, turn, rank = turns.get(sent.connection, (True, 0, -1))
                turn, rank = (turn, rank + 1) if spoke == sent.forward else (turn + 1, 0)
                turns[sent.connection] = sent.forward, turn, rank
                message.turn, message.rank = turn, rank
            said.append(message)
    for connection, by_protocol in messages.items():
        exchanges = finish(by_protocol)
        if exchanges:
            found.exchanges[connection] = exchanges
    found.handshakes = feed.handshakes.found
    missing = {protocol.name: protocol.layer for protocol in PROTOCOLS if protocol not in used}
    for connection, spoken in feed.spoken.items():
        if connection not in found.exchanges and spoken & missing.keys():
            found.unread[connection] = f"tshark has no dissector for {missing[min(spoken & missing.keys())]}"
    return found


def read_exchanges(
    pieces: Iterable[Piece],
    protocols: Mapping[int, str],
    *,
    keys: Path | None = None,
    progress: Callable[[int], None] = lambda _packets: None,
) -> dict[int, list[Exchange]]:
    """The exchanges of each connection, in the order of their requests: `read` without the rest."""
    return read(pieces, protocols, keys=keys, progress=progress).exchanges
