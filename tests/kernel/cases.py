"""The ways through the cluster, a row each: who asks what, how NAT treats it, which interfaces it passes, what it is called."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from .services import NODES, OUTSIDE_PORT, PODS, SERVICES, Service
from .traffic import SAME_ANSWER, SYN_TWICE_SECONDS, WAIT_SECONDS, Attempt, End, Traffic, address_of

A, B = "node-a", "node-b"
Nat = tuple[tuple[str, tuple[str, ...]], ...]  # (node, kinds) of each translation, in path order
NONE: Nat = ()
PARALLEL = 12


@dataclass(frozen=True, slots=True)
class Case:
    """`count` connections of `client` to `target`.

    A target is `SERVICE:ClusterIP`, `SERVICE:NODE` (its NodePort there), `PLACE:PORT`, or `PLACE` (an echo).
    """

    name: str
    client: str
    target: str
    nat: Nat
    proto: str = "tcp"
    count: int = 5
    size: int = 100
    status: str = "closed"
    seconds: float | None = None
    source_port: int = 0  # the same one for all
    named: str | None = None  # the Service's name where the target does not tell
    families: tuple[int, ...] = (0, 1)
    mark: bytes = b""  # in every datagram

    @property
    def service(self) -> Service | None:
        name = self.target.split(":")[0]
        return next((each for each in SERVICES if each.name == name and each.proto == self.proto), None)

    @property
    def via(self) -> str | None:
        """What hopline calls the way in."""
        if self.service is None:
            return "Headless" if self.named else "direct"
        return "ClusterIP" if self.target.endswith(":ClusterIP") else "NodePort"

    @property
    def own_call(self) -> bool:
        """A node's own call that NAT changed: its original tuple is on no wire."""
        return self.client in NODES and bool(self.nat)

    def end(self, family: int) -> End:
        """The address and port that the client asks for."""
        name, _, where = self.target.partition(":")
        service = self.service
        if service is None:
            return address_of(name, family), int(where or 0)
        return (service.vips[family], service.port) if where == "ClusterIP" else (address_of(where, family), service.node_port)


DNAT, SNAT, BOTH = ("dnat",), ("snat",), ("dnat", "snat")
_OUT = f"client:{OUTSIDE_PORT}"

CASES = (
    Case("pod to ClusterIP", "front", "web:ClusterIP", ((A, DNAT),), count=23),
    Case("pod to ClusterIP, 300 kB", "front", "web:ClusterIP", ((A, DNAT),), count=5, size=300_000),
    Case("pod to a Service with an endpoint elsewhere", "front", "self:ClusterIP", ((A, DNAT),)),
    Case("NodePort", "client", "web:node-a", ((A, BOTH),), count=23),
    Case("NodePort, 300 kB", "client", "web:node-b", ((B, BOTH),), size=300_000),
    Case("NodePort, one client port again and again", "client", "web:node-a", ((A, BOTH),), count=7, source_port=31337),
    Case("NodePort, policy Local", "client", "local:node-b", ((B, DNAT),)),
    Case("NodePort, policy Local, no endpoint there", "client", "local:node-a", NONE, count=3, status="timeout", seconds=SYN_TWICE_SECONDS),
    Case("pod to its own node's NodePort", "front", "web:node-a", ((A, BOTH),)),
    Case("pod to another node's NodePort", "front", "web:node-b", ((A, SNAT), (B, BOTH))),
    Case("hairpin", "lone", "self:ClusterIP", ((B, BOTH),)),
    Case("headless", "front", "lone:5432", NONE, named="base"),
    Case("pod to pod, same node", "front", "web-a:8080", NONE),
    Case("pod to pod, other node", "front", "web-b:8080", NONE, count=23),
    Case("pod to outside", "front", _OUT, ((A, SNAT),)),
    Case("node to ClusterIP", "node-a", "web:ClusterIP", ((A, BOTH),), count=7),
    Case("node to pod", "node-a", "web-a:8080", NONE),
    Case("Service without local endpoints drops", "front", "here:ClusterIP", NONE, count=3, status="timeout", seconds=SYN_TWICE_SECONDS),
    Case("Service with a local endpoint only", "lone", "here:ClusterIP", ((B, BOTH),)),
    Case("Service without endpoints rejects", "front", "empty:ClusterIP", NONE, status="refused"),
    Case("nothing listens", "front", "closed:ClusterIP", ((A, DNAT),), status="refused"),
    Case("endpoint vanished", "front", "ghost:ClusterIP", ((A, DNAT),), count=1, status="refused"),
    Case("datagrams to ClusterIP", "front", "web:ClusterIP", ((A, DNAT),), "udp", count=101),
    Case("datagrams to NodePort", "client", "web:node-a", ((A, BOTH),), "udp", count=23),
    Case("datagrams to ClusterIP, one answer for all", "front", "web:ClusterIP", ((A, DNAT),), "udp", count=23, mark=SAME_ANSWER),
    Case("datagrams to NodePort, one answer for all", "client", "web:node-b", ((B, BOTH),), "udp", count=23, mark=SAME_ANSWER),
    Case("datagrams out", "front", _OUT, ((A, SNAT),), "udp"),
    Case("datagram hairpin", "lone", "self:ClusterIP", ((B, BOTH),), "udp"),
    Case("datagrams in fragments to ClusterIP", "front", "web:ClusterIP", ((A, DNAT),), "udp", size=4000),
    Case("datagrams in fragments to NodePort", "client", "web:node-b", ((B, BOTH),), "udp", size=4000, families=(0,)),
    Case("datagrams in fragments out", "front", _OUT, ((A, SNAT),), "udp", size=4000, families=(0,)),
    Case("node's datagrams to ClusterIP", "node-a", "web:ClusterIP", ((A, BOTH),), "udp"),
    Case("datagrams rejected", "front", "empty:ClusterIP", NONE, "udp", status="refused"),
    Case("datagrams to a closed port", "front", "closed:ClusterIP", ((A, DNAT),), "udp", status="refused"),
    Case("echo out", "front", "client", ((A, SNAT),), "icmp"),
    Case("echo to another node's pod", "front", "web-b", NONE, "icmp"),
)


def _jobs(traffic: Traffic, case: Case, family: int) -> list[Callable[[], Attempt]]:
    target, key = case.end(family), f"{case.name} {['v4', 'v6'][family]}"
    seconds = case.seconds or WAIT_SECONDS
    if case.proto == "icmp":
        return [lambda: traffic.ping(key, case.client, target[0])] * case.count
    if case.proto == "udp":
        return [lambda: traffic.udp(key, case.client, target, size=case.size, seconds=seconds, mark=case.mark)] * case.count
    return [lambda: traffic.tcp(key, case.client, target, size=case.size, port=case.source_port, seconds=seconds)] * case.count


def run_cases(traffic: Traffic) -> None:
    """All connections of all CASES: cases side by side, of those with a port of their own one after the other."""
    rows: list[list[Callable[[], Attempt]]] = []
    for case in CASES:
        for family in case.families:
            jobs = _jobs(traffic, case, family)
            rows += [jobs] if case.source_port else [[job] for job in jobs]
    slow = sorted(rows, key=lambda jobs: len(jobs) == 1)
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda jobs: [job() for job in jobs], slow))


def warm_up(traffic: Traffic) -> None:
    """Let bridges and neighbour tables learn everybody, so that no first packet is flooded or waits."""
    for place, pod in (
        ("node-a", "web-a"),
        ("front", "web-a"),
        ("front", "web-b"),
        ("node-b", "lone"),
        ("client", "node-a"),
        ("client", "node-b"),
    ):
        for family in (0, 1):
            traffic.ping("warm-up", place, address_of(pod, family), count=1)
    traffic.attempts.clear()


def way(case: Case, server: str | None, *, bridged: bool, tunnels: bool = True) -> list[tuple[str, str]]:
    """(node, interface) of the request in path order, where every interface is captured; `server` is the place that answered.

    On a `bridged` lab a packet to a pod of the same node goes from port to port, also after br_netfilter's DNAT: `cni0` does not see it.
    Without `tunnels`, packets inside of VXLAN cannot be read.
    """
    here, path = _start(case.client)
    if bridged and server in PODS and case.client in PODS and PODS[server].node == here and all(node == here for node, _ in case.nat):
        ports = [(here, f"veth-{case.client}"), (here, f"veth-{server}")]
        return [step for step, _ in groupby(ports)]
    stops = [node for node, _ in case.nat if node != here]
    for stop in stops:
        path += _between(here, stop)
        here = stop
    if server is None:
        return path
    there = PODS[server].node if server in PODS else server
    if there != here:
        path += _tunnel(here, there, seen=tunnels) if there in NODES and here in NODES else _between(here, there)
    if server in PODS:
        path += [(there, "cni0"), (there, f"veth-{server}")]
    return [step for step, _ in groupby(path)]


def _start(client: str) -> tuple[str, list[tuple[str, str]]]:
    if client in PODS:
        node = PODS[client].node
        return node, [(node, f"veth-{client}"), (node, "cni0")]
    return client, []


def _between(here: str, there: str) -> list[tuple[str, str]]:
    """Over the underlay, untunnelled."""
    return [(node, "eth0") for node in (here, there) if node in NODES]


def _tunnel(here: str, there: str, *, seen: bool) -> list[tuple[str, str]]:
    wire = [(here, "eth0"), (there, "eth0")] if seen else []
    return [(here, "flannel.1"), *wire, (there, "flannel.1")]
