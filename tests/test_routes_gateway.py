"""Gateway API rules, a table per rule of gateway.networking.k8s.io/v1 (kubernetes-sigs/gateway-api, apis/v1/*_types.go)."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_objects import NOW_NS, Object, gateway, ingress, listener, path, route, rule, service, taken

from tracer.cluster import Route, Timeline

HOST = "shop.test"
EDGE = gateway(listener())


def routed(*objects: Object, host: str | None = HOST, target: str = "/", **request: Any) -> Route:
    found = Timeline.of(objects).route(host, target, NOW_NS, **request)
    assert found is not None
    return found


def header(name: str, value: str, kind: str = "Exact") -> Object:
    return {"headers": [{"name": name, "value": value, "type": kind}]}


# HTTPPathMatch: by elements, case-sensitive, a trailing slash of a prefix is ignored.
PATHS = [
    (path("/abc"), "/abc", True),
    (path("/abc"), "/abc/", True),
    (path("/abc"), "/abc/def", True),
    (path("/abc/"), "/abc", True),
    (path("/abc"), "/abcd", False),
    (path("/abc"), "/Abc", False),
    (path("/abc"), "/abc?q=1", True),
    (path("/abc", "Exact"), "/abc", True),
    (path("/abc", "Exact"), "/abc/", False),
    (path("/abc", "Exact"), "/Abc", False),
    (path("/v[0-9]+/.*", "RegularExpression"), "/v2/x", True),
    (path("/v[0-9]+", "RegularExpression"), "/v2/x", False),
    (path("/abc", "Later"), "/abc/d", False),
    ({}, "/any", True),
    ({"method": "POST"}, "/", False),
    ({"method": "GET"}, "/", True),
    ({"queryParams": [{"name": "a", "value": "1"}]}, "/?b=2&a=1&a=2", True),
    ({"queryParams": [{"name": "a", "value": "2"}]}, "/?a=1&a=2", False),
    ({"queryParams": [{"name": "a", "value": "\\d+", "type": "RegularExpression"}]}, "/?a=12", True),
    ({"queryParams": [{"name": "A", "value": "1"}]}, "/?a=1", False),
    ({"queryParams": [{"name": "a", "value": "b c"}]}, "/?a=b%20c", True),
]


@pytest.mark.parametrize(("match", "target", "wanted"), PATHS)
def test_matches(match: Object, target: str, wanted: bool) -> None:
    assert (taken([EDGE, route(rule("web", match))], HOST, target) == "web") == wanted


HEADERS = [
    (header("X-Version", "2"), {"x-version": "2"}, "new"),
    (header("x-version", "2"), {"X-VERSION": "2"}, "new"),
    (header("x-version", "2"), {"x-version": "3"}, "rest"),
    (header("x-version", "2"), {"accept": "*/*"}, "rest"),
    (header("x-version", "[23]", "RegularExpression"), {"x-version": "3"}, "new"),
    (header("x-version", "[23]", "RegularExpression"), {"x-version": "33"}, "rest"),
    ({"headers": [{"name": "a", "value": "1"}, {"name": "A", "value": "2"}]}, {"a": "1"}, "new"),  # only the first of equal names
]


@pytest.mark.parametrize(("match", "headers", "wanted"), HEADERS)
def test_headers(match: Object, headers: dict[str, str], wanted: str) -> None:
    assert taken([EDGE, route(rule("rest"), rule("new", match))], HOST, "/", headers=headers) == wanted


def test_headers_that_are_not_known_leave_an_alternative() -> None:
    found = routed(EDGE, route(rule("rest"), rule("new", header("x-version", "2"))))
    assert (found.service_name, [other.name for other in found.alternatives]) == ("rest", ["new"])
    assert taken([EDGE, route(rule("new", header("x-version", "2")))], HOST, "/") is None


# HTTPRouteRule.matches: the precedence, one step after the other; the winner is always named second.
PRECEDENCE = [
    (path("/a"), path("/a/b", "Exact")),
    (path("/a/b/c"), path("/a/b/c", "Exact")),
    (path("/a"), path("/a/b")),
    (path("/a", method="GET"), path("/a/b")),
    (path("/a/b/c"), path("/a/b/c", method="GET")),
    (path("/a/b/c", **header("h", "1")), path("/a/b/c", method="GET")),
    (path("/a/b/c"), path("/a/b/c", **header("h", "1"))),
    (
        path("/a", headers=[{"name": "h", "value": "1"}]),
        path("/a", headers=[{"name": "h", "value": "1"}, {"name": "i", "value": "2"}]),
    ),
    (path("/a", queryParams=[{"name": "q", "value": "1"}]), path("/a", **header("h", "1"))),
    (path("/a"), path("/a", queryParams=[{"name": "q", "value": "1"}])),
    (path("/a/b"), path("/a.*", "RegularExpression")),
    (path("/a.*", "RegularExpression"), path("/a/b/c", "Exact")),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("weaker", "stronger"), PRECEDENCE)
def test_precedence(weaker: Object, stronger: Object, turned: bool) -> None:
    rules = [rule("weaker", weaker), rule("stronger", stronger)]
    target = "/a/b?q=1" if path("/a/b", "Exact") == stronger else "/a/b/c?q=1"
    request = {"headers": {"h": "1", "i": "2"}}
    assert taken([EDGE, route(*(rules[::-1] if turned else rules))], HOST, target, **request) == "stronger"
    apart = [route(each, name=f"r{place}", age=place) for place, each in enumerate(rules)]
    assert taken([EDGE, *(apart[::-1] if turned else apart)], HOST, target, **request) == "stronger"


def test_ties_go_to_the_oldest_then_by_name_then_to_the_first_rule() -> None:
    assert taken([EDGE, route(rule("b"), name="b", age=1), route(rule("a"), name="a", age=2)], HOST, "/") == "b"
    assert taken([EDGE, route(rule("b"), name="b"), route(rule("a"), name="a")], HOST, "/") == "a"
    assert taken([EDGE, route(rule("b"), namespace="b", name="a"), route(rule("a"), namespace="a", name="b")], HOST, "/") == "a"
    assert taken([EDGE, route(rule("first"), rule("second"))], HOST, "/") == "first"


# Listener.hostname with HTTPRoute.hostnames: both must take the host; a wildcard takes one label or more.
HOSTNAMES: list[tuple[str | None, list[str], str | None, str | None]] = [
    (None, [], "any.test", None),
    (None, [], None, None),
    (None, ["shop.test"], "shop.test", "shop.test"),
    (None, ["shop.test"], "Shop.Test:8080", "shop.test"),
    (None, ["shop.test"], "api.test", "-"),
    (None, ["*.test"], "a.b.test", "*.test"),
    (None, ["*.test"], "test", "-"),
    ("*.test", [], "shop.test", "*.test"),
    ("*.test", [], "shop.example", "-"),
    ("*.example.com", ["test.example.com", "test.example.net"], "test.example.com", "test.example.com"),
    ("*.example.com", ["test.example.com", "test.example.net"], "test.example.net", "-"),
    ("*.example.com", ["*.com"], "foo.test.example.com", "*.com"),
    ("test.example.com", ["*.example.com"], "test.example.com", "*.example.com"),
    ("test.example.com", ["*.example.com"], "foo.example.com", "-"),
    ("*.example.com", ["example.com"], "example.com", "-"),
]


@pytest.mark.parametrize(("listening", "written", "host", "wanted"), HOSTNAMES)
def test_hostnames(listening: str | None, written: list[str], host: str | None, wanted: str | None) -> None:
    found = Timeline.of([gateway(listener(hostname=listening)), route(rule("web"), hostnames=written)]).route(host, "/", NOW_NS)
    assert (found.host if found else "-") == wanted


def test_the_more_precise_hostname_goes_before_the_longer_path() -> None:
    """HTTPRoute.hostnames: most characters of a precise hostname, then of any."""
    routes = [
        route(rule("any", path("/a/b", "Exact")), name="any"),
        route(rule("wild", path("/a/b")), hostnames=["*.test"], name="wild"),
        route(rule("longer", path("/a")), hostnames=["*.shop.test"], name="longer"),
        route(rule("own", path("/a")), hostnames=["a.shop.test"], name="own"),
    ]
    wanted = {"a.shop.test": "own", "b.shop.test": "longer", "x.test": "wild", "x.org": "any"}
    assert {host: taken([EDGE, *routes], host, "/a/b") for host in wanted} == wanted


def test_the_most_specific_listener_of_a_port_takes_the_request() -> None:
    edge = gateway(listener("own", "shop.test"), listener("wild", "*.test"), listener("any"))
    routes = [route(rule(name), name=name, parent={"sectionName": name}) for name in ("own", "wild", "any")]
    assert [taken([edge, *routes], host, "/") for host in ("shop.test", "a.b.test", "x.org")] == ["own", "wild", "any"]
    assert taken([edge, *routes[1:]], "shop.test", "/") is None


ATTACHED: list[tuple[Object, dict[str, Any], bool]] = [
    (listener(), {}, True),
    (listener(), {"parent": {"name": "other"}}, False),
    (listener(), {"parent": {"namespace": "shop"}}, False),
    (listener(), {"parent": {"kind": "Service"}}, False),
    (listener(), {"parent": {"sectionName": "http"}}, True),
    (listener(), {"parent": {"sectionName": "https"}}, False),
    (listener(), {"parent": {"port": 80}}, True),
    (listener(), {"parent": {"port": 81}}, False),
    (listener(), {"accepted": True}, True),
    (listener(), {"accepted": False}, False),
    (listener(allowed="Same"), {}, False),
    (listener(allowed="Same"), {"namespace": "infra"}, True),
    (listener(allowed="Selector"), {}, False),  # labels of Namespaces are not kept
    (listener(allowed="Selector"), {"accepted": True}, True),
    ({"name": "http", "port": 80, "protocol": "HTTP"}, {}, False),  # Same is the default
    ({**listener(), "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}], "namespaces": {"from": "All"}}}, {}, False),
    (listener(protocol="TCP"), {}, False),
]


@pytest.mark.parametrize(("listening", "more", "wanted"), ATTACHED)
def test_attachment(listening: Object, more: dict[str, Any], wanted: bool) -> None:
    assert (taken([gateway(listening), route(rule("web"), **more)], HOST, "/") == "web") == wanted


def test_tls_chooses_the_listener() -> None:
    edge = gateway(listener(), listener("https", port=443, protocol="HTTPS"))
    to_tls = rule(None, filters=[{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}])
    routes = [route(to_tls, name="up", parent={"sectionName": "http"}), route(rule("web"), parent={"sectionName": "https"})]
    assert routed(edge, *routes, target="/x?q=1").redirect == "https://shop.test/x?q=1"
    assert routed(edge, *routes, tls=True).service_name == "web"


def test_weights() -> None:
    found = routed(EDGE, route(rule({"a": 1, "b": 8, "off": 0})), service("b", ("http", 80, 8080)))
    assert (found.service_name, found.service_port, [(other.name, other.weight) for other in found.alternatives]) == ("b", 80, [("a", 1)])
    assert routed(EDGE, route(rule({"off": 0}))).service_name is None
    other = route({"backendRefs": [{"name": "web", "namespace": "far", "port": 8080}]})
    assert (routed(EDGE, other).service_namespace, routed(EDGE, other).service_port) == ("far", 8080)
    assert routed(EDGE, route({"backendRefs": [{"name": "bucket", "kind": "Bucket", "group": "x.io"}]})).service_name is None


# The table of ReplacePrefixMatch in httproute_types.go.
PREFIXES = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
]


@pytest.mark.parametrize(("target", "prefix", "replacement", "wanted"), PREFIXES)
def test_a_prefix_is_replaced(target: str, prefix: str, replacement: str, wanted: str) -> None:
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}, "hostname": "inner.test"}
    found = routed(EDGE, route(rule("web", path(prefix), filters=[{"type": "URLRewrite", "urlRewrite": rewrite}])), target=target)
    assert (found.upstream_path, found.upstream_host, found.path) == (wanted, "inner.test", prefix)


def test_a_full_path_is_replaced_also_by_the_filter_of_a_backend() -> None:
    rewrite = [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}}]
    assert routed(EDGE, route(rule("web", filters=rewrite)), target="/a/b?q=1").upstream_path == "/x"
    assert routed(EDGE, route({"backendRefs": [{"name": "web", "port": 80, "filters": rewrite}]})).upstream_path == "/x"
    assert routed(EDGE, route(rule("web")), target="/a%20b//?q").upstream_path == "/a%20b//"


# HTTPRequestRedirectFilter.port: the scheme's own port is not written; without a scheme, the listener's.
REDIRECTS = [
    ({}, 80, "http://shop.test/a/b"),
    ({}, 8080, "http://shop.test:8080/a/b"),
    ({"scheme": "https"}, 8080, "https://shop.test/a/b"),
    ({"scheme": "https", "port": 8443}, 80, "https://shop.test:8443/a/b"),
    ({"hostname": "new.test"}, 80, "http://new.test/a/b"),
    ({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}, 80, "http://shop.test/x"),
    ({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}, 80, "http://shop.test/x/b"),
]


@pytest.mark.parametrize(("redirect", "port", "wanted"), REDIRECTS)
def test_redirects(redirect: Object, port: int, wanted: str) -> None:
    rules = rule(None, path("/a"), filters=[{"type": "RequestRedirect", "requestRedirect": redirect}])
    found = routed(gateway(listener(port=port)), route(rules), target="/a/b")
    assert (found.redirect, found.service_name) == (wanted, None)


def method(service_: str | None = None, method_: str | None = None, kind: str = "Exact") -> Object:
    return {"method": {"type": kind, **({"service": service_} if service_ else {}), **({"method": method_} if method_ else {})}}


GRPC = [
    (method("shop.Cart", "Add"), "/shop.Cart/Add", "/shop.Cart/Add"),
    (method("shop.Cart", "Add"), "/shop.Cart/Remove", None),
    (method("shop.Cart"), "/shop.Cart/Any", "/shop.Cart/*"),
    (method(None, "Add"), "/any.Service/Add", "/*/Add"),
    (method("shop\\..*", "A.+", "RegularExpression"), "/shop.Cart/Add", "/shop\\..*/A.+"),
    (method("shop.cart", "Add"), "/shop.Cart/Add", None),
    ({}, "/a.B/C", "/*/*"),
    ({}, "/no-call", None),
]


@pytest.mark.parametrize(("match", "target", "wanted"), GRPC)
def test_grpc(match: Object, target: str, wanted: str | None) -> None:
    objects = [EDGE, route(rule("cart", match), kind="GRPCRoute")]
    call = {"method": "POST", "headers": {"content-type": "application/grpc+proto"}}
    found = Timeline.of(objects).route(HOST, target, NOW_NS, **call)  # type: ignore[arg-type]
    assert (found and found.path) == wanted
    assert found is None or (found.kind, found.backend_protocol, found.upstream_path) == ("GRPCRoute", "GRPC", target)
    for other in ({**call, "method": "GET"}, {**call, "headers": {"content-type": "text/html"}}):
        assert taken(objects, HOST, target, **other) is None


def test_grpc_precedence() -> None:
    """GRPCRouteRule.matches: characters of the service, of the method, headers."""
    rules = [
        rule("all"),
        rule("method", method(None, "Add")),
        rule("service", method("shop.Cart")),
        rule("both", method("shop.Cart", "Add")),
    ]
    rules.append(rule("header", {**method("shop.Cart", "Add"), **header("x", "1")}))
    call = {"method": "POST", "headers": {"content-type": "application/grpc", "x": "1"}}
    wanted = ["header", "both", "service", "method", "all"]
    for place, name in enumerate(wanted):
        assert taken([EDGE, route(*rules[: len(rules) - place], kind="GRPCRoute")], HOST, "/shop.Cart/Add", **call) == name


def test_gateways_and_ingresses_are_different_proxies() -> None:
    objects = [
        gateway(listener()),
        gateway(listener(), name="inner", class_name="cilium"),
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "cilium"},
            "spec": {"controllerName": "io.cilium/x"},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "infra"},
            "spec": {"servers": []},
        },
        route(rule("edge"), name="edge"),
        route(rule("inner"), name="inner", parent={"name": "inner"}),
        ingress(HOST, ("/", "Prefix", "nginx"), namespace="old"),
    ]
    assert taken(objects, HOST, "/") is None
    narrow: list[tuple[dict[str, str], str]] = [
        ({"ingress_class": "envoy"}, "edge"),
        ({"ingress_class": "cilium"}, "inner"),
        ({"controller": "io.cilium/x"}, "inner"),
        ({"ingress_class": "nginx"}, "nginx"),
        ({"namespace_hint": "old"}, "nginx"),
    ]
    assert [taken(objects, HOST, "/", **by) for by, _ in narrow] == [to for _, to in narrow]
    assert routed(*objects, ingress_class="cilium").ingress_class == "cilium"


def test_proxies_that_agree_leave_no_doubt() -> None:
    objects = [gateway(listener()), route(rule("web")), ingress(HOST, ("/", "Prefix", "web"))]
    assert taken(objects, HOST, "/") == "web"


def test_what_is_malformed_is_left_out() -> None:
    broken: list[Any] = [None, 7, "x", [], [None, 3, {}], {"matches": [None, {"path": 7, "headers": "x", "queryParams": [3]}]}]
    for value in broken:
        odd = {**route(rule("odd"), name="odd"), "spec": {"parentRefs": value, "rules": value, "hostnames": value}}
        edge = {**gateway(name="odd"), "spec": {"listeners": value}}
        assert taken([EDGE, odd, edge, route(rule("web"), age=9, name="z")], HOST, "/") == "web"
