"""Which protocol a connection speaks, by the first bytes of either side; the server's port decides only where bytes do not."""

from __future__ import annotations

import re
from collections.abc import Collection

_METHODS = rb"GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROPFIND|REPORT|MKCOL|COPY|MOVE|LOCK|UNLOCK|SEARCH|PURGE"


# a record of a type, a version and a length that TLS has (RFC 8446, 5.1), also in the midst of a connection
_TLS_RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04][\x00-\x48]")


def _sized(head: bytes) -> bool:
    """A MySQL command: 3-byte length that fits, sequence number 0, a command (MySQL internals, "Protocol::Packet", COM_*)."""
    return len(head) >= 5 and head[3] == 0 and 1 <= head[4] <= 0x1F and 0 < int.from_bytes(head[:3], "little") < 1 << 20


def _mongo(head: bytes) -> bool:
    """A wire-protocol header: OP_MSG, OP_QUERY, OP_COMPRESSED, OP_REPLY (MongoDB manual, "Wire Protocol")."""
    return len(head) >= 16 and int.from_bytes(head[12:16], "little") in (2013, 2004, 2012, 1)


def _kafka(head: bytes) -> bool:
    """A request header (KIP-482 and before): size, api_key, api_version, correlation_id, client_id."""
    if len(head) < 14:
        return False
    size, key, version, name = (int.from_bytes(head[a:b], "big") for a, b in ((0, 4), (4, 6), (6, 8), (12, 14)))
    return 10 <= size < 1 << 27 and key <= 90 and version <= 20 and (name < 256 or name == 0xFFFF)


# (protocol, what its client begins with, what its server does); None says nothing. The first that fits is it.
_SIGNATURES: tuple[tuple[str, re.Pattern[bytes] | None, re.Pattern[bytes] | None], ...] = (
    ("proxy", re.compile(rb"PROXY (TCP4|TCP6|UNKNOWN)|\r\n\r\n\0\r\nQUIT\n"), None),
    ("http2", re.compile(rb"PRI \* HTTP/2"), None),
    ("http", re.compile(rb"(" + _METHODS + rb") [^\s]"), re.compile(rb"HTTP/1\.[01] \d\d\d")),
    ("tls", _TLS_RECORD, _TLS_RECORD),
    ("mysql", None, re.compile(rb"...\0(\x0a\d+\.|\xff)", re.DOTALL)),
    ("postgresql", re.compile(rb"\0\0..(\0\x03\0.|\x04\xd2\x16[\x2e-\x30])", re.DOTALL), None),
    ("amqp", re.compile(rb"AMQP"), None),
    ("nats", re.compile(rb"CONNECT \{|H?PUB \S+ |SUB \S+ "), re.compile(rb"INFO \{")),
    ("redis", re.compile(rb"\*\d+\r\n\$\d+\r\n"), re.compile(rb"\+(OK|PONG)\r\n")),
    ("postgresql", re.compile(rb"[QP]\0\0.{2}[\x20-\x7e\0]", re.DOTALL), re.compile(rb"R\0\0\0.\0\0\0", re.DOTALL)),
)
_SHAPES = (("mongodb", _mongo, 27017), ("mysql", _sized, 3306), ("kafka", _kafka, 9092))
_PORTS = {
    53: "dns",
    5353: "dns",
    3306: "mysql",
    5432: "postgresql",
    6379: "redis",
    9092: "kafka",
    27017: "mongodb",
    5672: "amqp",
    4222: "nats",
}


def recognise(client: bytes, server: bytes, ports: Collection[int], *, datagrams: bool = False) -> str | None:
    """The protocol of a connection whose sides begin with `client` and `server` (empty where not captured); None where nothing tells.

    `ports` are the server's, before and after translation.
    """
    usual = next((_PORTS[port] for port in sorted(ports) if port in _PORTS), None)
    if datagrams:
        return "dns" if usual == "dns" and len(client or server) >= 12 else None
    for name, of_client, of_server in _SIGNATURES:
        if (of_client and of_client.match(client)) or (of_server and of_server.match(server)):
            return name
    for name, fits, _ in _SHAPES:
        # these shapes are weak: a length and a number; they count on their usual port, mid-stream
        if usual == name and (fits(client) or not client):
            return name
    if usual == "dns" and len(client) >= 14 and int.from_bytes(client[:2], "big") >= 12:
        return "dns"
    return usual if usual in ("redis", "amqp", "nats", "postgresql") else None
