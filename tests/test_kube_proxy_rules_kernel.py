"""Generated rules in a kernel: what it lists is what real nodes listed, and connections are translated as Services say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import SAMPLES
from kernel.lab import Lab
from kube_proxy_dumps import by_service, ipsets, nft_table, objects, own_addresses, service_ports, tables, view
from kube_proxy_node import CLIENTS, NODE, NODE_ADDRESSES, ask, load, make_accounts, node

from probes.live.kube_proxy.iptables import restore
from probes.live.kube_proxy.ipvs import ipvs
from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort, uniform
from probes.live.kube_proxy.nftables import ruleset

with_ipset = pytest.mark.skipif(shutil.which("ipset") is None, reason="needs ipset (apt install ipset)")
FAMILIES = (False, True)  # IPv6?
IPTABLES = ("iptables-nft", "iptables-legacy")


def tool(flavour: str, verb: str, *, ipv6: bool) -> list[str]:
    return [f"{flavour.replace('iptables', 'ip6tables') if ipv6 else flavour}-{verb}"]


@pytest.fixture
def bare(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with node("rules") as lab:
        yield lab


@pytest.mark.parametrize("flavour", IPTABLES)
def test_iptables_lists_what_a_node_listed(bare: Lab, flavour: str) -> None:
    folder = SAMPLES / "iptables"
    items, dump = objects(folder), (folder / f"{NODE}.iptables-save.txt").read_text()
    make_accounts(bare)
    for ipv6 in FAMILIES:
        load(bare, tool(flavour, "restore", ipv6=ipv6), restore(view(items, NODE, ipv6=ipv6), service_ports(items, NODE, ipv6=ipv6)))
        listed = tables(bare.run("node", *tool(flavour, "save", ipv6=ipv6)), ipv6=ipv6)
        assert by_service(listed) == by_service(tables(dump, ipv6=ipv6))


def test_nftables_lists_what_a_node_listed(bare: Lab) -> None:
    folder = SAMPLES / "dual-stack"
    items, dump = objects(folder), (folder / f"{NODE}.nft-ruleset.txt").read_text()
    for ipv6 in FAMILIES:
        load(bare, ["nft", "-f", "-"], ruleset(view(items, NODE, ipv6=ipv6), service_ports(items, NODE, ipv6=ipv6)))
    listed = bare.run("node", "nft", "list", "ruleset")
    for ipv6 in FAMILIES:
        assert nft_table(listed, ipv6=ipv6) == nft_table(dump, ipv6=ipv6)


@with_ipset
def test_ipvs_sets_and_rules_list_as_on_a_node(bare: Lab) -> None:
    folder = SAMPLES / "ipvs"
    items = objects(folder)
    own = own_addresses((folder / f"{NODE}.links.txt").read_text())
    for ipv6 in FAMILIES:
        state = ipvs(view(items, NODE, ipv6=ipv6, own=own), service_ports(items, NODE, ipv6=ipv6))
        load(bare, ["ipset", "restore"], state.ipsets)
        load(bare, tool("iptables-nft", "restore", ipv6=ipv6), state.iptables)
        listed = tables(bare.run("node", *tool("iptables-nft", "save", ipv6=ipv6)), ipv6=ipv6)
        assert by_service(listed) == by_service(tables((folder / f"{NODE}.iptables-save.txt").read_text(), ipv6=ipv6))
    assert ipsets(bare.run("node", "ipset", "save")) == ipsets((folder / f"{NODE}.ipset-save.txt").read_text())


# What the recorded clusters do not have: external addresses, source ranges with and without this node, SCTP, endpoints that end, no name.
_POD = Endpoint("10.244.1.2", 8080, local=True)
_ELSEWHERE = Endpoint("10.244.2.3", 8080, local=False)
_ENDING = Endpoint("10.244.0.3", 8080, local=False, terminating=True)
UNRECORDED = [
    ServicePort("shop", "plain", "", "tcp", "10.96.1.1", 80, (_POD, _ELSEWHERE, _ENDING), external_ips=("172.30.0.230", "172.30.0.231")),
    ServicePort("shop", "gone", "", "udp", "10.96.1.2", 53, (), external_ips=("172.30.0.230",), node_port=30053),
    ServicePort(
        "shop", "allowed", "http", "tcp", "10.96.1.3", 80, (_ELSEWHERE, _POD), node_port=30080, load_balancer_ips=("172.30.0.241",),
        source_ranges=("100.64.0.0/16", "172.30.0.0/25"), affinity_seconds=5400,
    ),
    ServicePort(
        "shop", "kept-out", "http", "tcp", "10.96.1.4", 80, (_ELSEWHERE,), node_port=30081, load_balancer_ips=("172.30.0.242",),
        source_ranges=("198.51.100.0/24", "203.0.113.0/25"), external_local=True, health_check_node_port=31000,
    ),
    ServicePort("shop", "sctp", "s", "sctp", "10.96.1.5", 132, (_POD,), node_port=30132, external_local=True),
    ServicePort("shop", "here", "h", "tcp", "10.96.1.6", 80, (_ELSEWHERE,), internal_local=True),
    ServicePort("shop", "ending", "e", "tcp", "10.96.1.7", 80, (_ENDING,)),
]  # fmt: skip
SEEN = NodeView("10.244.0.0/16", ("172.30.0.12",), ("10.96.0.0/16", "10.99.0.0/24"))


def sixth(text: str) -> str:
    """An IPv6 address or network with the same digits: fd00::172:30:0:12 of 172.30.0.12."""
    address, _, length = text.partition("/")
    return f"fd00::{address.replace('.', ':')}" + (f"/{128 - (32 - int(length))}" if length else "")


def in_ipv6(service: ServicePort) -> ServicePort:
    return replace(
        service,
        cluster_ip=sixth(service.cluster_ip),
        endpoints=tuple(replace(each, address=sixth(each.address)) for each in service.endpoints),
        external_ips=tuple(map(sixth, service.external_ips)),
        load_balancer_ips=tuple(map(sixth, service.load_balancer_ips)),
        # Half of the last group holds the node and not its balancer, as 172.30.0.0/25 does; the others need not hold anything.
        source_ranges=tuple("fd00::172:30:0:0/121" if "172.30" in each else sixth(each) for each in service.source_ranges),
    )


MANY = uniform(503, 2, [f"10.244.{number}.7" for number in range(251)])
SEEN6 = NodeView("fd00:10:244::/48", (sixth("172.30.0.12"),), ("fd00:10:96::/112", "fd00:10:99::/112"))
GENERATED = {
    "unrecorded": (SEEN, UNRECORDED), "unrecorded, IPv6": (SEEN6, [in_ipv6(each) for each in UNRECORDED]), "many": (SEEN, MANY),
}  # fmt: skip


@pytest.mark.parametrize("flavour", IPTABLES)
@pytest.mark.parametrize("case", GENERATED)
def test_iptables_lists_what_is_generated(bare: Lab, flavour: str, case: str) -> None:
    seen, services = GENERATED[case]
    generated = restore(seen, services)
    load(bare, tool(flavour, "restore", ipv6=seen.ipv6), generated)
    assert tables(bare.run("node", *tool(flavour, "save", ipv6=seen.ipv6)), ipv6=seen.ipv6) == tables(generated)


@pytest.mark.parametrize("case", GENERATED)
def test_nftables_lists_what_is_generated(bare: Lab, case: str) -> None:
    seen, services = GENERATED[case]
    generated = ruleset(seen, services)
    load(bare, ["nft", "-f", "-"], generated)
    assert nft_table(bare.run("node", "nft", "list", "ruleset"), ipv6=seen.ipv6) == nft_table(generated, ipv6=seen.ipv6)


@with_ipset
@pytest.mark.parametrize("case", GENERATED)
def test_ipvs_sets_list_what_is_generated(bare: Lab, case: str) -> None:
    seen, services = GENERATED[case]
    state = ipvs(seen, services)
    load(bare, ["ipset", "restore"], state.ipsets)
    without_ipvs = "".join(f"{line}\n" for line in state.iptables.splitlines() if "-m ipvs" not in line)  # a module most kernels lack
    load(bare, tool("iptables-nft", "restore", ipv6=seen.ipv6), without_ipvs)
    assert ipsets(bare.run("node", "ipset", "save")) == ipsets(state.ipsets)
    assert tables(bare.run("node", *tool("iptables-nft", "save", ipv6=seen.ipv6)), ipv6=seen.ipv6) == tables(without_ipvs)
    kept_out = [line for line in state.iptables.splitlines() if "-m ipvs" in line]
    assert [line.partition("--vaddr ")[2].split()[0] for line in kept_out] == [
        each.load_balancer_ips[0] for each in services if each.name == "kept-out"
    ]


# Beside the recorded Services: a balancer for the client outside, one that is not for it, an external address.
_WEB = tuple(Endpoint(f"10.244.{number}.{pod}", 8080, local=number == 1) for number, pod in ((0, 3), (1, 2), (2, 3)))
GUARDED = [
    ServicePort(
        "demo", "guarded", "", "tcp", "10.96.50.1", 80, _WEB, load_balancer_ips=("172.30.0.245",), source_ranges=("172.30.0.192/26",)
    ),
    ServicePort("demo", "kept-out", "", "tcp", "10.96.50.2", 80, _WEB, load_balancer_ips=("172.30.0.246",), source_ranges=("10.9.0.0/16",)),
    ServicePort("demo", "external", "", "tcp", "10.96.50.3", 80, _WEB, external_ips=("172.30.0.247",)),
]


@pytest.fixture(scope="module", params=["nftables", *IPTABLES])
def served(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The Services of the dual-stack cluster and GUARDED, in each mode."""
    items = objects(SAMPLES / "dual-stack")
    with node("served") as lab:
        for ipv6 in FAMILIES:
            seen, services = replace(view(items, NODE, ipv6=ipv6), accounting=False), service_ports(items, NODE, ipv6=ipv6)
            services += [] if ipv6 else GUARDED
            if request.param == "nftables":
                load(lab, ["nft", "-f", "-"], ruleset(seen, services))
            else:
                load(lab, tool(request.param, "restore", ipv6=ipv6), restore(seen, services))
        yield lab


WEB4 = {"10.244.0.3:8080", "10.244.1.2:8080", "10.244.2.3:8080"}
WEB6 = {"[fd00:10:244::3]:8080", "[fd00:10:244:1::2]:8080", "[fd00:10:244:2::3]:8080"}
(NODE4, NODE6), (POD4, POD6), (OUT4, OUT6) = (
    [each[ipv6] for ipv6 in FAMILIES]
    for each in ({v6: own[1] for v6, own in NODE_ADDRESSES.items()}, CLIENTS["client"], CLIENTS["outside"])
)
# client, address, port: the source that the pod sees (the node's where it is masqueraded), the pods that may answer
CONNECTIONS = {
    "ClusterIP from a pod": ("client", "10.96.10.1", 80, POD4, WEB4),
    "ClusterIP from outside": ("outside", "10.96.10.1", 80, NODE4, WEB4),
    "ClusterIP, policy Local": ("client", "10.96.10.5", 80, POD4, {"10.244.1.2:8080"}),
    "node port": ("outside", "172.30.0.12", 30090, NODE4, WEB4),
    "node port, policy Local": ("outside", "172.30.0.12", 30091, OUT4, {"10.244.1.2:8080"}),
    "node port, policy Local, from a pod": ("client", "172.30.0.12", 30091, POD4, WEB4),
    "load balancer": ("outside", "172.30.0.241", 80, NODE4, WEB4),
    "load balancer that lets the client in": ("outside", "172.30.0.245", 80, NODE4, WEB4),
    "external address": ("outside", "172.30.0.247", 80, NODE4, WEB4),
    "ClusterIP, IPv6": ("client", "fd00:10:96::c0f9", 80, POD6, WEB6),
    "node port, IPv6": ("outside", "fd00:30::12", 30090, NODE6, WEB6),
    "node port, policy Local, IPv6": ("outside", "fd00:30::12", 30091, OUT6, {"[fd00:10:244:1::2]:8080"}),
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_a_connection_is_translated(served: Lab, case: str) -> None:
    place, address, port, source, pods = CONNECTIONS[case]
    for _ in range(3):
        answered = ask(served, place, address, port)
        assert answered.client.rpartition(":")[0].strip("[]") == source
        assert answered.server in pods


def test_all_endpoints_get_connections(served: Lab) -> None:
    assert {ask(served, "client", "10.96.10.1", 80).server for _ in range(101)} == WEB4  # each is missed by one run in 10¹⁷


def test_affinity_keeps_the_endpoint(served: Lab) -> None:
    assert len({ask(served, "client", "10.96.10.6", 80).server for _ in range(23)}) == 1


@pytest.mark.parametrize(("place", "address", "port"), [("client", "10.96.40.1", 80), ("outside", "172.30.0.12", 30093)])
def test_a_service_without_endpoints_refuses(served: Lab, place: str, address: str, port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        ask(served, place, address, port)


def test_a_load_balancer_keeps_others_out(served: Lab) -> None:
    with pytest.raises(TimeoutError):
        ask(served, "outside", "172.30.0.246", 80, seconds=0.5)
    assert ask(served, "outside", "10.96.50.2", 80).server in WEB4, "its ClusterIP is for everyone"
