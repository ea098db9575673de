"""kube-proxy's rules in its three modes: extracts of real dumps (tests/data/rules), with paths counted by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.addresses import Address, parse, text
from tracer.rules import DUMPS, ProxyRules, ServicePath, read_rules

EXTRACTS = Path(__file__).parent / "data" / "rules"


def dumps_of(mode: str) -> dict[str, str]:
    return {kind: path.read_text() for kind in DUMPS if (path := EXTRACTS / f"{mode}.{kind}.txt").exists()}


DUMPS_OF = {mode: dumps_of(mode) for mode in ("iptables", "nftables", "ipvs")}
RULES: dict[str, ProxyRules] = {mode: read_rules(dumps, "node-a")[0] for mode, dumps in DUMPS_OF.items()}


def endpoint(address: str) -> tuple[Address, int]:
    host, _, port = address.rpartition(":")
    return parse(host.strip("[]")), int(port)


def found(path: ServicePath) -> dict[str, float]:
    return {f"{text(*one.address)}:{one.port}": round(one.share, 6) for one in path.endpoints}


@pytest.mark.parametrize(
    ("mode", "counts"),
    # Services: controller, web, web-affinity, web-nodeport and, refused, no-endpoints; IPVS counts ClusterIP ports.
    [("iptables", (5, 5, 76)), ("nftables", (5, 10, 84)), ("ipvs", (5, 7, 25))],
)
def test_a_mode_is_told_and_counted(mode: str, counts: tuple[int, int, int]) -> None:
    rules, problems = read_rules(DUMPS_OF[mode], "node-a")
    assert problems == []
    assert rules.mode == mode
    assert (rules.services, rules.endpoints, rules.rules) == counts


WEB = {"10.244.0.3:8080": 0.333333, "10.244.1.2:8080": 0.333333, "10.244.2.3:8080": 0.333333}
WEIGHTS = dict.fromkeys(WEB, 1.0)
CONTROLLER, LOCAL = {"10.244.0.2:80": 0.5, "10.244.2.2:80": 0.5}, {"10.244.0.2:80": 1.0}
POD, ELSEWHERE = "10.244.1.2", "172.30.0.100"

# mode, address ("" for a nodePort) and port, endpoint, source: rules walked, masquerade, endpoints, last chain's beginning
PATHS: list[tuple[str, str, str | None, str | None, int, bool | None, dict[str, float], str]] = [
    # PREROUTING 1, third of KUBE-SERVICES, the third endpoint after KUBE-SVC's masquerade rule, second of KUBE-SEP
    ("iptables", "10.96.10.1:80", None, None, 1 + 3 + 4 + 2, None, WEB, "KUBE-SVC-XRY76EGRC3BSCIIJ"),
    ("iptables", "10.96.10.1:80", "10.244.0.3:8080", POD, 1 + 3 + 2 + 2, False, WEB, "KUBE-SEP-CQ4QY7EE2SRNBL7G"),
    ("iptables", "10.96.10.1:80", "10.244.2.3:8080", POD, 1 + 3 + 4 + 2, False, WEB, "KUBE-SEP-"),
    # From outside and to itself: KUBE-MARK-MASQ has one rule
    ("iptables", "10.96.10.1:80", "10.244.2.3:8080", ELSEWHERE, 1 + 3 + 4 + 1 + 2, True, WEB, "KUBE-SEP-"),
    ("iptables", "10.96.10.1:80", "10.244.1.2:8080", POD, 1 + 3 + 3 + 2 + 1, True, WEB, "KUBE-SEP-"),
    # Affinity: three `recent` rules come before those of chance
    ("iptables", "10.96.10.6:80", "10.244.0.3:8080", POD, 1 + 4 + 5 + 2, False, WEB, "KUBE-SEP-"),
    # A load balancer's address, externalTrafficPolicy Local: the fourth rule of KUBE-EXT; a pod is let in by the first
    ("iptables", "172.30.0.240:80", None, None, 1 + 2 + 4 + 1 + 2, False, LOCAL, "KUBE-SEP-5ZQU4VTER43PI52M"),
    ("iptables", "172.30.0.240:80", "10.244.2.2:80", POD, 1 + 2 + 1 + 3 + 2, False, CONTROLLER, "KUBE-SEP-"),
    # NodePorts: all of KUBE-SERVICES, then pairs of rules in KUBE-NODEPORTS
    ("iptables", ":30081", None, ELSEWHERE, 1 + 6 + 2 + 4 + 1 + 2, False, LOCAL, "KUBE-SEP-5ZQU4VTER43PI52M"),
    ("iptables", ":30090", "10.244.0.3:8080", None, 1 + 6 + 4 + 1 + 1 + 1 + 2 + 2, True, WEB, "KUBE-SEP-U6IVTQEJ4W2UNIEI"),
    # nat-prerouting 1, services' second rule (third for nodePorts), one rule of the Service's chain
    ("nftables", "10.96.10.1:80", None, None, 1 + 2 + 1, None, WEB, "service-AXK6CI2C-demo/web/tcp/http"),
    ("nftables", "10.96.10.1:80", "10.244.1.2:8080", ELSEWHERE, 1 + 2 + 1, True, WEB, "service-"),
    ("nftables", "10.96.10.1:80", "10.244.1.2:8080", POD, 1 + 2 + 1, True, WEB, "service-"),
    ("nftables", "10.96.10.1:80", "10.244.0.3:8080", POD, 1 + 2 + 1, False, WEB, "service-"),
    ("nftables", "10.96.10.6:80", "10.244.1.2:8080", "10.244.0.9", 1 + 2 + 4 + 2, False, WEB, "endpoint-LCZYFEJ5-"),
    ("nftables", "172.30.0.240:80", None, ELSEWHERE, 1 + 2 + 4 + 1, False, LOCAL, "local-TAO5FKKM-"),
    ("nftables", "172.30.0.240:80", None, POD, 1 + 2 + 1 + 1, False, CONTROLLER, "service-TAO5FKKM-"),
    ("nftables", ":30081", None, None, 1 + 3 + 4 + 1, False, LOCAL, "local-TAO5FKKM-"),
    ("nftables", ":30090", None, None, 1 + 3 + 2 + 1, True, WEB, "service-VJGUNRM6-"),
    # PREROUTING 1, five of KUBE-SERVICES; the fourth calls KUBE-NODE-PORT with two rules, for all that is the node's own
    ("ipvs", "10.96.10.1:80", None, None, 1 + 5 + 2, None, WEIGHTS, "KUBE-SERVICES"),
    ("ipvs", "10.96.10.1:80", "10.244.1.2:8080", "10.244.0.9", 1 + 5 + 2, False, WEIGHTS, "KUBE-SERVICES"),
    ("ipvs", "10.96.10.1:80", "10.244.1.2:8080", POD, 1 + 5 + 2, True, WEIGHTS, "KUBE-SERVICES"),
    ("ipvs", "10.96.10.1:80", "10.244.1.2:8080", ELSEWHERE, 1 + 5 + 2 + 1, True, WEIGHTS, "KUBE-SERVICES"),
    ("ipvs", "172.30.0.240:80", None, ELSEWHERE, 1 + 6 + 1 + 2, False, LOCAL, "KUBE-SERVICES"),
    ("ipvs", ":30081", None, ELSEWHERE, 1 + 6 + 1, False, LOCAL, "KUBE-SERVICES"),
    ("ipvs", ":30080", None, ELSEWHERE, 1 + 6 + 2 + 1, True, dict.fromkeys(CONTROLLER, 1.0), "KUBE-SERVICES"),
]


@pytest.mark.parametrize(("mode", "address", "to", "source", "walked", "masquerade", "endpoints", "chain"), PATHS)
def test_a_first_packet_walks_these_rules(
    mode: str,
    address: str,
    to: str | None,
    source: str | None,
    walked: int,
    masquerade: bool | None,
    endpoints: dict[str, float],
    chain: str,
) -> None:
    host, _, port = address.rpartition(":")
    target = endpoint(to) if to else None
    asking = parse(source) if source else None
    if host:
        path = RULES[mode].service_path(parse(host), int(port), "TCP", target, source=asking)
    else:
        path = RULES[mode].node_port_path(int(port), "tcp", target, source=asking)
    assert path is not None
    assert (path.rules_walked, path.masquerade, found(path)) == (walked, masquerade, endpoints)
    assert path.chains[0] == ("services" if mode == "nftables" else "KUBE-SERVICES")
    assert path.chains[-1].startswith(chain)
    assert path.affinity == (host == "10.96.10.6")
    assert path.verdict == "dnat"


def test_the_chains_are_those_that_kube_proxy_made() -> None:
    path = RULES["iptables"].node_port_path(30081, "tcp")
    assert path is not None
    service = "CG5I4G2RS3ZVWGLK"
    expected = ("KUBE-SERVICES", "KUBE-NODEPORTS", f"KUBE-EXT-{service}", f"KUBE-SVL-{service}", "KUBE-SEP-5ZQU4VTER43PI52M")
    assert path.chains == expected
    assert path.service == "ingress-nginx/ingress-nginx-controller:http"


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
def test_a_service_without_endpoints_is_refused(mode: str) -> None:
    path = RULES[mode].service_path(parse("10.96.40.1"), 80, "tcp")
    assert path is not None
    assert (path.endpoints, path.verdict) == ((), "reject")
    assert path.service == (None if mode == "ipvs" else "demo/no-endpoints:http")


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
@pytest.mark.parametrize(
    ("address", "port", "protocol", "to"),
    [
        ("10.96.10.1", 81, "tcp", None),
        ("10.96.10.1", 80, "udp", None),
        ("10.96.10.9", 80, "tcp", None),
        ("fd00::1", 80, "tcp", None),
        ("10.96.10.1", 80, "tcp", "10.244.0.3:8081"),
    ],
)
def test_what_no_rule_knows_has_no_path(mode: str, address: str, port: int, protocol: str, to: str | None) -> None:
    assert RULES[mode].service_path(parse(address), port, protocol, endpoint(to) if to else None) is None


def test_ipv6_services_have_rules_of_their_own() -> None:
    path = RULES["nftables"].service_path(parse("fd00:10:96::c0f9"), 80, "tcp")
    assert path is not None
    assert set(found(path)) == {"fd00:10:244::3:8080", "fd00:10:244:1::2:8080", "fd00:10:244:2::3:8080"}
    path = RULES["nftables"].service_path(parse("fd00:10:96::9fa0"), 80, "tcp", endpoint("[fd00:10:244:1::2]:8080"))
    assert path is not None
    assert path.affinity
    path = RULES["nftables"].node_port_path(30081, "tcp", ipv6=True)
    assert path is not None
    assert set(found(path)) == {"fd00:10:244::2:80"}


def test_ipvs_tells_scheduler_forwarding_and_sets() -> None:
    path = RULES["ipvs"].service_path(parse("172.30.0.240"), 80, "tcp")
    assert path is not None
    assert (path.scheduler, path.forwarding) == ("rr", "masq")
    assert path.sets == ("KUBE-IPVS-IPS", "KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL")


def test_nftables_before_maps_of_endpoints_is_read() -> None:
    listing = """table ip kube-proxy {
	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
	}
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.1 . tcp . 443 : goto service-2QRHZV4L-default/kubernetes/tcp/https }
	}
	map service-nodeports {
		type inet_proto . inet_service : verdict
		elements = { tcp . 30443 : goto external-2QRHZV4L-default/kubernetes/tcp/https }
	}
	chain external-2QRHZV4L-default/kubernetes/tcp/https {
		jump mark-for-masquerade
		goto service-2QRHZV4L-default/kubernetes/tcp/https
	}
	chain service-2QRHZV4L-default/kubernetes/tcp/https {
		ip daddr 10.96.0.1 tcp dport 443 ip saddr != 10.0.0.0/8 jump mark-for-masquerade
		numgen random mod 2 vmap { 0 : goto endpoint-A-default/kubernetes/tcp/https__1.1.1.1/6443, 1 : goto endpoint-B }
	}
	chain endpoint-A-default/kubernetes/tcp/https__1.1.1.1/6443 {
		ip saddr 1.1.1.1 jump mark-for-masquerade
		meta l4proto tcp dnat to 1.1.1.1:6443
	}
	chain endpoint-B {
		ip saddr 2.2.2.2 jump mark-for-masquerade
		meta l4proto tcp dnat to 2.2.2.2:6443
	}
	chain mark-for-masquerade {
		meta mark set meta mark | 0x00004000
	}
}
"""
    rules, problems = read_rules({"nft-ruleset": listing}, "n")
    assert problems == []
    path = rules.service_path(parse("10.96.0.1"), 443, "tcp", source=parse("192.168.0.1"))
    assert path is not None
    assert (found(path), path.masquerade) == ({"1.1.1.1:6443": 0.5, "2.2.2.2:6443": 0.5}, True)
    path = rules.service_path(parse("10.96.0.1"), 443, "tcp", endpoint("1.1.1.1:6443"), source=parse("10.0.0.1"))
    assert path is not None
    assert (path.rules_walked, path.masquerade) == (1 + 1 + 2 + 2, False)
    path = rules.node_port_path(30443, "tcp")
    assert path is not None
    assert path.masquerade is True


MARK_ONLY = "*nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-LOAD-BALANCER - [0:0]\nCOMMIT\n"


@pytest.mark.parametrize(
    ("dumps", "mode", "problem"),
    [
        ({}, None, None),
        ({"nft-ruleset": "", "iptables-save": "\n"}, None, None),
        ({"iptables-save": "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"}, None, None),
        # The ruleset that iptables-nft shows is iptables'; beside iptables-save it says nothing new.
        ({"nft-ruleset": "table ip nat {\n\tchain KUBE-SVC-XRY76EGRC3BSCIIJ {\n\t}\n}\n"}, None, "record `iptables-save`"),
        (DUMPS_OF["iptables"] | {"nft-ruleset": "table ip nat {\n\tchain KUBE-SVC-XRY76EGRC3BSCIIJ {\n\t}\n}\n"}, "iptables", None),
        ({"iptables-save": MARK_ONLY}, None, "record `ipvsadm-save -n`"),
        ({"ipset-save": DUMPS_OF["ipvs"]["ipset-save"]}, None, "record `ipvsadm-save -n`"),
        ({"ipvsadm-save": DUMPS_OF["ipvs"]["ipvsadm-save"]}, "ipvs", None),
        # Virtual servers of somebody else (keepalived) do not make a node kube-proxy's.
        ({"iptables-save": "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", "ipvsadm-save": DUMPS_OF["ipvs"]["ipvsadm-save"]}, None, None),
        (DUMPS_OF["iptables"] | DUMPS_OF["nftables"], None, "--cleanup"),
    ],
)
def test_the_mode_is_none_where_it_cannot_be_told(dumps: dict[str, str], mode: str | None, problem: str | None) -> None:
    rules, problems = read_rules(dumps, "node-a")
    assert rules.mode == mode
    assert [problem is not None and problem in one.remedy for one in problems] == [True] * (problem is not None)


BAD: list[tuple[str, str, str, int]] = [
    ("iptables-save", "-A KUBE-SERVICES -d 10.96.10.1/32", "-A KUBE-SERVICES -d 10.96.10.256/32", 125),
    ("iptables-save", ":KUBE-SVC-XRY76EGRC3BSCIIJ - [0:0]", "what is this", 75),
    ("nft-ruleset", "0 : 10.244.0.3 . 8080, 1 : 10.244.1.2", "0 : 10.244.0.3.9 . 8080, 1 : 10.244.1.2", -1),
    ("ipvsadm-save", "-a -t 10.96.10.1:80 -r 10.244.0.3:8080 -m -w 1", "-a -t 10.96.10.1:http -r web-0:8080 -m -w 1", 8),
    ("ipset-save", "add KUBE-CLUSTER-IP 10.96.10.1,tcp:80", "add KUBE-CLUSTER-IP", 20),
]


@pytest.mark.parametrize(("kind", "good", "bad", "line"), BAD)
def test_a_bad_line_is_told_and_the_others_are_used(kind: str, good: str, bad: str, line: int) -> None:
    mode = {"iptables-save": "iptables", "nft-ruleset": "nftables"}.get(kind, "ipvs")
    content = DUMPS_OF[mode][kind]
    assert good in content
    rules, problems = read_rules(DUMPS_OF[mode] | {kind: content.replace(good, bad, 1)}, "node-a")
    assert len(problems) == 1
    assert problems[0].file == f"node-a.{kind}"
    if line > 0:
        assert problems[0].offset == content[: content.index(good)].count("\n") + 1
    assert rules.mode == mode
    assert rules.service_path(parse("172.30.0.240"), 80, "tcp") is not None


@given(st.sampled_from(sorted(DUMPS_OF)), st.data())
def test_a_cut_dump_gives_no_endpoint_that_was_not_there(mode: str, data: st.DataObject) -> None:
    kind = {"iptables": "iptables-save", "nftables": "nft-ruleset", "ipvs": "ipvsadm-save"}[mode]
    content = DUMPS_OF[mode][kind]
    at = data.draw(st.integers(0, len(content)))
    rules, problems = read_rules(DUMPS_OF[mode] | {kind: content[:at]}, "node-a")
    for address in ("10.96.10.1", "10.96.10.6", "172.30.0.240"):
        path, whole = (one.service_path(parse(address), 80, "tcp") for one in (rules, RULES[mode]))
        if path is not None and path.endpoints:
            assert whole is not None
            assert set(found(path)) <= set(found(whole))
    if inside_a_table(content[:at]):
        assert problems


def inside_a_table(content: str) -> bool:
    """Whether a cut dump ends between a table's beginning and its end (of which ipvsadm-save has none)."""
    lines = [line.strip() for line in content.split("\n")]
    opened = sum(line.startswith("*") or line.endswith("{") for line in lines[:-1])
    return opened > sum(line in ("COMMIT", "}") for line in lines)


@given(st.text(max_size=300), st.sampled_from(DUMPS), st.sampled_from(sorted(DUMPS_OF)), st.integers(0, 20_000))
def test_odd_dumps_never_raise(odd: str, kind: str, mode: str, at: int) -> None:
    content = DUMPS_OF[mode].get(kind, "")
    place = at % (len(content) + 1)
    for one in (odd, content[:place] + odd + content[place:], re.sub(r"\d", lambda _: odd[:1], content)):
        rules, _ = read_rules(DUMPS_OF[mode] | {kind: one}, "node-a")
        for address in ("10.96.10.1", "10.96.10.6", "172.30.0.240"):
            rules.service_path(parse(address), 80, "tcp")
        rules.node_port_path(30081, "tcp")


def test_rules_that_go_round_in_circles_end() -> None:
    jumps = "".join(f"-A KUBE-SVC-{one} -j KUBE-SVC-{other}\n" for one in "AB" for other in "ABAB")
    dump = f"*nat\n-A KUBE-SERVICES -j KUBE-SVC-A\n{jumps}COMMIT\n"
    rules, problems = read_rules({"iptables-save": dump}, "node-a")
    assert problems == []
    assert rules.service_path(parse("10.96.10.1"), 80, "tcp") is None
