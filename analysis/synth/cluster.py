"""The made cluster: its nodes, pods and Services, as arrays that traffic is drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.synth.options import Options
from probes.schema import Array

CLIENTS_OF_A_NODE, OUTSIDE_CLIENTS = 2, 4
FIRST_VETH = 6  # interface index
HTTP_PORTS, OPAQUE_PORTS = (80, 8080), (9480, 9400)  # of a Service, of its pods; no dissector claims the second two

NAMESPACE, INGRESS_NAMESPACE, CLIENT_NAMESPACE = "shop", "ingress-nginx", "load"
INGRESS_SERVICES = ("ingress-nginx-nodeport", "ingress-nginx-controller")  # externalTrafficPolicy Cluster, Local
CLUSTER_POLICY, LOCAL_POLICY = 0, 1
OUTSIDE_SERVICE = "external-api"  # its only endpoint is outside, with the same ports


def ipv4(text: str) -> int:
    """A dotted address as a number."""
    one, two, three, four = map(int, text.split("."))
    return one << 24 | two << 16 | three << 8 | four


OUTSIDE_ADDRESS, OUTSIDE_VIP = ipv4("172.30.255.200"), ipv4("10.96.255.200")


@dataclass(frozen=True, slots=True)
class Pods:
    """One row per pod: `service` is the row of its Service, -1 for a client."""

    names: list[str]
    namespaces: list[str]
    node: Array
    address: Array
    port: Array
    ifindex: Array
    service: Array


@dataclass(frozen=True, slots=True)
class Services:
    """One row per Service; `first_pod` and `pods` say which rows of `Pods` are behind it."""

    names: list[str]
    namespaces: list[str]
    address: Array
    balancer: Array  # the load balancer's address
    port: Array
    node_port: Array
    policy: Array
    first_pod: Array
    pods: Array


@dataclass(frozen=True, slots=True)
class MadeCluster:
    """Nodes by name and address, and what runs there. Of node n, the bridge's address is 10.244.n.1 and flannel.1's 10.244.n.0."""

    nodes: list[str]
    node_address: Array
    pods: Pods
    services: Services
    shop: int  # so many of `services`, from the first on, are the application's; then come the ingress controller's
    clients: Array  # rows of `pods`
    outside: Array  # addresses of clients outside
    outside_ports: tuple[int, int]  # of OUTSIDE_SERVICE and of its endpoint

    def flannel(self, node: Array) -> Array:
        """The address that a node's masquerade takes for what leaves through flannel.1."""
        return np.asarray(POD_NETWORK + (node << 8))

    def bridge(self, node: Array) -> Array:
        """The address that a node's masquerade takes for what leaves through the bridge."""
        return self.flannel(node) + 1


POD_NETWORK = ipv4("10.244.0.0")


def _node_name(number: int) -> str:
    return f"node-{chr(ord('a') + number)}" if number < 26 else f"node-{number + 1}"


def made_cluster(options: Options) -> MadeCluster:
    """The cluster of `options`: nothing of it is drawn, so that it is the same for every seed."""
    nodes, service_port, target_port = options.nodes, *(OPAQUE_PORTS if options.l4_only else HTTP_PORTS)
    names, namespaces, where, ports, behind = list[str](), list[str](), list[int](), list[int](), list[int]()

    def add(name: str, namespace: str, node: int, port: int, service: int) -> None:
        names.append(name)
        namespaces.append(namespace)
        where.append(node)
        ports.append(port)
        behind.append(service)

    shop = options.services
    service_names = [f"svc-{number:04d}" for number in range(shop)]
    first = [number * options.pods for number in range(shop)]
    for number, name in enumerate(service_names):
        for pod in range(options.pods):
            add(f"{name}-{pod}", NAMESPACE, (number + pod) % nodes, target_port, number)
    controllers = len(names)
    for node in range(nodes):
        add(f"ingress-nginx-controller-{node}", INGRESS_NAMESPACE, node, service_port, shop)
    clients = len(names)
    for node in range(nodes):
        for number in range(CLIENTS_OF_A_NODE):
            add(f"client-{node}-{number}", CLIENT_NAMESPACE, node, 0, -1)

    node_of = np.array(where, "i8")
    place = np.zeros(len(names), "i8")
    for each in range(nodes):
        there = np.flatnonzero(node_of == each)
        place[there] = np.arange(len(there))
    row = np.arange(shop + len(INGRESS_SERVICES))
    return MadeCluster(
        [_node_name(node) for node in range(nodes)],
        ipv4("172.30.0.11") + np.arange(nodes),
        Pods(names, namespaces, node_of, POD_NETWORK + (node_of << 8) + 2 + place, np.array(ports), FIRST_VETH + place, np.array(behind)),
        Services(
            [*service_names, *INGRESS_SERVICES],
            [*[NAMESPACE] * shop, *[INGRESS_NAMESPACE] * len(INGRESS_SERVICES)],
            ipv4("10.96.1.0") + row,
            ipv4("172.31.0.10") + row,
            np.full(len(row), service_port),
            30000 + row,
            np.where(row < shop, row % 2, row - shop),
            np.array([*first, *[controllers] * len(INGRESS_SERVICES)]),
            np.array([*[options.pods] * shop, *[nodes] * len(INGRESS_SERVICES)]),
        ),
        shop,
        np.arange(clients, len(names)),
        ipv4("172.30.1.100") + np.arange(OUTSIDE_CLIENTS),
        (service_port, target_port),
    )
