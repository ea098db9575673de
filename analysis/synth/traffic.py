"""What is asked for in a slice of time: who calls which Service, which way that goes, and what NAT makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from analysis.synth.cluster import (
    CLUSTER_POLICY,
    LOCAL_POLICY,
    OUTSIDE_ADDRESS,
    OUTSIDE_VIP,
    MadeCluster,
)
from analysis.synth.options import Options
from analysis.synth.ports import Ports
from analysis.synth.ways import NUMBER, STAGES
from probes.schema import Array, Table

POD, NODE, OUTSIDE = range(3)  # kinds of clients
NO_SERVICE, THE_OUTSIDE_SERVICE = -1, -2
POD_MSS, NODE_MSS, LOOPBACK_MSS = 1410, 1460, 65495
ORIGINAL, MIDDLE, TRANSLATED, HALF, MIDDLE_HALF = range(len(STAGES))

WEIGHTS: Mapping[str, int] = {  # of the kinds of calls; a proxy's clients are as many again
    "ClusterIP": 8, "NodePort": 6, "NodePort, Local": 3, "LoadBalancer": 3, "from a node": 3, "hairpin": 2, "pod to NodePort": 2,
    "pod to LoadBalancer": 2, "egress": 2, "endpoint outside": 2,
}  # fmt: skip
PROXIED = ("NodePort", "NodePort, Local", "LoadBalancer")  # how clients reach the ingress controller


class Calls:
    """Conversations being drawn: all columns, filled kind by kind."""

    def __init__(self, made: MadeCluster, options: Options, generator: np.random.Generator, ports: Ports, count: int) -> None:
        self.made, self.options, self.generator, self.ports = made, options, generator, ports
        self.way, self.service, self.server = (np.full(count, -1) for _ in range(3))
        self.client_kind, self.client, self.mss = (np.zeros(count, "i8") for _ in range(3))
        self.ends, self.places = np.zeros((count, len(STAGES), 4), "i8"), np.zeros((count, 5), "i8")
        self.via = np.full(count, "direct", "U12")

    def pods_of(self, service: Array) -> Array:
        """A pod behind each `service`."""
        services = self.made.services
        return np.asarray(services.first_pod[service] + self.generator.integers(0, services.pods[service]))

    def services_with(self, policy: int | None, count: int) -> Array:
        """`count` of the application's Services with this policy (None: any)."""
        choice = np.arange(self.made.shop)
        chosen = choice if policy is None else choice[self.made.services.policy[: self.made.shop] == policy]
        return np.asarray((chosen if len(chosen) else choice)[self.generator.integers(0, max(len(chosen), 1), count)])

    def by_pod(self, rows: Array, pod: Array, to: tuple[Array | int, Array | int]) -> None:
        """Pods call an address and port."""
        pods = self.made.pods
        self.client_kind[rows], self.client[rows], self.mss[rows] = POD, pod, POD_MSS
        self.places[rows, 0], self.places[rows, 3] = pods.node[pod], pods.ifindex[pod]
        self._original(rows, pods.address[pod], to)

    def by_node(self, rows: Array, node: Array, service: Array) -> None:
        """Nodes call the ClusterIP of Services."""
        services = self.made.services
        address = services.address[service] if self.options.mode == "ipvs" else self.made.node_address[node]
        self.client_kind[rows], self.client[rows] = NODE, node
        self.mss[rows] = LOOPBACK_MSS if self.options.mode == "ipvs" else NODE_MSS
        self.places[rows, 0] = node
        self._original(rows, address, (services.address[service], services.port[service]))

    def from_outside(self, rows: Array, node: Array, to: tuple[Array | int, Array | int]) -> None:
        """Clients outside the cluster call an address and port at a node."""
        client = self.generator.integers(0, len(self.made.outside), len(rows))
        self.client_kind[rows], self.client[rows], self.mss[rows] = OUTSIDE, client, NODE_MSS
        self.places[rows, 0] = node
        self._original(rows, self.made.outside[client], to)

    def _original(self, rows: Array, source: Array, to: tuple[Array | int, Array | int]) -> None:
        destination = np.broadcast_to(to[0], rows.shape), np.broadcast_to(to[1], rows.shape)
        self.ends[rows, ORIGINAL] = np.stack([source, self.ports.ephemeral(source), *destination], axis=1)

    def served_by(self, rows: Array, service: Array, pod: Array, via: str) -> None:
        """What they asked for is a Service (NO_SERVICE: nothing of the kind), and a pod that answers."""
        pods = self.made.pods
        self.service[rows], self.server[rows], self.via[rows] = service, pod, via
        self.places[rows, 2], self.places[rows, 4] = pods.node[pod], pods.ifindex[pod]
        self.ends[rows, TRANSLATED] = self.ends[rows, ORIGINAL]
        self.ends[rows, TRANSLATED, 2], self.ends[rows, TRANSLATED, 3] = pods.address[pod], pods.port[pod]

    def masquerade(self, rows: Array, address: Array, stage: int = TRANSLATED, *, keep_port: bool = False) -> None:
        """The source is rewritten as well."""
        self.ends[rows, stage, 0] = address
        if not keep_port:
            self.ends[rows, stage, 1] = self.ports.masqueraded(address)

    def masquerade_on(self, rows: Array, node: Array, *, local: Array) -> None:
        """The same with the address of the device that the packet leaves `node` by."""
        self.masquerade(rows, np.where(local, self.made.bridge(node), self.made.flannel(node)))

    def goes(self, rows: Array, local: Array, name: str) -> None:
        """Along NAME-local or NAME-remote."""
        self.way[rows] = np.where(local, NUMBER.get(f"{name}-local", -1), NUMBER.get(f"{name}-remote", -1))

    def finished(self, start_ns: Array) -> Table:
        """The table of conversations, for `timeline`."""
        count, generator = len(self.way), self.generator
        for half, source in ((HALF, ORIGINAL), (MIDDLE_HALF, MIDDLE)):
            self.ends[:, half, :2], self.ends[:, half, 2:] = self.ends[:, source, :2], self.ends[:, TRANSLATED, 2:]
        random32 = generator.integers(0, 1 << 32, (2, count, 2))
        return {
            "way": self.way, "service": self.service, "server": self.server, "client_kind": self.client_kind, "client": self.client,
            "mss": self.mss, "ends": self.ends, "places": self.places, "via": self.via, "start_ns": start_ns,
            "jitter": 1 + generator.random(count) / 2, "isn": random32[0], "stamp": random32[1],
            "ip_id": generator.integers(1, 1 << 16, (count, 2)),
        }  # fmt: skip


def _cluster_ip(calls: Calls, rows: Array, service: Array | None, via: str = "ClusterIP") -> None:
    made = calls.made
    client = made.clients[calls.generator.integers(0, len(made.clients), len(rows))]
    service = calls.services_with(None, len(rows)) if service is None else service
    address = made.services.address if via == "ClusterIP" else made.services.balancer
    calls.by_pod(rows, client, (address[service], made.services.port[service]))
    pod = calls.pods_of(service)
    calls.served_by(rows, service, pod, via)
    calls.goes(rows, made.pods.node[client] == made.pods.node[pod], "service")


def _pod_to_balancer(calls: Calls, rows: Array, service: Array | None) -> None:
    # short-circuited on the pod's own node, whatever the policy; IPVS was seen to do so for endpoints of that node only
    _cluster_ip(calls, rows, service, "LoadBalancer" if calls.options.mode != "ipvs" else "ClusterIP")


def _hairpin(calls: Calls, rows: Array, _service: Array | None) -> None:
    made = calls.made
    service = calls.services_with(None, len(rows))
    pod = calls.pods_of(service)
    calls.by_pod(rows, pod, (made.services.address[service], made.services.port[service]))
    calls.served_by(rows, service, pod, "ClusterIP")
    calls.masquerade(rows, made.bridge(made.pods.node[pod]), keep_port=calls.options.mode == "ipvs")
    calls.way[rows] = NUMBER["hairpin"]


def _node_port(calls: Calls, rows: Array, service: Array | None, via: str = "NodePort") -> None:
    """At any node, or where policy is Local, at one with a pod of the Service: without a masquerade."""
    made, services = calls.made, calls.made.services
    service = calls.services_with(CLUSTER_POLICY, len(rows)) if service is None else service
    pod = calls.pods_of(service)
    kept = services.policy[service] == LOCAL_POLICY
    node = np.where(kept, made.pods.node[pod], calls.generator.integers(0, len(made.nodes), len(rows)))
    address, port = (made.node_address[node], services.node_port) if via == "NodePort" else (services.balancer[service], services.port)
    calls.from_outside(rows, node, (address, port[service]))
    calls.served_by(rows, service, pod, via)
    local = made.pods.node[pod] == node
    calls.goes(rows, local, "masqueraded")
    calls.way[rows[kept]] = NUMBER["kept-local"]
    calls.masquerade_on(rows[~kept], node[~kept], local=local[~kept])


def _node_port_local(calls: Calls, rows: Array, service: Array | None) -> None:
    _node_port(calls, rows, calls.services_with(LOCAL_POLICY, len(rows)) if service is None else service)


def _balancer(calls: Calls, rows: Array, service: Array | None) -> None:
    _node_port(calls, rows, calls.services_with(None, len(rows)) if service is None else service, "LoadBalancer")


def _from_node(calls: Calls, rows: Array, _service: Array | None) -> None:
    made = calls.made
    service, node = calls.services_with(None, len(rows)), calls.generator.integers(0, len(made.nodes), len(rows))
    pod = calls.pods_of(service)
    calls.by_node(rows, node, service)
    calls.served_by(rows, service, pod, "ClusterIP")
    local = made.pods.node[pod] == node
    calls.masquerade_on(rows, node, local=local)
    calls.goes(rows, local, "node")


def _pod_to_node_port(calls: Calls, rows: Array, _service: Array | None) -> None:
    """Of another node: masqueraded by the first, translated and masqueraded again by the second."""
    made, services = calls.made, calls.made.services
    client = made.clients[calls.generator.integers(0, len(made.clients), len(rows))]
    service = calls.services_with(CLUSTER_POLICY, len(rows))
    here = made.pods.node[client]
    there = (here + calls.generator.integers(1, len(made.nodes), len(rows))) % len(made.nodes)
    pod = calls.pods_of(service)
    calls.by_pod(rows, client, (made.node_address[there], services.node_port[service]))
    calls.ends[rows, MIDDLE] = calls.ends[rows, ORIGINAL]
    calls.masquerade(rows, made.node_address[here], MIDDLE)
    calls.served_by(rows, service, pod, "NodePort")
    calls.places[rows, 1] = there
    local = made.pods.node[pod] == there
    calls.masquerade_on(rows, there, local=local)
    calls.goes(rows, local, "other-node")


def _outside(calls: Calls, rows: Array, service: int, to: tuple[int, int], via: str, way: str) -> None:
    made = calls.made
    client = made.clients[calls.generator.integers(0, len(made.clients), len(rows))]
    calls.by_pod(rows, client, to)
    calls.service[rows], calls.via[rows], calls.way[rows] = service, via, NUMBER[way]
    calls.ends[rows, TRANSLATED] = calls.ends[rows, ORIGINAL]
    calls.ends[rows, TRANSLATED, 2], calls.ends[rows, TRANSLATED, 3] = OUTSIDE_ADDRESS, made.outside_ports[1]
    calls.masquerade(rows, made.node_address[made.pods.node[client]])


def _egress(calls: Calls, rows: Array, _service: Array | None) -> None:
    _outside(calls, rows, NO_SERVICE, (OUTSIDE_ADDRESS, calls.made.outside_ports[1]), "direct", "egress")


def _endpoint_outside(calls: Calls, rows: Array, _service: Array | None) -> None:
    _outside(calls, rows, THE_OUTSIDE_SERVICE, (OUTSIDE_VIP, calls.made.outside_ports[0]), "ClusterIP", "outside-endpoint")


FILLERS: Mapping[str, Callable[[Calls, Array, Array | None], None]] = {
    "ClusterIP": _cluster_ip, "NodePort": _node_port, "NodePort, Local": _node_port_local, "LoadBalancer": _balancer,
    "from a node": _from_node, "hairpin": _hairpin, "pod to NodePort": _pod_to_node_port, "pod to LoadBalancer": _pod_to_balancer,
    "egress": _egress, "endpoint outside": _endpoint_outside,
}  # fmt: skip


def possible(options: Options) -> dict[str, int]:
    """The kinds of calls that a cluster of these `options` can have, with their weights."""
    left_out = {"pod to NodePort"} if options.nodes == 1 else set()
    left_out |= {"NodePort, Local"} if options.services == 1 else set()
    return {kind: weight for kind, weight in WEIGHTS.items() if kind not in left_out}
