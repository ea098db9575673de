"""The PROXY protocol's header (HAProxy, "The PROXY protocol")."""

from __future__ import annotations

from collections.abc import Iterator

from probes.dissect.messages import NOTICE, Message, one
from probes.dissect.pdml import Layer


def read(layer: Layer) -> Iterator[Message]:
    """A notice that says for whom the connection is: `address:port` in `proxied_for`, nothing where the proxy asks for itself (LOCAL)."""
    fields = layer.fields
    v4, v6 = one(fields, "proxy.src.ipv4"), one(fields, "proxy.src.ipv6")
    address, port = v4 or (f"[{v6}]" if v6 else None), one(fields, "proxy.srcport")
    yield Message(NOTICE, attributes={"proxied_for": f"{address}:{port}"} if address and port else {})
