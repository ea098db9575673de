"""TLS (RFC 8446, 5246): what the handshake tells in clear, and where it ends."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.framing import Framed
from probes.dissect.messages import Handshake, Message, one
from probes.dissect.pdml import Layer

_CHANGE_CIPHER, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_VERSIONS = {0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
_CLIENT_HELLO, _SERVER_HELLO = "1", "2"


def read(layer: Layer) -> Iterator[Message]:
    """Nothing: what TLS carries is dissected as what it is, or not at all. `Handshakes` reads the rest."""
    del layer
    yield from ()


class Handshakes:
    """The HANDSHAKES of connections, from their records."""

    def __init__(self) -> None:
        self.found: dict[int, Handshake] = {}
        self._changed: set[tuple[int, bool]] = set()  # sides that have changed ciphers

    def add(self, connection: int, record: Framed) -> None:
        """Take a record as it was cut: its type and place.

        Up to TLS 1.2 a side's handshake ends with the record after its ChangeCipherSpec. TLS 1.3 sends what follows the hellos as
        application data: the client's first such record is its Finished; the server's handshake ends where the client's last began, at the
        latest: its place is that of the server's last record before.
        """
        found = self.found.setdefault(connection, Handshake())
        kind, side = record.head[0], (connection, record.forward)
        if found.start < 0 and record.forward and kind == _HANDSHAKE:
            found.start = record.start
        if kind == _CHANGE_CIPHER:
            self._changed.add(side)
        elif kind == _HANDSHAKE and found.client_end < 0 and not record.forward:
            found.server_end = record.end
        elif kind == _HANDSHAKE and side in self._changed and record.forward and found.client_end < 0:
            found.client_end = record.end
        elif kind == _HANDSHAKE and side in self._changed and not record.forward:
            found.server_end = max(found.server_end, record.end)
        elif kind == _DATA and found.client_end < 0:
            if record.forward:
                found.client_end = record.end
            else:
                found.server_end = record.end

    def read(self, connection: int, layer: Layer) -> None:
        """Take what tshark read of a record: the hellos."""
        found, fields = self.found.setdefault(connection, Handshake()), layer.fields
        kinds = fields.get("tls.handshake.type", [])
        offered = tuple(fields.get("tls.handshake.extensions_alpn_str", []))
        if _CLIENT_HELLO in kinds:
            found.server_name = found.server_name or one(fields, "tls.handshake.extensions_server_name")
            found.protocols = found.protocols or offered
        if _SERVER_HELLO in kinds:
            number = one(fields, "tls.handshake.extensions.supported_version") or one(fields, "tls.handshake.version")
            found.version = _VERSIONS.get(int(number, 0)) if number else None
        if not layer.forward and offered:
            found.protocol = offered[0]
