"""What headers and rules claim of a request, and when it is believed; to whom the time of a tree is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import numpy as np
import packets as p
import pytest
from conftest import SAMPLES
from framed import records_of
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_objects import NOW_NS, created
from proxy_objects import ingress as ingress_object

from analysis.claims import ingress, route, true_client
from analysis.ends import Ends
from analysis.latency import SHARES, Doors, covered, rewritings, shares
from analysis.requests import RequestRecorder
from probes.dissect import Exchange
from tracer.bundle import read_bundle
from tracer.cluster import Timeline
from tracer.cluster.routes import Backend, Route
from tracer.requests import trace_requests
from tracer.trace import trace

Record = dict[str, Any]
POD, NODE = {"kind": "pod", "namespace": "ingress-nginx", "name": "controller"}, {"kind": "node", "namespace": None, "name": "node-a"}
OUTSIDE, UNKNOWN = {"kind": "external", "namespace": None, "name": None}, {"kind": None, "namespace": None, "name": None}
INSIDE = {"10.244.0.1", "10.244.1.7", "172.30.0.11", "[fd00::7]"}  # pods and nodes


CLAIMS: list[tuple[Record | None, dict[str, str], tuple[str, str] | None]] = [
    (POD, {"x-forwarded-for": "172.30.0.100"}, ("172.30.0.100", "X-Forwarded-For")),
    (NODE, {"x-forwarded-for": "172.30.0.100"}, ("172.30.0.100", "X-Forwarded-For")),
    (OUTSIDE, {"x-forwarded-for": "172.30.0.100"}, None),
    (OUTSIDE, {"proxied_for": "172.30.0.100:4711", "forwarded": "for=172.30.0.100", "x-real-ip": "172.30.0.100"}, None),
    (UNKNOWN, {"x-forwarded-for": "172.30.0.100"}, None),
    (None, {"x-forwarded-for": "172.30.0.100"}, None),
    (POD, {}, None),
    (POD, {"x-forwarded-for": ""}, None),
    (POD, {"x-forwarded-for": " , "}, None),
    # what the client from outside said of itself stands before what the proxy added
    (POD, {"x-forwarded-for": "6.6.6.6, 172.30.0.100"}, ("172.30.0.100", "X-Forwarded-For")),
    (POD, {"x-forwarded-for": "6.6.6.6, 172.30.0.100, 10.244.1.7"}, ("172.30.0.100", "X-Forwarded-For")),
    (POD, {"x-forwarded-for": "10.244.0.1,10.244.1.7"}, ("10.244.0.1", "X-Forwarded-For")),
    (POD, {"x-forwarded-for": "10.244.0.1"}, ("10.244.0.1", "X-Forwarded-For")),
    (POD, {"forwarded": "for=172.30.0.100;proto=https"}, ("172.30.0.100", "Forwarded")),
    (POD, {"forwarded": 'proto=https; For="[2001:db8::9]";by=10.244.0.1'}, ("[2001:db8::9]", "Forwarded")),
    (POD, {"forwarded": 'for=6.6.6.6, for=172.30.0.100, for="[fd00::7]"'}, ("172.30.0.100", "Forwarded")),
    (POD, {"forwarded": "by=10.244.0.1;proto=https"}, None),
    (POD, {"x-real-ip": "172.30.0.100"}, ("172.30.0.100", "X-Real-IP")),
    (POD, {"x-real-ip": "172.30.0.99", "x-forwarded-for": "172.30.0.100"}, ("172.30.0.100", "X-Forwarded-For")),
    (POD, {"proxied_for": "172.30.0.100:4711", "x-forwarded-for": "6.6.6.6"}, ("172.30.0.100:4711", "PROXY protocol")),
]  # fmt: skip


@pytest.mark.parametrize(("client", "said", "expected"), CLAIMS)
def test_the_true_client_is_told_by_proxies_inside_only(
    client: Record | None, said: dict[str, str], expected: tuple[str, str] | None
) -> None:
    found = true_client(Exchange("http", attributes=said), client, INSIDE.__contains__)
    assert found == (None if expected is None else dict(zip(("address", "source"), expected, strict=True)))
    assert true_client(None, client, INSIDE.__contains__) is None


def test_a_proxy_header_from_outside_counts_where_the_server_accepted_it() -> None:
    said = {"proxied_for": "198.51.100.7:4711", "x-forwarded-for": "6.6.6.6"}
    for status, response, expected in (("200", 0, "198.51.100.7:4711"), ("400", 0, None), (None, -1, None)):
        told = true_client(Exchange("http", status=status, response_start=response, attributes=said), OUTSIDE, INSIDE.__contains__)
        assert (told and told["address"]) == expected


def test_on_samples_the_true_client_is_the_one_that_asked_the_proxy() -> None:
    """The source of the request behind it, as the proxy saw it: after masquerading."""
    told = 0
    for name in ("iptables", "dual-stack", "ipvs", "nftables"):
        records = {record["id"]: record for record in records_of(SAMPLES / name)[1]}
        for record in records.values():
            if record["true_client"] is not None and record["parent"] is not None:
                told += 1
                assert records[record["parent"]]["translated"]["src"].rpartition(":")[0].strip("[]") == record["true_client"]["address"]
    assert told > 20


def rule(service: str | None, *alternatives: str, **more: Any) -> Route:
    return Route(
        "Ingress", "shop", "rules", "shop.test", "/", "Prefix", service and "shop", service, 80 if service else None, "/",
        alternatives=tuple(Backend("shop", each, 80, 10) for each in alternatives), **more,
    )  # fmt: skip


WENT: list[tuple[Route | None, list[tuple[str | None, str | None]], bool | None]] = [
    (rule("web"), [("shop", "web")], True),
    (rule("web"), [("shop", "api")], False),
    (rule("web"), [("other", "web")], False),
    (rule("web"), [], None),
    (rule("web"), [(None, None)], None),
    (rule("web"), [("shop", "web"), ("shop", "web")], True),
    (rule("web"), [("shop", "web"), ("shop", "auth")], False),
    (rule("web", "web-canary"), [("shop", "web-canary")], True),
    (rule("web", "web-canary"), [("shop", "web"), ("shop", "web-canary")], True),
    (rule("web", "web-canary"), [("shop", "api")], False),
    (rule(None), [("shop", "web")], None),
    (rule(None, redirect="https://shop.test/"), [], None),
]


@pytest.mark.parametrize(("found", "behind", "agrees"), WENT)
def test_a_rule_agrees_where_packets_went_to_its_service(
    found: Route, behind: list[tuple[str | None, str | None]], agrees: bool | None
) -> None:
    record = ingress(found, behind)
    assert record is not None
    assert record["agrees"] is agrees
    assert record["service"] == (None if found.service_name is None else "shop/web:80")
    assert (record["kind"], record["namespace"], record["name"], record["host"], record["path"]) == (
        "Ingress",
        "shop",
        "rules",
        "shop.test",
        "/",
    )


def test_no_rule_no_claim() -> None:
    assert ingress(None, [("shop", "web")]) is None


def controller() -> list[Record]:
    labels = {"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "controller", "namespace": "ingress-nginx", "uid": "p1", "creationTimestamp": created(0), "labels": labels},
        "spec": {"nodeName": "node-a", "containers": [{"name": "controller"}]},
        "status": {"podIP": "10.244.0.7", "podIPs": [{"ip": "10.244.0.7"}]},
    }
    return [pod, ingress_object("shop.test", ("/", "Prefix", "web")), ingress_object("a.test", ("/a", "Exact", "api"), name="a")]


@pytest.mark.parametrize(
    ("said", "server", "service"),
    [
        ({"path": "/x", "host": "shop.test"}, POD, "web"),
        ({"path": "/a", "host": "a.test"}, POD, "api"),
        ({"path": "/b", "host": "a.test"}, POD, None),
        ({"host": "shop.test"}, POD, None),
        ({"path": "/x", "host": "shop.test"}, {**POD, "name": "another"}, None),
        ({"path": "/x", "host": "shop.test"}, OUTSIDE, None),
        ({"path": "/x", "host": "shop.test"}, None, None),
    ],
)
def test_rules_hold_for_requests_that_a_controller_took(said: dict[str, str], server: Record | None, service: str | None) -> None:
    timeline = Timeline.of(controller())
    assert ("ingress-nginx", "controller") in timeline.ingress_controllers(NOW_NS)
    for protocol, expected in (("http", service), ("http2", service), ("dns", None)):
        found = route(timeline, Exchange(protocol, attributes=said), server, NOW_NS)
        assert (found and found.service_name) == expected
    assert route(timeline, None, server, NOW_NS) is None


# --- ExternalName: a name that leads out of the cluster -----------------------------------------------------------------------------------

CLIENT, RESOLVER, PARTNER = "10.244.0.5", "10.244.0.53", "203.0.113.9"
SECOND = 1_000_000_000


def cluster(target: str) -> Record:
    """Two pods on a node, and a Service that points at `target`."""

    def item(kind: str, name: str, spec: Record, status: Record) -> Record:
        metadata = {"name": name, "namespace": "demo", "uid": name, "creationTimestamp": created(0)}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec, "status": status}

    pods = [
        item("Pod", name, {"nodeName": "node-a", "containers": [{"name": "it"}]}, {"podIP": address, "podIPs": [{"ip": address}]})
        for name, address in (("client", CLIENT), ("dns", RESOLVER))
    ]
    node = item("Node", "node-a", {"podCIDR": "10.244.0.0/24"}, {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]})
    partner = item("Service", "partner", {"type": "ExternalName", "externalName": target}, {})
    return {"apiVersion": "v1", "kind": "List", "items": [*pods, node, partner]}


def lookup_and_call(asked: str, canonical: str | None, *, pause_ns: int) -> list[p.Record]:
    """A pod asks for a name, is told an address, and opens a connection to it."""
    query = dns.message.make_query(asked, "A", id=7)
    answer = dns.message.make_response(query)
    chain = [dns.rrset.from_text(asked, 30, "IN", "CNAME", canonical)] if canonical else []
    answer.answer += [*chain, dns.rrset.from_text(canonical or asked, 30, "IN", "A", PARTNER)]
    start = NOW_NS
    packets = [
        (0, p.ip4(CLIENT, RESOLVER, p.udp(5353, 53, query.to_wire()))),
        (1_000_000, p.ip4(RESOLVER, CLIENT, p.udp(53, 5353, answer.to_wire()))),
    ]
    there, back = (CLIENT, PARTNER), (PARTNER, CLIENT)
    at = 1_000_000 + pause_ns
    packets += [
        (at, p.ip4(*there, p.tcp(40000, 80, "S", seq=100))),
        (at + 5_000_000, p.ip4(*back, p.tcp(80, 40000, "SA", seq=900, ack=101))),
        (at + 5_010_000, p.ip4(*there, p.tcp(40000, 80, "A", seq=101, ack=901))),
        (at + 5_020_000, p.ip4(*there, p.tcp(40000, 80, "PA", b"GET /charge HTTP/1.1\r\nHost: partner\r\n\r\n", seq=101, ack=901))),
        (at + 9_000_000, p.ip4(*back, p.tcp(80, 40000, "PA", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", seq=901, ack=139))),
    ]
    return [p.Record(p.sll2(packet, 9, 0), start + when) for when, packet in packets]


@pytest.mark.parametrize(
    ("asked", "canonical", "pause_ns", "name"),
    [
        ("partner.demo.svc.cluster.local.", "api.partner.example.", 200_000, "partner"),
        ("partner.demo.svc.cluster.local.", "other.example.", 200_000, None),  # the Service says another name
        ("api.partner.example.", None, 200_000, None),  # asked for directly, not by the Service
        ("partner.demo.svc.cluster.local.", "api.partner.example.", 60 * SECOND, None),  # too late to have come of it
    ],
)
def test_a_call_to_where_an_external_name_led(asked: str, canonical: str | None, pause_ns: int, name: str | None, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps(cluster("api.partner.example")))
    (tmp_path / "node-a.pcap").write_bytes(p.pcap(lookup_and_call(asked, canonical, pause_ns=pause_ns), p.SLL2))
    records = list(RequestRecorder(trace_requests(trace(read_bundle([tmp_path])))))
    (call,) = (record for record in records if record["operation"] == "GET /charge")
    assert call["status"] == "200"
    assert call["service"]["via"] == ("direct" if name is None else "ExternalName")
    assert call["service"]["name"] == name
    kinds = [part["kind"] for part in call["latency"]["parts"]]
    assert kinds[:1] == (["dns"] if pause_ns < SECOND else ["connect"])


# --- where time went ----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-5, 30), st.integers(-5, 30)), max_size=8), st.integers(0, 20), st.integers(0, 25))
def test_what_is_covered_is_counted_once(spans: list[tuple[int, int]], start: int, end: int) -> None:
    inside = {moment for begin, finish in spans for moment in range(begin, finish)} & set(range(start, end))
    assert covered(spans, start, end) == len(inside)


@settings(max_examples=200)
@given(st.data())
def test_every_nanosecond_is_somebody_s(data: st.DataObject) -> None:
    """Whatever times say: doors out of order, children that outlive their parents, unknown doors."""
    count = data.draw(st.integers(1, 7))
    time = st.integers(0, 40)
    doors = []
    for _ in range(count):
        start = data.draw(time)
        arrival, done = (data.draw(st.none() | st.integers(-5, 60)) for _ in range(2))
        doors.append(Doors(start, arrival, done, start + data.draw(time), data.draw(st.sampled_from(SHARES[1:5]))))
    children: dict[int, list[int]] = {}
    for child in range(1, count):
        children.setdefault(data.draw(st.integers(0, child - 1)), []).append(child)
    spent = shares(0, doors.__getitem__, lambda each: children.get(each, []))
    assert set(spent) == set(SHARES)
    assert min(spent.values()) >= 0
    assert sum(spent.values()) == doors[0].end - doors[0].start


def test_shares_of_a_tree_by_hand() -> None:
    """0-100 in all: 10 there and 10 back; the proxy's until 20 and from 70, an application's and its database's between."""
    doors = [
        Doors(0, 10, 90, 100, "proxy"),
        Doors(20, 25, 65, 70, "server"),
        Doors(30, 31, 49, 50, "database"),
        Doors(40, 41, 59, 60, "dns"),
    ]
    spent = shares(0, doors.__getitem__, lambda each: {0: [1], 1: [2, 3]}.get(each, []))
    # the lookup overlaps the query: until 50 it is the query's
    assert spent == {"network": 10 + 10 + 5 + 5 + 1 + 1 + 1, "proxy": 10 + 20, "server": 5 + 5, "database": 18, "dns": 9, "unknown": 0}
    assert sum(spent.values()) == 100


def test_nat_is_between_the_sightings_around_it() -> None:
    tuples = {name: np.full(5, 7, "u8") for name in ("src_hi", "src_lo", "dst_hi", "dst_lo")}
    tuples |= {"sport": np.arange(5, dtype="u2"), "dport": np.full(5, 80, "u2")}
    columns = {
        "owner": [3, 3, 3, 3, 3, 3, 3, 5, 5], "tuple": [0, 0, 1, 1, 2, 3, 4, 0, 1], "node": [0, 0, 0, 0, 1, 1, 1, 1, 1],
        "reply": [0, 0, 0, 0, 0, 1, 1, 0, 0], "time_ns": [1, 3, 7, 9, 20, 30, 40, 50, 60],
    }  # fmt: skip
    hops = {name: np.array(column) for name, column in columns.items()}
    assert rewritings(Ends(tuples), hops, hops["owner"], hops["time_ns"]) == {3: [(0, 3, 7)], 5: [(1, 50, 60)]}
    none = {name: column[:0] for name, column in hops.items()}
    assert rewritings(Ends(tuples), none, none["owner"], none["time_ns"]) == {}
