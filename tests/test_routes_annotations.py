"""What annotations make of Ingress rules at ingress-nginx, a table per annotation (its files are named beside the tables)."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_objects import HOST, NOW_NS, E, P, S, ingress, ingress_class, routed, service, taken

from tracer.cluster import Timeline

# docs/user-guide/ingress-path-matching.md; more of it in test_routes_nginx.py, by a real nginx.
FIRST = ingress("test.com", ("/foo/bar", P, "service1"), ("/foo/bar/", E, "service2"), name="test-ingress-1")
SECOND = ingress("test.com", ("/foo/bar/(.+)", S, "service3"), name="test-ingress-2", notes={"rewrite-target": "/$1"})
REGULAR = [
    ("/foo/bar/1", "service3", "/1"),
    ("/foo/bar/", "service2", "/foo/bar/"),
    ("/foo/bar", "service1", "/foo/bar"),
    ("/FOO/BAR/x/y?q=1", "service3", "/x/y"),
    ("/foo", None, None),
]


@pytest.mark.parametrize(("target", "wanted", "seen"), REGULAR)
def test_one_rewrite_makes_expressions_of_all_paths_of_the_host(target: str, wanted: str | None, seen: str | None) -> None:
    found = Timeline.of([FIRST, SECOND]).route("test.com", target, NOW_NS)
    assert (found and found.service_name, found and found.upstream_path) == (wanted, seen)


# docs/user-guide/nginx-configuration/annotations.md and docs/examples/rewrite/README.md
REWRITES = [
    ("/something(/|$)(.*)", "/$2", "/something/new?a=b", "/new"),
    ("/something(/|$)(.*)", "/$2", "/something/", "/"),
    ("/something(/|$)(.*)", "/$2", "/something", "/"),
    ("/a", "/", "/a/b/c", "/"),
    ("/a", "/a", "/a/b", "/a/b"),
    ("/a", "/$uri", "/a/b", None),
    ("/a/(.*)", "/x/$1?from=a", "/a/b", "/x/b"),
    ("/a/(.*)", "/x/$1", "/a/b%20c%3F", "/x/b%20c%3F"),
    ("/a/(?<rest>.*)", "/x/${rest}", "/a/b", "/x/b"),
]


@pytest.mark.parametrize(("path", "target", "asked", "seen"), REWRITES)
def test_what_the_upstream_sees(path: str, target: str, asked: str, seen: str | None) -> None:
    found = routed([ingress(HOST, (path, S, "web"), notes={"rewrite-target": target})], target=asked)
    assert (found.upstream_path, found.path, found.path_type) == (seen, path, S)


def test_a_path_that_is_not_rewritten_goes_on_as_it_was_sent() -> None:
    """https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_pass: without a URI, "in the same form as sent"."""
    assert routed([ingress(HOST, ("/a", P, "web"))], target="//a/%62/../c?q=1").upstream_path == "//a/%62/../c"


def test_an_expression_that_cannot_be_read_leaves_open_what_comes_after_it() -> None:
    for odd in ("/[[:alpha:]]+", "/(unclosed", "/\\Qx\\E"):
        rules = [ingress(HOST, (odd, S, "odd"), ("/longest/of/all", S, "long"), ("/", P, "root"), notes={"use-regex": "true"})]
        assert [taken(rules, HOST, target) for target in ("/longest/of/all", "/x")] == ["long", None]


REDIRECTS = [
    ({"app-root": "/home"}, "/", {}, "http://shop.test/home"),
    ({"app-root": "/home"}, "/x", {}, None),
    ({"app-root": "/home"}, "/", {"tls": True}, "https://shop.test/home"),
    ({"permanent-redirect": "https://new.test/"}, "/x", {}, "https://new.test/"),
    ({"temporal-redirect": "https://now.test/", "permanent-redirect": "https://new.test/"}, "/x", {}, "https://now.test/"),
    ({"rewrite-target": "https://new.test/$1"}, "/x", {}, "https://new.test/$1"),
    ({"force-ssl-redirect": "true"}, "/x/?q=1", {}, "https://shop.test/x/?q=1"),
    ({"force-ssl-redirect": "true"}, "/x/", {}, "https://shop.test/x"),
    ({"force-ssl-redirect": "true", "preserve-trailing-slash": "true"}, "/x/", {}, "https://shop.test/x/"),
    ({"force-ssl-redirect": "true"}, "/x", {"tls": True}, None),
    ({"force-ssl-redirect": "true"}, "/x", {"headers": {"X-Forwarded-Proto": "https"}}, None),
    ({"force-ssl-redirect": "true"}, "/.well-known/acme-challenge/1", {}, None),
    ({"ssl-redirect": "true"}, "/x", {}, None),
    ({}, "/x", {}, None),
]


@pytest.mark.parametrize(("notes", "target", "request_", "wanted"), REDIRECTS)
def test_redirects_of_the_proxy_itself(notes: dict[str, str], target: str, request_: dict[str, Any], wanted: str | None) -> None:
    found = routed([ingress(HOST, ("/", P, "web"), notes=notes)], target=target, **request_)
    assert (found.redirect, found.service_name) == (wanted, "web")


@pytest.mark.parametrize(("note", "wanted"), [({}, "https://shop.test/x"), ({"ssl-redirect": "false"}, None)])
def test_plain_http_to_an_ingress_with_tls(note: dict[str, str], wanted: str | None) -> None:
    assert routed([ingress(HOST, ("/", P, "web"), tls=True, notes=note)], target="/x").redirect == wanted


def test_the_other_annotations() -> None:
    notes = {"service-upstream": "true", "upstream-vhost": "inner.test", "backend-protocol": "grpcs"}
    found = routed([ingress(HOST, ("/", P, "web"), notes=notes)])
    assert (found.service_upstream, found.upstream_host, found.backend_protocol) == (True, "inner.test", "GRPCS")
    other = routed([ingress(HOST, ("/", P, "web"), notes=notes, class_name="haproxy"), ingress_class("haproxy", "haproxy.org/ingress")])
    assert (other.service_upstream, other.upstream_host, other.backend_protocol) == (False, None, None)


def test_a_service_without_cluster_ip_is_no_upstream_itself() -> None:
    rules = ingress(HOST, ("/", P, "web"), notes={"service-upstream": "true"})
    assert not routed([rules, service("web", ("http", 80, 8080), clusterIP="None")]).service_upstream


ALIASES = [
    ("www.shop.test, Old.Test", "old.test", "shop"),
    ("www.shop.test,old.test", "www.shop.test:80", "shop"),
    ("~^shop\\d+\\.test$", "shop12.test", "shop"),
    ("~^shop\\d+\\.test$", "shopx.test", None),
    ("api.test", "api.test", "api"),  # a host of its own goes before an alias
]


@pytest.mark.parametrize(("alias", "host", "wanted"), ALIASES)
def test_aliases(alias: str, host: str, wanted: str | None) -> None:
    objects = [ingress(HOST, ("/", P, "shop"), notes={"server-alias": alias}), ingress("api.test", ("/", P, "api"), name="api")]
    assert taken(objects, host, "/") == wanted


# rootfs/etc/nginx/lua/balancer.lua, route_to_alternative_balancer
CANARIES = [
    ({"canary-weight": "20"}, {}, "web", [("new", 20)]),
    ({"canary-weight": "80"}, {}, "new", [("web", 20)]),
    ({"canary-weight": "1", "canary-weight-total": "1000"}, {}, "web", [("new", 1)]),
    ({"canary-weight": "100"}, {}, "new", []),
    ({"canary-weight": "0"}, {}, "web", []),
    ({"canary-by-header": "X-Canary"}, {"x-canary": "always"}, "new", []),
    ({"canary-by-header": "X-Canary", "canary-weight": "50"}, {"X-Canary": "never"}, "web", []),
    ({"canary-by-header": "X-Canary"}, {"x-canary": "perhaps"}, "web", []),
    ({"canary-by-header": "X-Canary"}, {"accept": "*/*"}, "web", []),
    ({"canary-by-header": "X-Canary"}, {}, "web", [("new", 0)]),  # headers are not known
    ({"canary-by-header": "X-Canary", "canary-by-header-value": "eu"}, {"x-canary": "eu"}, "new", []),
    ({"canary-by-header": "X-Canary", "canary-by-header-value": "eu"}, {"x-canary": "always"}, "web", []),
    ({"canary-by-header": "X-Canary", "canary-by-header-pattern": "^eu-\\d"}, {"x-canary": "eu-1"}, "new", []),
    ({"canary-by-header": "X-Canary", "canary-by-header-pattern": "^eu-\\d"}, {"x-canary": "us-1"}, "web", []),
    ({"canary-by-cookie": "beta"}, {"cookie": "a=b; beta=always"}, "new", []),
    ({"canary-by-cookie": "beta", "canary-weight": "100"}, {"cookie": "beta=never"}, "web", []),
]


@pytest.mark.parametrize(("notes", "headers", "wanted", "others"), CANARIES)
def test_canaries(notes: dict[str, str], headers: dict[str, str], wanted: str, others: list[tuple[str, int]]) -> None:
    canary = ingress(HOST, ("/", P, "new"), name="canary", notes={"canary": "true", **notes})
    found = routed([canary, ingress(HOST, ("/", P, "web"), age=9)], headers=headers)
    assert (found.name, found.service_name, [(other.name, other.weight) for other in found.alternatives]) == ("rules", wanted, others)


def test_a_canary_for_another_path_or_switched_off_is_none() -> None:
    main = ingress(HOST, ("/", P, "web"))
    for rules, on in ((("/x", P, "new"), "true"), (("/", E, "new"), "true"), (("/", P, "new"), "false"), (("/", P, "web"), "true")):
        found = routed([main, ingress(HOST, rules, name="canary", age=1, notes={"canary": on, "canary-weight": "20"})])
        assert (found.service_name, found.alternatives) == ("web", ())
