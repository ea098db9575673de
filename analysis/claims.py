"""What metadata and headers claim of a request: which Ingress or Gateway rule took it, whose it really is; held against the packets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from probes.dissect import Exchange
from tracer.cluster import Timeline
from tracer.cluster.routes import Route

Record = dict[str, Any]
_HTTP = ("http", "http2", "grpc")


def route(timeline: Timeline, exchange: Exchange | None, server: Record | None, time_ns: int) -> Route | None:
    """The rule that took an HTTP request at an L7 proxy; None where its server is none, or no rule is known."""
    if exchange is None or exchange.protocol not in _HTTP or server is None or server["kind"] != "pod":
        return None
    said = exchange.attributes
    if "path" not in said or (server["namespace"], server["name"]) not in timeline.ingress_controllers(time_ns):
        return None
    return timeline.route(said.get("host"), said["path"], time_ns, method=said.get("method", "GET"), headers=said)


def ingress(found: Route | None, served_by: Sequence[tuple[str | None, str | None]]) -> Record | None:
    """The rule as a record. `served_by` are the Services (namespace, name) behind which the proxy's upstream requests went, None if none.

    `agrees` is None where the proxy asked nobody, or answers by itself (a redirect).
    """
    if found is None:
        return None
    names = {(found.service_namespace, found.service_name), *((each.namespace, each.name) for each in found.alternatives)}
    known = [each for each in served_by if each[1] is not None]
    agrees = None if not known or found.service_name is None else all(each in names for each in known)
    service = None if found.service_name is None else f"{found.service_namespace}/{found.service_name}:{found.service_port}"
    return {
        "kind": found.kind, "namespace": found.namespace, "name": found.name, "host": found.host, "path": found.path,
        "path_type": found.path_type, "service": service, "agrees": agrees,
    }  # fmt: skip


def true_client(exchange: Exchange | None, client: Record | None, inside: Callable[[str], bool]) -> Record | None:
    """Whom a proxy says that it speaks for.

    What a client from outside the cluster claims is no evidence, but for a PROXY header that the server accepted.

    Proxies append to X-Forwarded-For and Forwarded whom they got the request from: the last address that is not itself `inside` the
    cluster (a proxy's, a node's) is the client; what stands before it is what that one said.
    """
    if exchange is None or client is None:
        return None
    said = exchange.attributes
    if client["kind"] not in ("pod", "node"):
        # a server that is not told to expect a PROXY header takes it for a bad request
        accepted = "proxied_for" in said and exchange.response_start >= 0 and exchange.status != "400"
        return {"address": said["proxied_for"], "source": "PROXY protocol"} if accepted else None
    named = [each.strip() for each in said.get("x-forwarded-for", "").split(",")]
    forwarded = [_for(each) for each in said.get("forwarded", "").split(",")]
    sources = (
        ("PROXY protocol", said.get("proxied_for")),
        ("X-Forwarded-For", _outermost(named, inside)),
        ("Forwarded", _outermost(forwarded, inside)),
        ("X-Real-IP", said.get("x-real-ip")),
    )
    return next(({"address": address, "source": source} for source, address in sources if address), None)


def _for(element: str) -> str:
    """The client in one element of Forwarded (RFC 7239, 4), "" if it names none."""
    parts = (part.strip() for part in element.split(";"))
    return next((part.partition("=")[2].strip(' "') for part in parts if part.lower().startswith("for=")), "")


def _outermost(addresses: Sequence[str], inside: Callable[[str], bool]) -> str | None:
    """The last of `addresses` that is not inside, else the first; None if none is named."""
    named = [each for each in addresses if each]
    return next((each for each in reversed(named) if not inside(each)), named[0] if named else None)
