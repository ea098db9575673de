"""Pieces of streams in, exchanges out."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from probes.dissect.feed import MOST_BYTES, Piece, packets
from probes.dissect.framing import RECIPES, Framed, framed
from probes.dissect.messages import Exchange, Message, Protocol, Reading
from probes.dissect.pdml import Layer
from probes.dissect.protocols import BY_NAME, PROTOCOLS, finish
from probes.dissect.protocols.tls import Handshakes
from probes.dissect.tshark import Asked, dissect, known_protocols, start_ahead

_APPLICATION_DATA = 23  # TLS content type
_TURNING = (b"HEAD ", b"CONNECT ", b"HTTP/1.1 101", b"HTTP/1.0 101")  # after which what follows is read otherwise


@dataclass(frozen=True, slots=True)
class _Sent:
    """A packet of the feed: whose it is, where its bytes stand in the stream, and which message it is where streams were cut."""

    connection: int
    forward: bool
    start: int
    end: int
    message: Framed | None

    def cut(self, protocol: Protocol) -> Framed | None:
        """The message, if it is of this protocol: inside TLS there are others."""
        return self.message if self.message is not None and self.message.protocol == protocol.name else None


class _Feed:
    """The packets for tshark; `sent` says what each of them was, by its number.

    Of HTTP, what was said before is no packet again, in no connection: `told` has the messages of those whose messages each stand for
    themselves, in order, with the packet that says the same.
    """

    def __init__(self, pieces: Iterable[Piece], protocols: Mapping[int, str], *, layers: Container[str], keys: bool) -> None:
        self._pieces, self._protocols, self._layers, self._keys = pieces, protocols, layers, keys
        self.taken = 0  # pieces
        self.sent: list[_Sent] = []
        self.told: dict[int, list[tuple[Framed, int]]] = {}
        self.spoken: dict[int, set[str]] = {}
        self.handshakes = Handshakes()
        self._once: dict[tuple[bool, bytes, int], int] = {}  # by side, head and size

    def __iter__(self) -> Iterator[bytes]:
        for connection, pieces in groupby(self._pieces, key=lambda piece: piece.connection):
            protocol = self._protocols[connection]
            together = list(pieces)
            self.taken += len(together)
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
        told = self.told.setdefault(connection, []) if _stand_alone(messages) else None
        for message in messages:
            spoken.add(message.protocol)
            if message.protocol == "tls":
                self.handshakes.add(connection, message)
                if message.head[0] == _APPLICATION_DATA and not self._keys:
                    continue
            if BY_NAME[message.protocol].layer not in self._layers:
                continue
            size = max(message.size, len(message.head) + message.more)
            if told is not None:
                number = self._once.setdefault((message.forward, bytes(message.head), size), len(self.sent) + 1)
                told.append((message, number))
                if number <= len(self.sent):
                    continue
            at, heard = (said.get((message.protocol, forward), 0) for forward in (message.forward, not message.forward))
            said[message.protocol, message.forward] = at + size
            wire = min(size, MOST_BYTES) if message.more else size
            piece = Piece(connection, message.forward, at, bytes(message.head), wire, message.time_ns)
            for record in packets(piece, BY_NAME[message.protocol].port, heard):
                self.sent.append(_sent(connection, message))
                yield record


def _sent(connection: int, message: Framed) -> _Sent:
    return _Sent(connection, message.forward, message.start, message.end, message)


class _Messages:
    """What was `said`: the messages of each connection, by protocol, in order."""

    def __init__(self) -> None:
        self.said: dict[int, dict[str, list[Message]]] = {}
        self._turns: dict[int, tuple[bool, int, int]] = {}  # inside TLS and of datagrams: who spoke last, turn, messages in it

    def add(self, sent: _Sent, protocol: Protocol, read_here: Iterable[Message], start: int) -> None:
        """Add what was `read_here` of a layer: in what was `sent`, from `start` on."""
        said, cut = self.said.setdefault(sent.connection, {}).setdefault(protocol.name, []), sent.cut(protocol)
        for message in read_here:
            message.forward, message.start, message.end = sent.forward, start, sent.end
            if cut is not None:
                message.turn, message.rank, message.whole = cut.turn, cut.rank, cut.whole
                message.broken, message.cut = cut.broken, cut.cut
            else:
                spoke, turn, rank = self._turns.get(sent.connection, (True, 0, -1))
                turn, rank = (turn, rank + 1) if spoke == sent.forward else (turn + 1, 0)
                self._turns[sent.connection] = sent.forward, turn, rank
                message.turn, message.rank = turn, rank
            said.append(message)


def _read(protocol: Protocol, layer: Layer) -> list[Message]:
    try:
        return list(protocol.read(layer))
    except ValueError:  # a number that is none: what was captured is no message, whatever the dissector made of it
        return []


def _stand_alone(messages: Iterable[Framed]) -> bool:
    """Whether each of these is of HTTP/1.x and means the same whatever went before: all of it was there, and nothing is read otherwise."""
    return all(each.protocol == "http" and each.whole and not each.head.startswith(_TURNING) for each in messages)


def _add_told(told: Mapping[int, Iterable[tuple[Framed, int]]], standing: Mapping[int, Layer], messages: _Messages) -> None:
    """Add the messages that were `told`, each as what its packet says: but for its content, which is no part of that."""
    http = BY_NAME["http"]
    known: dict[tuple[int, str | None], list[Message]] = {}
    for connection, here in told.items():
        for message, number in here:
            if number not in standing:
                continue
            content = number, message.body.digest()
            if content not in known:
                standing[number].message = message
                known[content] = _read(http, standing[number])
            messages.add(_sent(connection, message), http, map(copy, known[content]), message.start)


def _used() -> list[Protocol]:
    """The protocols that the installed tshark dissects."""
    known = known_protocols()
    return [protocol for protocol in PROTOCOLS if protocol.layer in known or not known]


def _asked(used: Iterable[Protocol], keys: Path | None) -> Asked:
    """What tshark is asked for."""
    fields = {protocol.layer: protocol.fields for protocol in used}
    return fields, [each.part for each in used if each.part], [each.decode_as for each in used if each.decode_as], keys


def begin_ahead(keys: Path | None = None) -> None:
    """Have what `read` waits for start meanwhile. Afterwards `end_ahead`, also where nothing was read."""
    start_ahead(lambda: _asked(_used(), keys))


def read(
    pieces: Iterable[Piece],
    protocols: Mapping[int, str],
    *,
    keys: Path | None = None,
    progress: Callable[[int], None] = lambda _pieces: None,
) -> Reading:
    """What each connection said.

    `pieces` come connection by connection, in the order in which their bytes became readable; `protocols` says what each connection speaks
    (a name of BY_NAME). `keys` is a TLS key log file. `progress` is called with the number of pieces taken so far. DissectionError
    where tshark is missing or fails.
    """
    used = _used()
    by_layer = {protocol.layer: protocol for protocol in used}
    feed = _Feed(pieces, protocols, layers=by_layer, keys=keys is not None)
    found, messages = Reading(), _Messages()
    standing: dict[int, Layer] = {}  # what messages that stand for themselves say, by number of their packet
    for layer in dissect(feed, *_asked(used, keys)):
        progress(feed.taken)
        sent, protocol = feed.sent[layer.frame - 1], by_layer[layer.name]
        layer.forward, layer.message = sent.forward, sent.cut(protocol)
        if protocol.name == "http" and sent.connection in feed.told:
            standing[layer.frame] = layer
        elif protocol.name == "tls":
            feed.handshakes.read(sent.connection, layer)
        else:
            messages.add(sent, protocol, _read(protocol, layer), feed.sent[layer.first - 1].start)
    progress(feed.taken)
    _add_told(feed.told, standing, messages)
    for connection in sorted(messages.said):
        exchanges = finish(messages.said[connection])
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
    progress: Callable[[int], None] = lambda _pieces: None,
) -> dict[int, list[Exchange]]:
    """The exchanges of each connection, in the order of their requests: `read` without the rest."""
    return read(pieces, protocols, keys=keys, progress=progress).exchanges
