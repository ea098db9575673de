"""Ingress rules, a table per rule. Sources: networking.k8s.io/v1, and kubernetes/ingress-nginx (files named beside the tables)."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_objects import HOST, NOW_NS, E, Object, P, S, created, ingress, ingress_class, routed, service, taken

from tracer.cluster import Timeline
from tracer.cluster.lives import How, Sighting
from tracer.cluster.routes import bare_host

# https://kubernetes.io/docs/concepts/services-networking/ingress/#examples, and #multiple-matches: the longest path, then Exact.
PATHS = [
    ([("/", P, "all")], "/any/thing", "all"),
    ([("/foo", E, "foo")], "/foo", "foo"),
    ([("/foo", E, "foo")], "/bar", None),
    ([("/foo", E, "foo")], "/foo/", None),
    ([("/foo", P, "foo")], "/foo", "foo"),
    ([("/foo", P, "foo")], "/foo/", "foo"),
    ([("/foo/", P, "foo")], "/foo", "foo"),
    ([("/foo/", P, "foo")], "/foo/", "foo"),
    ([("/aaa/bb", P, "bb")], "/aaa/bbb", None),
    ([("/aaa/bbb", P, "bbb")], "/aaa/bbb", "bbb"),
    ([("/aaa/bbb/", P, "bbb")], "/aaa/bbb", "bbb"),
    ([("/aaa/bbb", P, "bbb")], "/aaa/bbb/", "bbb"),
    ([("/aaa/bbb", P, "bbb")], "/aaa/bbb/ccc", "bbb"),
    ([("/aaa/bbb", P, "bbb")], "/aaa/bbbxyz", None),
    ([("/", P, "root"), ("/aaa", P, "aaa")], "/aaa/ccc", "aaa"),
    ([("/aaa", P, "aaa"), ("/", P, "root")], "/ccc", "root"),
    ([("/", P, "root"), ("/aaa", P, "aaa"), ("/aaa/bbb", P, "bbb")], "/aaa/bbb", "bbb"),
    ([("/foo", P, "prefix"), ("/foo", E, "exact")], "/foo", "exact"),
    ([("/foo", P, "prefix"), ("/foo", E, "exact")], "/foo/x", "prefix"),
    ([("/foo", P, "foo")], "/FOO", None),
    ([("/foo", S, "foo")], "/foo/x", "foo"),
    ([("/foo", S, "foo")], "/foox", None),
    ([("/foo", None, "foo")], "/foo/x", "foo"),
    ([("", P, "all")], "/x", "all"),
    ([("/foo", P, "foo")], "/foo?q=/bar", "foo"),
    ([("/foo", P, "foo")], "/foo#part", "foo"),
    ([("/foo", P, "foo")], "foo", None),
    ([("/", P, "all")], "*", None),
    ([("/", P, "all")], "shop.test:443", None),
]


@pytest.mark.parametrize("class_name", ["nginx", "traefik"])
@pytest.mark.parametrize(("rules", "target", "wanted"), PATHS)
def test_paths(rules: list[Any], target: str, wanted: str | None, class_name: str) -> None:
    assert taken([ingress(HOST, *rules, class_name=class_name)], HOST, target) == wanted


@pytest.mark.parametrize(
    ("class_name", "kind", "wanted"), [("traefik", E, None), ("traefik", P, "foo"), ("nginx", E, "foo"), ("nginx", P, "foo")]
)
def test_a_path_that_lacks_only_the_final_slash(class_name: str, kind: str, wanted: str | None) -> None:
    """nginx answers by itself, with the slash (https://nginx.org/en/docs/http/ngx_http_core_module.html#location)."""
    found = Timeline.of([ingress(HOST, ("/foo/", kind, "foo"), class_name=class_name)]).route(HOST, "/foo", NOW_NS)
    assert (found and found.service_name) == wanted
    assert (found and found.redirect) == (f"http://{HOST}/foo/" if class_name == "nginx" else None)


# https://kubernetes.io/docs/concepts/services-networking/ingress/#hostname-wildcards; a wildcard is one label.
HOSTS = [
    ("shop.test", "shop.test", True),
    ("shop.test", "SHOP.Test", True),
    ("Shop.Test", "shop.test", True),
    ("shop.test", "shop.test:8080", True),
    ("shop.test", "shop.test.", True),
    ("shop.test", "www.shop.test", False),
    ("shop.test", None, False),
    ("*.shop.test", "www.shop.test", True),
    ("*.shop.test", "a.b.shop.test", False),
    ("*.shop.test", "shop.test", False),
    ("*.shop.test", ".shop.test", False),
    (None, "any.test", True),
    (None, None, True),
    (None, "[fd00::1]:80", True),
    (None, "10.0.0.1", True),
]


@pytest.mark.parametrize("class_name", ["nginx", "traefik"])
@pytest.mark.parametrize(("written", "host", "wanted"), HOSTS)
def test_hosts(written: str | None, host: str | None, wanted: bool, class_name: str) -> None:
    found = Timeline.of([ingress(written, ("/", P, "web"), class_name=class_name)]).route(host, "/", NOW_NS)
    assert (found is not None) == wanted
    assert found is None or found.host == (written and written.lower())


# As nginx has it: src/http/ngx_http_request.c, ngx_http_validate_host.
BARE = [
    ("A.b:80", "a.b"),
    ("a.b.", "a.b"),
    ("a.b.:80", "a.b"),
    ("[fd00::1]:80", "[fd00::1]"),
    ("[FD00::1]", "[fd00::1]"),
    ("fd00::1", "fd00::1"),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("host", "wanted"), BARE)
def test_a_host_without_port_and_dot(host: str | None, wanted: str | None) -> None:
    assert bare_host(host) == wanted


def test_a_host_of_its_own_goes_before_wildcards_and_those_before_any() -> None:
    objects = [ingress(host, ("/x", P, to), name=to) for host, to in ((None, "any"), ("*.test", "wild"), (HOST, "own"))]
    assert [taken(objects, host, "/x") for host in (HOST, "other.test", "a.b.test")] == ["own", "wild", "any"]
    assert taken(objects, HOST, "/y") is None  # no other host's rules are looked at (nginx docs, request_processing)


def test_an_absolute_target_names_its_host() -> None:
    """RFC 9112, 3.2.2: the Host header is then ignored."""
    assert taken([ingress(HOST, ("/x", P, "web"))], "other.test", "http://shop.test/x?q=1") == "web"
    assert taken([ingress(HOST, ("/", P, "web"))], "other.test", "https://shop.test?q=1") == "web"


# controller.go, createServers; the API's text for the others: "If none of the hosts or paths match … the default backend".
DEFAULTS = [
    ("nginx", [ingress(None, default="rest")], HOST, "rest"),
    ("nginx", [ingress(HOST, ("/x", P, "web"), default="rest")], HOST, "rest"),
    ("nginx", [ingress(HOST, ("/x", P, "web"), default="rest")], "other.test", "rest"),
    ("nginx", [ingress(HOST, ("/x", P, "web")), ingress(None, default="rest", name="all")], HOST, None),
    ("nginx", [ingress(HOST, ("/x", P, "web"))], HOST, None),
    ("nginx", [ingress(HOST, ("/x", P, "web"))], "other.test", None),
    (
        "traefik",
        [ingress(HOST, ("/x", P, "web"), class_name="traefik"), ingress(None, default="rest", name="all", class_name="traefik")],
        HOST,
        "rest",
    ),
]


@pytest.mark.parametrize(("controller", "objects", "host", "wanted"), DEFAULTS)
def test_default_backends(controller: str, objects: list[Object], host: str, wanted: str | None) -> None:
    found = Timeline.of(objects).route(host, "/y", NOW_NS)
    assert (found.service_name, found.path, found.default_backend) == (wanted, None, True) if found else wanted is None


def test_rewrites_do_not_count_for_what_no_host_takes() -> None:
    """controller.go, createServers: "Redirect and rewrite can affect the catch all behavior, skip for now"."""
    assert routed([ingress(None, default="rest", notes={"rewrite-target": "/new"})], target="/x").upstream_path == "/x"


def test_a_catch_all_goes_before_a_rule_for_any_host() -> None:
    """controller.go: its location is no default backend, and so is never replaced."""
    objects = [ingress(None, ("/", P, "rule"), ("/x", P, "x"), age=1), ingress(None, default="rest", name="all", age=2)]
    assert [taken(objects, HOST, target) for target in ("/", "/x")] == ["rest", "x"]


# store.go, sortIngressSlice: the oldest; of equally old ones the last by namespace/name.
CONFLICTS = [
    ([("b", 2), ("a", 1)], "a"),
    ([("a", 2), ("b", 1)], "b"),
    ([("a", 1), ("b", 1)], "b"),
    ([("b", 1), ("a", 1)], "b"),
]


@pytest.mark.parametrize(("ages", "wanted"), CONFLICTS)
def test_two_ingresses_with_one_path(ages: list[tuple[str, int]], wanted: str) -> None:
    objects = [ingress(HOST, ("/x", P, name), ("/" + name, P, name), name=name, age=age) for name, age in ages]
    assert taken(objects, HOST, "/x") == wanted
    assert {taken(objects, HOST, f"/{name}") for name in "ab"} == {"a", "b"}  # their other paths are all there


# By number, by name, by targetPort (controller.go, serviceEndpoints); as written where the Service is not known.
PORTS: list[tuple[int | str, int | str]] = [
    ("http", 80),
    (80, 80),
    (8443, 443),
    (8080, 80),
    ("tls-port", 443),
    ("nothing", "nothing"),
    (7, 7),
]


@pytest.mark.parametrize(("written", "wanted"), PORTS)
def test_ports_are_resolved(written: int | str, wanted: int | str) -> None:
    web = service("web", ("http", 80, 8080), ("https", 443, 8443), ("tls", 443, "tls-port"), ("more", 81, 8080))
    assert routed([ingress(HOST, ("/", P, "web"), port=written), web]).service_port == wanted
    assert routed([ingress(HOST, ("/", P, "web"), port=written)]).service_port == written


def test_classes_and_controllers() -> None:
    objects = [
        ingress(HOST, ("/", P, "inner"), name="inner", class_name="inner"),
        ingress(HOST, ("/", P, "outer"), name="outer", namespace="front", class_name=None, legacy_class="outer"),
        ingress_class("inner", "k8s.io/inner-ingress-nginx"),
        ingress_class("outer", "traefik.io/ingress-controller"),
    ]
    assert taken(objects, HOST, "/") is None  # two proxies may have got it
    assert taken(objects, HOST, "/", ingress_class="inner") == "inner"
    assert taken(objects, HOST, "/", ingress_class="outer") == "outer"
    assert taken(objects, HOST, "/", controller="traefik.io/ingress-controller") == "outer"
    assert taken(objects, HOST, "/", namespace_hint="front") == "outer"
    assert taken(objects, HOST, "/", namespace_hint="elsewhere") is None
    assert routed(objects, ingress_class="outer").ingress_class == "outer"


def test_classes_of_one_controller_share_its_servers() -> None:
    objects = [
        ingress(HOST, ("/", P, "a"), name="a", class_name="one", age=1),
        ingress(HOST, ("/", P, "b"), name="b", class_name="two", age=2),
        *(ingress_class(name, "k8s.io/ingress-nginx") for name in ("one", "two")),
    ]
    assert taken(objects, HOST, "/") == taken(objects, HOST, "/", ingress_class="two") == "a"
    assert taken(objects, HOST, "/", ingress_class="three") is None


def test_a_rule_of_one_proxy_goes_before_the_default_backend_of_another() -> None:
    objects = [ingress(None, default="rest", class_name="other"), ingress(HOST, ("/", P, "web"), name="web")]
    assert [taken(objects, host, "/") for host in (HOST, "x.test")] == ["web", "rest"]


def test_rules_are_those_of_the_moment() -> None:
    def seen(how: str, seconds: int, to: str, version: int) -> Sighting:
        item = ingress(HOST, ("/", P, to))
        item["metadata"] |= {"resourceVersion": str(version), "creationTimestamp": created(0)}
        return Sighting(How(how), item, NOW_NS + seconds * 10**9, NOW_NS + seconds * 10**9)

    events = [seen("ADDED", 0, "old", 1), seen("MODIFIED", 10, "new", 2), seen("DELETED", 20, "new", 3)]
    timeline = Timeline(events)
    found = [timeline.route(HOST, "/", NOW_NS + seconds * 10**9) for seconds in (5, 10, 19, 20)]
    assert [route and route.service_name for route in found] == ["old", "new", "new", None]


def test_a_rule_s_port_is_the_service_s_of_the_moment() -> None:
    def seen(how: str, seconds: int, port: int, version: int) -> Sighting:
        item = service("web", ("http", port, 8080))
        item["metadata"] |= {"resourceVersion": str(version), "creationTimestamp": created(0)}
        return Sighting(How(how), item, NOW_NS + seconds * 10**9, NOW_NS + seconds * 10**9)

    rules = Sighting(How.LISTED, ingress(HOST, ("/", P, "web"), port="http"))
    timeline = Timeline([rules, seen("ADDED", 0, 80, 1), seen("MODIFIED", 10, 81, 2), seen("DELETED", 20, 81, 3)])
    found = [timeline.route(HOST, "/", NOW_NS + seconds * 10**9) for seconds in (9, 10, 20)]
    assert [route and route.service_port for route in found] == [80, 81, "http"]


def test_what_is_malformed_is_left_out() -> None:
    broken: list[Any] = [
        None,
        7,
        "x",
        [],
        {},
        {"host": 3, "http": {"paths": [{"path": 9}, None, {"backend": {"resource": {}}}]}},
        {"http": None},
    ]
    item = ingress(HOST, ("/", P, "web"))
    for value in broken:
        item["spec"]["rules"].append(value)
        for spec in ({"rules": value}, {"defaultBackend": value, "rules": [value]}, value):
            assert Timeline.of([{**item, "spec": spec}]).route(HOST, "/", NOW_NS) is None
    assert taken([item], HOST, "/") == "web"
    item["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/rewrite-target": 7, "kubernetes.io/ingress.class": None}
    assert taken([item], HOST, "/") == "web"


def test_nothing_known_is_none() -> None:
    assert Timeline().route(HOST, "/", NOW_NS) is None


ODD = [
    "/\udcff/x",
    "/\ud800",
    "/%ff%fe",
    "/\x00",
    "/é/x",
    "http://",
    "http://[",
    "//",
    "?",
    "",
]


@pytest.mark.parametrize("target", ODD)
def test_odd_requests_and_rules_raise_nothing(target: str) -> None:
    rules = [(path, kind, "web") for path in (target, "/x", "/(a{99999999999})", "/é") for kind in (P, E)]
    for notes in ({}, {"use-regex": "true"}, {"rewrite-target": "/$1"}, {"server-alias": "~("}):
        for class_name in ("nginx", "traefik"):
            timeline = Timeline.of([ingress(HOST, *rules, class_name=class_name, notes=notes)])
            for host in (HOST, target):
                timeline.route(host, target, NOW_NS, headers={"X": target})


def test_bytes_that_are_no_text_are_compared_as_bytes() -> None:
    rules = [ingress(HOST, ("/é", P, "e"), ("/", P, "root"))]
    sent = ["/é/x", "/%C3%A9/x", "/%c3%a9", "/\udcc3\udca9", "/%E9"]
    assert [taken(rules, HOST, target) for target in sent] == ["e", "e", "e", "e", "root"]
