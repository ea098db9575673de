"""A Service's policies, checked against what the packets did.

externalTrafficPolicy (Service spec; KEP-1669 terminating fallback), internalTrafficPolicy (KEP-2086), hairpin. What is told of many
connections at once, sessionAffinity, is in `tracer.affinity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probes.schema import Table
from tracer.names import Named
from tracer.pipeline import Reconstruction

EXTERNAL_WAYS = ("NodePort", "LoadBalancer", "ExternalIP")


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of one connection's Service: what it asks for, and whether the packets kept it; `why` says what they did."""

    name: str
    value: str
    held: bool
    why: str


def _source(tuples: Table, code: int) -> tuple[int, int]:
    return int(tuples["src_hi"][code]), int(tuples["src_lo"][code])


def policies(traced: Reconstruction, named: Sequence[Named]) -> dict[int, list[Policy]]:
    """The policies that applied to each connection that reached a pod through a Service; connections without any are left out."""
    found: dict[int, list[Policy]] = {}
    entry_nodes: dict[int, str] = {}
    table = traced.translations
    for connection, node, position in zip(table["connection"].tolist(), table["node"].tolist(), table["position"].tolist(), strict=True):
        if position == 0:
            entry_nodes[connection] = traced.nodes[node]
    for connection, each in enumerate(named):
        applied = _one(traced, each, entry_nodes.get(connection))
        if applied:
            found[connection] = applied
    return found


def _one(traced: Reconstruction, named: Named, entry_node: str | None) -> list[Policy]:
    service, client, server = named.service, named.client, named.server
    applied: list[Policy] = []
    if service is None or server is None or named.original < 0 or named.translated < 0:
        return applied
    if client and client.kind == "pod" and server.kind == "pod" and client.uid == server.uid:
        rewritten = _source(traced.tuples, named.original) != _source(traced.tuples, named.translated)
        why = (
            "the pod reached itself and its source was rewritten" if rewritten else "the pod reached itself with its own address as source"
        )
        applied.append(Policy("hairpin", "", rewritten, why))
    if service.via in EXTERNAL_WAYS and service.external_traffic_policy == "Local" and client and client.kind == "external":
        kept = _source(traced.tuples, named.original) == _source(traced.tuples, named.translated)
        local = entry_node is None or server.node == entry_node
        why = f"source {'kept' if kept else 'rewritten'}, endpoint on {'the same' if local else 'another'} node"
        applied.append(Policy("externalTrafficPolicy", "Local", kept and local, why))
    if service.via == "ClusterIP" and service.internal_traffic_policy == "Local" and client and client.node and server.node:
        local = client.node == server.node
        applied.append(Policy("internalTrafficPolicy", "Local", local, f"endpoint on {'the same' if local else 'another'} node"))
    return applied
