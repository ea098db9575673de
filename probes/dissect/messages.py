"""The nouns of dissection: messages, and the exchanges they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from probes.dissect.pdml import Fields, Layer

REQUEST, RESPONSE, NOTICE = "request", "response", "notice"  # a notice belongs to no exchange, or goes before the first (login, greeting)


@dataclass(slots=True)
class Message:
    """One message of one side, as a dissector read it.

    `key` is what request and response have in common where the protocol says so (stream, correlation id, transaction id), `also` another
    key by which its exchange goes on, `answers` how many responses a request gets. `start` and `end` are its bytes' places in the side's
    stream (datagrams: in the order sent). `turn`, `rank`, `broken` and `cut` are as in `framing.Framed`; `whole` is whether all was there.
    """

    kind: str
    key: int = 0
    operation: str | None = None
    status: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    also: int | None = None
    answers: int = 1
    forward: bool = True
    start: int = -1
    end: int = -1
    turn: int = 0
    rank: int = 0
    broken: bool = False
    cut: bool = False
    whole: bool = True


@dataclass(slots=True)
class Exchange:
    """A request and its response. Places are bytes in each side's stream, -1 where that part was not seen; ends are exclusive."""

    protocol: str
    key: int = 0
    operation: str | None = None
    status: str | None = None
    request_start: int = -1
    request_end: int = -1
    response_start: int = -1
    response_end: int = -1
    attributes: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)  # attributes of the response
    tries: int = 1
    problem: str | None = None  # what of it is missing


@dataclass(slots=True)
class Handshake:
    """What the beginning of a TLS connection tells: what was asked for, and where in each side's stream the handshake ends.

    `start` is the ClientHello's place in the client's stream, `client_end` and `server_end` are places behind the last handshake byte of
    each side; -1 where that was not seen. It took from `start` to the later of the two ends.
    """

    server_name: str | None = None
    protocols: tuple[str, ...] = ()  # ALPN, offered
    protocol: str | None = None  # ALPN, chosen (TLS 1.3 hides it)
    version: str | None = None
    start: int = -1
    client_end: int = -1
    server_end: int = -1


@dataclass(slots=True)
class Reading:
    """What was read of connections, by their numbers: exchanges; TLS handshakes; why a connection was not read, where that is known."""

    exchanges: dict[int, list[Exchange]] = field(default_factory=dict)
    handshakes: dict[int, Handshake] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)


Pairing = Callable[[str, list[Message]], list[Exchange]]
Read = Callable[[Layer], Iterator[Message]]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one protocol is read: which layer of Wireshark's, whose parts are messages of their own, which port stands for it.

    `fields` is a regular expression for the names of those that `read` looks at, where most are others ("": all; so where there are parts).
    """

    name: str
    port: int
    layer: str
    read: Read
    pair: Pairing
    part: str = ""
    decode_as: str = ""
    fields: str = ""


def one(fields: Fields, name: str) -> str | None:
    """The first value of a field, None where the layer has none."""
    values = fields.get(name)
    return values[0] if values else None
