"""NATS client protocol, where this tshark has a dissector for it (4.2 and later)."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import NOTICE, REQUEST, RESPONSE, Message
from probes.dissect.pdml import Layer

_SILENT = ("PUB", "HPUB", "SUB", "UNSUB")


def read(layer: Layer) -> Iterator[Message]:
    """A client's PING and its PONG; PUB and SUB, which get no answer. What is delivered is none, nor is the server's own PING."""
    head = bytes(layer.message.head) if layer.message is not None else b""
    name, *arguments = head.partition(b"\r\n")[0].decode("utf-8", "replace").split() or [""]
    name = name.upper()
    if layer.forward and name in _SILENT:
        yield Message(REQUEST, operation=" ".join([name, *arguments[:1]]), attributes={"no_response": "published"}, answers=0)
    elif layer.forward and name == "PING":
        yield Message(REQUEST, operation=name)
    else:
        yield Message(RESPONSE if name == "PONG" and not layer.forward else NOTICE, status="ok")
