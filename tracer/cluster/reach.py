"""Every address and port that packets of a Service may have, before NAT and after it."""

from __future__ import annotations

from collections.abc import Iterator

from probes import addresses
from tracer.cluster import services
from tracer.cluster.fields import Object, address, dicts, string
from tracer.cluster.timeline import Timeline


def service_reach(timeline: Timeline, namespace: str, name: str) -> list[tuple[str, int]] | None:
    """(address, port) of a Service as last known: its own addresses, its nodePorts on every node, its endpoints. None: no such Service."""
    item = next(
        (
            item
            for item in timeline.objects("Service")
            if (string(item, "metadata", "namespace") or "default", string(item, "metadata", "name")) == (namespace, name)
        ),
        None,
    )
    return None if item is None else sorted(set(_reach(timeline, item, namespace, name)))


def _reach(timeline: Timeline, item: Object, namespace: str, name: str) -> Iterator[tuple[str, int]]:
    for port in services.service_ports(item):
        for held in services.service_addresses(item):
            yield addresses.text(*held), port.port
        if port.node_port:
            for node in _node_addresses(timeline):
                yield node, port.node_port
        for each in timeline.objects("EndpointSlice"):
            if services.slice_service(each) == (namespace, name):
                for endpoint in services.slice_endpoints(each, port.port_name, port.protocol):
                    if endpoint.port is not None:
                        yield addresses.text(*endpoint.address), endpoint.port


def _node_addresses(timeline: Timeline) -> Iterator[str]:
    for node in timeline.objects("Node"):
        for entry in dicts(node, "status", "addresses"):
            if (parsed := address(string(entry, "address"))) is not None:
                yield addresses.text(*parsed)
