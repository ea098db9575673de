"""What a side is: everything that two sides must share, or be compared for, before a difference can mean anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.compare.accounts import cost, read, selection
from tracer.trace import Trace

Json = dict[str, Any]
# Facts of a Node object (Kubernetes API, core/v1 NodeStatus): what a machine is, so that a virtual one is not held against another.
_MACHINE = ("architecture", "osImage", "containerRuntimeVersion")
_TYPE = "node.kubernetes.io/instance-type"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Unknown is empty or None. `services` go to their endpoints' number; `machines` and `kernels` are distinct values over the nodes."""

    modes: tuple[str, ...]
    rules: int | None
    service_ports: int | None
    services: Mapping[str, int]
    kernels: tuple[str, ...]
    machines: tuple[str, ...]
    nodes: tuple[str, ...]
    captured: tuple[str, ...]
    packets: int
    dropped: int | None  # by the capture; None where a file does not count them
    truncated: int
    duration_ns: int
    requests: int
    connections: int
    whole: bool  # every account of a recording says that it is complete
    recorder_ns_per_packet: float | None  # what recording cost in the packet path, measured by the filter itself
    selections: tuple[str, ...]  # which packets `hopline record` was asked for
    not_seen: tuple[str, ...] = field(default=())

    def json(self) -> Json:
        """As docs/compare.md has it."""
        return {
            "modes": list(self.modes), "rules": self.rules, "service_ports": self.service_ports,
            "services": dict(sorted(self.services.items())), "endpoints": sum(self.services.values()), "kernels": list(self.kernels),
            "machines": list(self.machines), "nodes": list(self.nodes), "nodes_captured": list(self.captured), "packets": self.packets,
            "packets_dropped_by_capture": self.dropped, "packets_truncated": self.truncated, "duration_ns": self.duration_ns,
            "requests": self.requests, "connections": self.connections, "recording_complete": self.whole,
            "recorder_ns_per_packet": self.recorder_ns_per_packet, "selections": list(self.selections), "not_seen": list(self.not_seen),
        }  # fmt: skip


def fingerprint(trace: Trace, accounts: Iterable[bytes], requests: int, not_seen: Iterable[str]) -> Fingerprint:
    """What `trace` was made from. `accounts` are the contents of its NODE.recording.json files, `not_seen` the summary's lines."""
    bundle, captures = trace.bundle, trace.bundle.captures.values()
    nodes = bundle.timeline.objects("Node")
    told = read(accounts)
    spent, packets = (sum(each) for each in zip((0, 0), *map(cost, told), strict=True))
    rules = bundle.rules.values()
    first = [each.first_ns for each in captures if each.first_ns is not None]
    last = [each.last_ns for each in captures if each.last_ns is not None]
    dropped = [each.dropped for each in captures]
    statuses = [each.get("status", {}).get("nodeInfo", {}) for each in nodes]
    kernels = {str(each["kernel"]) for each in told if each.get("kernel")} or {
        each["kernelVersion"] for each in statuses if each.get("kernelVersion")
    }
    return Fingerprint(
        tuple(sorted({each.mode for each in rules if each.mode})), max((each.rules for each in rules), default=None),
        max((each.services for each in rules), default=None), _services(trace), tuple(sorted(kernels)),
        tuple(sorted({_machine(each) for each in nodes} - {""})), tuple(sorted(str(each["metadata"]["name"]) for each in nodes)),
        tuple(sorted({point.node for point in trace.tables.points})), sum(each.frames for each in captures),
        None if any(each is None for each in dropped) else sum(each or 0 for each in dropped), sum(each.truncated for each in captures),
        max(last, default=0) - min(first, default=0), requests, len(trace.named), all(each.get("complete", False) for each in told),
        spent / packets if packets else None, tuple(sorted({selection(each) for each in told} - {""})), tuple(not_seen),
    )  # fmt: skip


def _services(trace: Trace) -> dict[str, int]:
    """Each Service and how many endpoint addresses its slices have in the end (discovery.k8s.io/v1)."""
    timeline = trace.bundle.timeline
    named = {f"{each['metadata'].get('namespace')}/{each['metadata']['name']}": 0 for each in timeline.objects("Service")}
    for each in timeline.objects("EndpointSlice"):
        metadata = each["metadata"]
        service = f"{metadata.get('namespace')}/{metadata.get('labels', {}).get('kubernetes.io/service-name')}"
        if service in named and each.get("addressType") != "IPv6":  # a dual-stack Service has its endpoints twice
            named[service] += sum(len(endpoint.get("addresses") or ()) for endpoint in each.get("endpoints") or ())
    return named


def _machine(node: Json) -> str:
    status = node.get("status", {})
    told = status.get("nodeInfo", {})
    capacity = status.get("capacity", {})
    facts = [told.get(name) for name in _MACHINE] + [node["metadata"].get("labels", {}).get(_TYPE)]
    facts += [f"{capacity[name]} {name}" for name in ("cpu", "memory") if name in capacity]
    return ", ".join(str(fact) for fact in facts if fact)
