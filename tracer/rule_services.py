"""Services that only kube-proxy's rules know: the cluster's objects were saved before these were there, or after."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from probes.addresses import Address, endpoint
from probes.decode.numbers import PROTOCOL_NAMES
from tracer.cluster import Timeline
from tracer.names import Named
from tracer.pipeline import Reconstruction

if TYPE_CHECKING:  # rules are slow to load, and not every bundle has any
    from tracer.rules import ProxyRules, ServicePath


def judge_direct(traced: Reconstruction, named: Sequence[Named], timeline: Timeline, rules: Mapping[str, ProxyRules]) -> None:
    """Take `direct` back where the rules of any node have a Service at the address that was asked for."""
    if not rules:
        return

    @functools.cache
    def known(address: Address, port: int, protocol: str, to_node: bool) -> ServicePath | None:
        paths = (each.service_path(address, port, protocol) for each in rules.values())
        at_nodes = (each.node_port_path(port, protocol, ipv6=address[0] != 0) for each in rules.values() if to_node)
        return next((path for some in (paths, at_nodes) for path in some if path is not None), None)

    tuples, connections = traced.tuples, traced.connections
    for connection, each in enumerate(named):
        if not each.direct or each.service is not None or each.original < 0:
            continue
        address, port = (int(tuples["dst_hi"][each.original]), int(tuples["dst_lo"][each.original])), int(tuples["dport"][each.original])
        protocol = PROTOCOL_NAMES.get(int(tuples["proto"][each.original]), "")
        to_node = timeline.is_node_address(address, int(connections["start_ns"][connection]))
        path = known(address, port, protocol, to_node)
        if path is not None:
            each.direct = False
            what = "a Service" if path.service is None else path.service
            each.problems.append(f"kube-proxy's rules have {what} at {endpoint(*address, port)}, the cluster's objects do not")
