"""What generated rules are made from: endpoints by policy, names, and Services in any number. Expectations are kube-proxy's own tests'."""

from __future__ import annotations

import re
from typing import Any

import pytest

from probes.live.kube_proxy.iptables import LARGE_CLUSTER, restore
from probes.live.kube_proxy.ipvs import ipvs
from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort, uniform
from probes.live.kube_proxy.nftables import ruleset
from probes.live.kube_proxy.policies import targets

NODE = NodeView("10.0.0.0/8", ("192.168.0.2", "192.168.0.3"))
HERE, THERE = Endpoint("10.180.0.1", 80, local=True), Endpoint("10.180.2.1", 80, local=False)
ENDING_HERE, ENDING = Endpoint("10.180.0.9", 80, local=True, terminating=True), Endpoint("10.180.2.9", 80, local=False, terminating=True)
INSIDE, BOTH = {"internal_local": True}, {"internal_local": True, "external_local": True, "node_port": 3001}
OUTSIDE = {"external_local": True, "node_port": 3001}


def service(*endpoints: Endpoint, **more: Any) -> ServicePort:
    return ServicePort("ns5", "svc5", "p80", "tcp", "172.30.0.45", 80, endpoints, **more)


# policies, endpoints: those of policy Cluster, those of policy Local, and whether there are any, for a ClusterIP, from outside
POLICIES: dict[str, tuple[dict[str, Any], tuple[Endpoint, ...], tuple[Endpoint, ...], tuple[Endpoint, ...], tuple[bool, bool, bool]]] = {
    "no policy": ({}, (THERE, HERE), (HERE, THERE), (), (True, True, True)),
    "no policy, nothing ready": ({}, (ENDING, ENDING_HERE), (ENDING_HERE, ENDING), (), (True, True, True)),
    "no policy, one ready": ({}, (ENDING, THERE, ENDING_HERE), (THERE,), (), (True, True, True)),
    "nothing at all": (BOTH, (), (), (), (False, False, False)),
    "Local inside": (INSIDE, (THERE, HERE), (), (HERE,), (True, True, True)),
    "Local inside, none here": (INSIDE, (THERE,), (), (), (True, False, True)),
    "Local outside": (OUTSIDE, (THERE, HERE), (HERE, THERE), (HERE,), (True, True, True)),
    "Local outside, none here": (OUTSIDE, (THERE,), (THERE,), (), (True, True, False)),
    "Local outside, one ending here": (OUTSIDE, (THERE, ENDING_HERE), (THERE,), (ENDING_HERE,), (True, True, True)),
    "Local everywhere": (BOTH, (THERE, HERE), (HERE, THERE), (HERE,), (True, True, True)),
}


@pytest.mark.parametrize("case", POLICIES)
def test_endpoints_follow_policies(case: str) -> None:
    policies, endpoints, cluster, local, flags = POLICIES[case]
    found = targets(service(*endpoints, **policies))
    assert (found.cluster, found.local) == (cluster, local)
    assert (found.served, found.inside, found.outside) == flags
    assert set(found.reachable) == {*cluster, *local}


def test_endpoints_are_in_the_order_of_their_text() -> None:
    numbers = [1, 10, 100, 2, 20]
    found = targets(service(*(Endpoint(f"10.180.0.{number}", 80, local=False) for number in numbers)))
    assert [each.address.rpartition(".")[2] for each in found.cluster] == ["100", "10", "1", "20", "2"]  # as in `10:80` < `1:80`


def test_names_are_kube_proxys() -> None:
    """Those of TestOverallNFTablesRules and TestOverallIPTablesRules upstream."""
    fifth = service(
        Endpoint("10.180.0.3", 80, local=False), node_port=3002, load_balancer_ips=("5.6.7.8",), source_ranges=("203.0.113.0/25",),
        affinity_seconds=10800,
    )  # fmt: skip
    nft, rules = ruleset(NODE, [fifth]), restore(NODE, [fifth])
    assert re.findall(r"chain (firewall-.*/.*) \{\n\t\t(.*)", nft) == [
        ("firewall-HVFWP5L3-ns5/svc5/tcp/p80", "ip saddr != { 203.0.113.0/25 } drop")
    ]
    assert "chain endpoint-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80 {" in nft
    assert "timeout 3h\n" in nft
    assert {name for name in re.findall(r"^:(KUBE-\w+-\w+) ", rules, re.MULTILINE) if name[-16:] == "NUKIZ6OKUXPJNT4C"} == {
        f"KUBE-{kind}-NUKIZ6OKUXPJNT4C" for kind in ("SVC", "EXT", "FW")
    }


def test_a_long_name_is_cut_to_what_nftables_takes() -> None:
    long = ServicePort(
        "n" * 63, "s" * 63, "p" * 63, "sctp", "fd00::1", 80, (Endpoint(f"{'fd00:' * 7}abcd", 65535, local=True),), affinity_seconds=9
    )
    (chain,) = re.findall(r"chain (endpoint-.*) \{", ruleset(NodeView("fd00::/16", ("fd00::2",)), [long]))
    assert len(chain.removeprefix("endpoint-")) == 240
    assert chain.endswith("...")


def test_ipvs_binds_no_address_that_the_node_has() -> None:
    state = ipvs(NODE, [service(HERE, external_ips=("192.168.0.3", "5.6.7.8"), load_balancer_ips=("192.168.0.2", "5.6.7.9"))])
    assert state.addresses == ("172.30.0.45", "5.6.7.8", "5.6.7.9")


@pytest.mark.parametrize(("count", "comments"), [(LARGE_CLUSTER, True), (LARGE_CLUSTER + 1, False)])
def test_large_clusters_have_rules_of_endpoints_without_comments(count: int, comments: bool) -> None:
    rules = restore(NODE, uniform(count, 1, (f"10.1.{number // 250}.{number % 250}" for number in range(count)))).splitlines()
    of_endpoints = [rule for rule in rules if rule.startswith("-A KUBE-SEP-") or "-j KUBE-SEP-" in rule]
    assert len(of_endpoints) == 3 * count
    assert {"--comment" in rule for rule in of_endpoints} == {comments}


def test_uniform_services_have_addresses_of_their_own() -> None:
    services = uniform(503, 3, [f"10.1.0.{number}" for number in range(7)])
    assert len({each.cluster_ip for each in services}) == len({each.full_name for each in services}) == 503
    assert all(len({endpoint.address for endpoint in each.endpoints}) == 3 for each in services)
    assert {endpoint.address for each in services for endpoint in each.endpoints} == {f"10.1.0.{number}" for number in range(7)}


def test_too_few_addresses_are_said() -> None:
    with pytest.raises(ValueError, match="need as many addresses; got 2"):
        uniform(5, 3, ["10.1.0.1", "10.1.0.2"])


@pytest.mark.parametrize("services", [1, 10, 101, 1009])
def test_one_more_service_costs_what_it_costs(services: int) -> None:
    """Rules of a Service with two endpoints: where all begin, a masquerade, two jumps, two for each endpoint. nftables has a chain."""
    given = uniform(services, 2, (f"10.1.{number // 250}.{number % 250}" for number in range(2 * services)))
    rules, empty = restore(NODE, given), restore(NODE, [])
    assert rules.count("\n-A ") - empty.count("\n-A ") == 8 * services
    assert rules.count(" -j KUBE-SVC-") == services
    nft, bare = ruleset(NODE, given), ruleset(NODE, [])
    assert nft.count("\tchain ") - bare.count("\tchain ") == services
    state = ipvs(NODE, given)
    assert state.iptables == ipvs(NODE, given[:1]).iptables
    assert state.servers.count("-A -t ") == services
