"""Who an address is: claims of pods and nodes on addresses over time.

A pod's address is its own from the sandbox's network setup until the pod is deleted or has ended (Kubernetes docs, "Pod Lifecycle":
Succeeded and Failed pods keep podIPs in their status although the address is free again).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from probes.addresses import Address
from tracer.cluster.fields import SECOND_NS, Object, address, at, created_ns, dicts, number, string, strings, time_ns
from tracer.cluster.history import NEVER_NS, Claim
from tracer.cluster.lives import Life, Version

# Where CNIs write the addresses of their devices on a Node (flannel, Calico, Cilium); some with a prefix length.
NODE_ANNOTATIONS = (
    "flannel.alpha.coreos.com/public-ip",
    "flannel.alpha.coreos.com/public-ip-overwrite",
    "flannel.alpha.coreos.com/public-ipv6",
    "flannel.alpha.coreos.com/public-ipv6-overwrite",
    "projectcalico.org/IPv4Address",
    "projectcalico.org/IPv6Address",
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
    "network.cilium.io/ipv4-cilium-host",
    "network.cilium.io/ipv6-cilium-host",
    "io.cilium.network.ipv4-cilium-host",
    "io.cilium.network.ipv6-cilium-host",
)
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who an address is: a pod, a node, or "external" (outside the cluster); None where only the process is known.

    A node's `name` is None where several nodes have the address (loopback, docker0). `container` is the one that declares the port
    asked for, None where none or several do; or the one whose socket it is, and `process` its command. A pod with `host_network` shares
    its node's addresses.
    """

    kind: str | None
    name: str | None = None
    namespace: str | None = None
    node: str | None = None
    container: str | None = None
    container_port_name: str | None = None
    uid: str | None = None
    host_network: bool = False
    process: str | None = None


EXTERNAL = Owner("external")


@dataclass(slots=True)
class Pod:
    """A pod as an owner, with an `Owner` per declared port. Ports of a pod never change (they are immutable fields)."""

    owner: Owner
    ports: dict[tuple[str, int], Owner | None] = field(default_factory=dict)

    def asked(self, protocol: str, port: int | None) -> Owner:
        """The owner, with its container where exactly one declares `port`."""
        return self.owner if port is None else self.ports.get((protocol, port)) or self.owner


def pod(life: Life) -> Pod:
    """The pod of that life."""
    item = life.last
    node = next((name for v in reversed(life.versions) if (name := string(v.item, "spec", "nodeName"))), None)
    uid = string(item, "metadata", "uid")
    found = Pod(Owner("pod", life.name, life.namespace, node, uid=uid, host_network=is_host_network(item)))
    for container in _containers(item):
        for entry in dicts(container, "ports"):
            key = ((string(entry, "protocol") or "TCP").lower(), number(entry, "containerPort") or 0)
            named = replace(found.owner, container=string(container, "name"), container_port_name=string(entry, "name"))
            known = found.ports.get(key, named)
            # Two containers declaring one port cannot both listen on it: which of them does is not known.
            found.ports[key] = named if known is not None and known.container == named.container else None
    return found


def _containers(item: Object) -> list[Object]:
    # A sidecar is an init container that is always restarted (KEP-753); other init containers serve nobody.
    sidecars = [c for c in dicts(item, "spec", "initContainers") if c.get("restartPolicy") == "Always"]
    return dicts(item, "spec", "containers") + sidecars


def is_host_network(item: Object) -> bool:
    """Whether the pod shares its node's addresses."""
    return at(item, "spec", "hostNetwork") is True


def pod_addresses(item: Object) -> set[Address]:
    """The addresses that this state of a pod gives it; none once it has ended."""
    if string(item, "status", "phase") in ENDED:
        return set()
    return _written_addresses(item)


def _written_addresses(item: Object) -> set[Address]:
    texts = [string(entry, "ip") for entry in dicts(item, "status", "podIPs")] + [string(item, "status", "podIP")]
    return {found for text in texts if (found := address(text)) is not None}


def pod_claims(life: Life) -> Iterator[tuple[Address, Claim[Life]]]:
    """What a pod claims: for each address, from the state that first had it until the first that has not."""
    held: dict[Address, tuple[int, int]] = {}  # address: (possible start, certain start)
    before: Version | None = None
    for version in life.versions:
        now = pod_addresses(version.item)
        if before is None and string(version.item, "status", "phase") in ENDED:
            yield from _ended_claims(life, version)
        for gone in set(held) - now:
            yield gone, _claim(life, held.pop(gone), version.start_ns, before)
        for new in now - set(held):
            held[new] = _start(version, before)
        before = version
    for last, starts in held.items():
        yield last, Claim(life, starts[0], life.end_ns, starts[1], life.end_ns if life.end_exact else life.seen_ns)


def _claim(life: Life, starts: tuple[int, int], end: int, before: Version | None) -> Claim[Life]:
    end = min(end, life.end_ns)
    sure = end if before is None or before.exact else before.start_ns
    return Claim(life, starts[0], end, starts[1], max(sure, starts[1]))


def _start(version: Version, before: Version | None) -> tuple[int, int]:
    """When an address was got: at the earliest, and by when for certain.

    A watch tells exactly: not before the pod reported it (its sandbox may have been up for some milliseconds, but a name given then would
    be a guess, and the packet may be meant for the predecessor). In a dump, API times are cut to whole seconds: from status.startTime,
    the kubelet taking the pod on, unless a predecessor is known to have held the address for longer.
    """
    if version.exact:
        return version.start_ns, version.start_ns
    started = time_ns(at(version.item, "status", "startTime")) or version.start_ns
    if before is not None:
        got = version.start_ns if _written_addresses(before.item) else min(max(before.start_ns, started), version.start_ns)
        return got, version.start_ns
    ready = [
        time_ns(condition.get("lastTransitionTime"))
        for condition in dicts(version.item, "status", "conditions")
        if condition.get("type") == "PodReadyToStartContainers" and condition.get("status") == "True"  # KEP-3085
    ]
    running = [time_ns(at(status, "state", "running", "startedAt")) for status in dicts(version.item, "status", "containerStatuses")]
    known = [moment for moment in ready + running if moment is not None]
    sure = min(known) + SECOND_NS if known else started
    return min(started, version.seen_ns), max(min(started, version.seen_ns), min(sure, version.seen_ns))


def _ended_claims(life: Life, version: Version) -> Iterator[tuple[Address, Claim[Life]]]:
    """A pod that had ended when first seen had its addresses from its start until its last container finished."""
    start, _ = _start(version, None)
    finished = [
        time_ns(at(status, "state", "terminated", "finishedAt"))
        for name in ("containerStatuses", "initContainerStatuses")
        for status in dicts(version.item, "status", name)
    ]
    end = max((moment for moment in finished if moment is not None), default=None)
    if end is None or is_host_network(version.item) or created_ns(version.item) is None:
        return
    for held in _written_addresses(version.item):
        yield held, Claim(life, start, min(end + SECOND_NS, life.end_ns), start + SECOND_NS, end)


def host_ports(life: Life, pod_: Pod) -> Iterator[tuple[tuple[str, str, int], Claim[Owner]]]:
    """What a hostNetwork pod claims on its node: (node, protocol, port). A hostPort there equals its containerPort (API validation)."""
    spans = [span for span in life.spans() if _runs(span[2])]
    if not spans or pod_.owner.node is None:
        return
    start = time_ns(at(spans[0][2], "status", "startTime")) or spans[0][0]
    end = spans[-1][1]
    sure_end = end if life.end_exact or end < life.end_ns else life.seen_ns
    for (protocol, port), named in pod_.ports.items():
        if port:
            yield (pod_.owner.node, protocol, port), Claim(named or pod_.owner, start, end, max(start, spans[0][0]), sure_end)


def _runs(item: Object) -> bool:
    return is_host_network(item) and string(item, "status", "phase") not in ENDED and string(item, "spec", "nodeName") is not None


def node_claims(lives: Iterable[Life]) -> Iterator[tuple[Address, Claim[str]]]:
    """The InternalIP and ExternalIP addresses of nodes, by node name; where a Node could not be read, its pods' hostIPs."""
    lives = list(lives)
    known = {life.name for life in lives if life.kind == "Node"}
    for life in lives:
        if life.kind == "Node":
            for start, end, item in life.spans():
                for entry in dicts(item, "status", "addresses"):
                    found = address(string(entry, "address"))
                    if found is not None and entry.get("type") in ("InternalIP", "ExternalIP"):
                        yield found, Claim.certain(life.name, start, end)
        elif life.kind == "Pod":
            for start, end, item in life.spans():
                node = string(item, "spec", "nodeName")
                hosts = [string(entry, "ip") for entry in dicts(item, "status", "hostIPs")] + [string(item, "status", "hostIP")]
                for found in {address(text) for text in hosts}:
                    if found is not None and node is not None and node not in known:
                        yield found, Claim(node, start, end, NEVER_NS, NEVER_NS)


def device_claims(life: Life) -> Iterator[tuple[Address, Claim[str]]]:
    """Addresses that a node's CNI devices have: podCIDR's network address (flannel.1) and its first host (cni0), and annotations."""
    for start, end, item in life.spans():
        found = {cidr_address for network in pod_networks(item) for cidr_address in _edge(network)}
        for name in NODE_ANNOTATIONS:
            text = string(item, "metadata", "annotations", name)
            annotated = address(text.partition("/")[0]) if text else None
            if annotated is not None:
                found.add(annotated)
        for held in found:
            yield held, Claim.certain(life.name, start, end)


def pod_networks(item: Object) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """spec.podCIDRs (or the older podCIDR) of a Node."""
    networks = []
    for text in dict.fromkeys([*strings(item, "spec", "podCIDRs"), string(item, "spec", "podCIDR") or ""]):
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return networks


def _edge(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[Address]:
    if network.num_addresses < 4:
        return []
    return [found for place in (0, 1) if (found := address(str(network[place]))) is not None]
