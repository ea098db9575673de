"""Gateway API objects to the rules of each port of a Gateway, and the rule that a request gets.

Follows the text of gateway.networking.k8s.io/v1 (github.com/kubernetes-sigs/gateway-api, apis/v1/{gateway,httproute,grpcroute}_types.go).
What the text leaves to implementations: listeners of one port are isolated (the most specific hostname takes the request), a regular
expression must match the whole path and goes before prefixes (as in Envoy Gateway). ReferenceGrants are not looked at: a backend in
another namespace is taken as allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from tracer.cluster.fields import Object, at, created_ns, dicts, number, string, strings
from tracer.cluster.history import FOREVER_NS
from tracer.cluster.nginx import UNREADABLE
from tracer.cluster.routes import Asked, Backend, Route, identity, label_suffix

GROUP = "gateway.networking.k8s.io/"
PROTOCOLS = {"HTTP": False, "HTTPS": True}  # whether the client speaks TLS
WELL_KNOWN = {"http": 80, "https": 443}
Rank = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One match of one rule of a route; `match` is empty where the rule has none (everything then matches)."""

    item: Object
    rule: Object
    match: Object
    place: tuple[int, int]

    @property
    def kind(self) -> str:
        """HTTPRoute or GRPCRoute."""
        return str(self.item["kind"])


@dataclass(slots=True)
class Listener:
    """A listener of a Gateway with the matches of all routes attached to it."""

    host: str | None
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class Port:
    """A port of a Gateway: what one connection may meet."""

    item: Object
    number: int
    tls: bool
    listeners: list[Listener] = field(default_factory=list)


def ports(gateway: Object, routes: Iterable[Object]) -> list[Port]:
    """The HTTP ports of a Gateway with the routes attached to them."""
    routes = list(routes)
    found: dict[tuple[int, bool], Port] = {}
    for written in dicts(gateway, "spec", "listeners"):
        tls, port = PROTOCOLS.get(string(written, "protocol") or ""), number(written, "port")
        if tls is not None and port is not None:
            listener = Listener((string(written, "hostname") or "").lower() or None)
            for item in routes:
                if _attached(gateway, written, item):
                    listener.entries += _entries(item)
            found.setdefault((port, tls), Port(gateway, port, tls)).listeners.append(listener)
    return list(found.values())


def _entries(item: Object) -> Iterator[Entry]:
    for number_, rule in enumerate(dicts(item, "spec", "rules")):
        for place, match in enumerate(dicts(rule, "matches") or [{}]):
            yield Entry(item, rule, match, (number_, place))


def _attached(gateway: Object, listener: Object, item: Object) -> bool:
    """Whether a route hangs on a listener: by parentRefs, by the listener's allowedRoutes, unless its status says it was not accepted."""
    namespace, name = identity(gateway)
    kinds = [string(each, "kind") for each in dicts(listener, "allowedRoutes", "kinds")]
    for parent in dicts(item, "spec", "parentRefs"):
        same = (string(parent, "namespace") or identity(item)[0], string(parent, "name")) == (namespace, name)
        section, port = string(parent, "sectionName"), number(parent, "port")
        if same and (string(parent, "kind") or "Gateway") == "Gateway" and (not kinds or item["kind"] in kinds):
            asked_for = section in (None, string(listener, "name")) and port in (None, number(listener, "port"))
            if asked_for and _accepted(listener, item, parent, same_namespace=identity(item)[0] == namespace):
                return True
    return False


def _accepted(listener: Object, item: Object, parent: Object, *, same_namespace: bool) -> bool:
    names = ("namespace", "name", "sectionName")
    own = {name: string(parent, name) or (identity(item)[0] if name == "namespace" else None) for name in names}
    said = None
    for status in dicts(item, "status", "parents"):
        told = {name: string(status, "parentRef", name) or (identity(item)[0] if name == "namespace" else None) for name in names}
        for condition in dicts(status, "conditions"):
            if told == own and condition.get("type") == "Accepted":
                said = condition.get("status") == "True"
    if said is False:
        return False
    # A Selector is over labels of Namespaces, which are not kept: then only the status tells.
    allowed = {"All": True, "Same": same_namespace, "Selector": said is True}
    return allowed.get(string(listener, "allowedRoutes", "namespaces", "from") or "Same", False)


def match(port: Port, asked: Asked) -> Route | None:
    """Where a port of a Gateway sends a request; None where no rule is known to take it.

    Where headers are not known, rules that ask for some may have taken it: their backends are among the alternatives.
    """
    taking = [listener for listener in port.listeners if _host_rank(listener.host, asked.host) is not None]
    if port.tls != asked.tls or not taking:
        return None
    listener = max(taking, key=lambda each: _host_rank(each.host, asked.host) or ())
    possible: list[tuple[Rank, str | None, Entry, bool]] = []
    for entry in listener.entries:
        hosts: list[str | None] = [host.lower() for host in strings(entry.item, "spec", "hostnames")]
        ranked = [(rank, host) for host in hosts or [None] if (rank := _host_rank(host, asked.host)) is not None]
        verdict = (_takes_grpc if entry.kind == "GRPCRoute" else _takes_http)(entry.match, asked) if ranked else False
        if verdict is not False:
            rank, best = max(ranked, key=lambda each: each[0])
            possible.append((rank + _rank(entry), best, entry, verdict is True))
    # Of equals the oldest route, then the first by name, then the first rule.
    possible.sort(key=lambda each: (*(-value for value in each[0]), _age(each[2].item), identity(each[2].item), each[2].place))
    for order, (_, written, entry, certain) in enumerate(possible):
        if certain:
            found = _route(port, entry, written or listener.host, asked)
            others = [backend for _, _, before, _ in possible[:order] for backend in _backends(before)]
            return replace(found, alternatives=found.alternatives + tuple(others))
    return None


def _age(item: Object) -> int:
    created = created_ns(item)
    return FOREVER_NS if created is None else created


def _host_rank(pattern: str | None, host: str | None) -> Rank | None:
    """(characters of a precise hostname, characters) where `host` matches, else None. A wildcard takes one label or more."""
    if pattern is None:
        return 0, 0
    if pattern.startswith("*."):
        return (0, len(pattern)) if label_suffix(host, pattern) else None
    return (len(pattern), len(pattern)) if pattern == host else None


def _path(match_: Object) -> tuple[str, str]:
    return string(match_, "path", "type") or "PathPrefix", string(match_, "path", "value") or "/"


def _rank(entry: Entry) -> Rank:
    """How specific a match is, after its hostname: gRPC routes before HTTP routes, which share no hostname by the text."""
    headers = len(dicts(entry.match, "headers"))
    if entry.kind == "GRPCRoute":
        return 1, *(len(string(entry.match, "method", part) or "") for part in ("service", "method")), headers, 0, 0
    kind, value = _path(entry.match)
    order = {"Exact": 2, "RegularExpression": 1}.get(kind, 0)
    has_method = int(string(entry.match, "method") is not None)
    return 0, order, len(value.rstrip("/")), has_method, headers, len(dicts(entry.match, "queryParams"))


def _takes_http(match_: Object, asked: Asked) -> bool | None:
    """Whether a match takes a request; None where that depends on headers that are not known."""
    kind, value = _path(match_)
    prefix = value.rstrip("/")
    if kind == "PathPrefix":
        path: bool | None = asked.path.startswith(prefix) and asked.path[len(prefix) : len(prefix) + 1] in ("", "/")
    else:
        path = _matches(value, asked.path) if kind == "RegularExpression" else asked.path == value
    query = dict(reversed(parse_qsl(asked.query, keep_blank_values=True)))  # the first of equal names counts
    sent = [_pair(each, query.get(string(each, "name") or "")) for each in dicts(match_, "queryParams")]
    return _all([path, string(match_, "method") in (None, asked.method), *sent, *_headers(match_, asked)])


def _takes_grpc(match_: Object, asked: Asked) -> bool | None:
    """The path of gRPC is `/package.Service/Method` (PROTOCOL-HTTP2.md of grpc/grpc)."""
    content = asked.headers.get("content-type", "application/grpc" if not asked.headers else "")
    service, _, method = asked.path.removeprefix("/").partition("/")
    regular = string(match_, "method", "type") == "RegularExpression"
    verdicts: list[bool | None] = [asked.method == "POST" and bool(method) and content.startswith("application/grpc")]
    for name, sent in (("service", service), ("method", method)):
        wanted = string(match_, "method", name)
        verdicts.append(wanted is None or (_matches(wanted, sent) if regular else wanted == sent))
    return _all([*verdicts, *_headers(match_, asked)])


def _headers(match_: Object, asked: Asked) -> Iterator[bool | None]:
    """Of equivalent names, only the first entry counts."""
    wanted: dict[str, Object] = {}
    for each in dicts(match_, "headers"):
        wanted.setdefault((string(each, "name") or "").lower(), each)
    for name, each in wanted.items():
        yield _pair(each, asked.headers.get(name)) if asked.headers else None


def _pair(wanted: Object, sent: str | None) -> bool | None:
    value = string(wanted, "value") or ""
    if sent is None:
        return False
    return _matches(value, sent) if string(wanted, "type") == "RegularExpression" else sent == value


def _matches(expression: str, text: str) -> bool | None:
    try:
        return re.fullmatch(expression, text) is not None
    except UNREADABLE:
        return None


def _all(verdicts: list[bool | None]) -> bool | None:
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _backends(entry: Entry) -> list[Backend]:
    """The Services that a rule sends requests to, the heaviest first."""
    found = []
    for reference in dicts(entry.rule, "backendRefs"):
        weight, name = number(reference, "weight"), string(reference, "name")
        if name and weight != 0 and (string(reference, "kind") or "Service") == "Service" and not string(reference, "group"):
            namespace = string(reference, "namespace") or identity(entry.item)[0]
            found.append(Backend(namespace, name, number(reference, "port"), 1 if weight is None else weight))
    return sorted(found, key=lambda backend: -(backend.weight or 0))


def _route(port: Port, entry: Entry, host: str | None, asked: Asked) -> Route:
    grpc = entry.kind == "GRPCRoute"
    path_type, path = _path(entry.match)
    if grpc:
        path_type = string(entry.match, "method", "type") or "Exact"
        path = "/".join(["", *(string(entry.match, "method", part) or "*" for part in ("service", "method"))])
    backends = _backends(entry)
    main = backends[0] if backends else None
    references = dicts(entry.rule, "backendRefs")
    filters = dicts(entry.rule, "filters") + (dicts(references[0], "filters") if len(references) == 1 else [])
    rewrite = next((each["urlRewrite"] for each in filters if at(each, "urlRewrite")), None)
    redirect = next((each["requestRedirect"] for each in filters if "requestRedirect" in each), None)
    namespace, name = identity(entry.item)
    return Route(
        kind=entry.kind,
        namespace=namespace,
        name=name,
        host=host,
        path=path,
        path_type=path_type,
        service_namespace=main.namespace if main else None,
        service_name=main.name if main else None,
        service_port=main.port if main else None,
        upstream_path=_changed(asked.path, path, at(rewrite, "path")),
        alternatives=tuple(backends[1:]),
        ingress_class=string(port.item, "spec", "gatewayClassName"),
        redirect=None if redirect is None else _redirect(redirect, port, path, asked),
        upstream_host=string(rewrite, "hostname"),
        backend_protocol="GRPC" if grpc else None,
    )


def _changed(path: str, prefix: str, modifier: object) -> str:
    """A path after an HTTPPathModifier (the table in httproute_types.go)."""
    kind = string(modifier, "type")
    if kind == "ReplaceFullPath":
        return string(modifier, "replaceFullPath") or "/"
    if kind == "ReplacePrefixMatch":
        rest = path[len(prefix.rstrip("/")) :]
        return (string(modifier, "replacePrefixMatch") or "").rstrip("/") + rest or "/"
    return path


def _redirect(written: object, port: Port, prefix: str, asked: Asked) -> str:
    """The Location of a RequestRedirect; a scheme's own port is not written."""
    scheme = string(written, "scheme") or asked.scheme
    number_ = number(written, "port") or (WELL_KNOWN.get(scheme) if string(written, "scheme") else port.number)
    host = string(written, "hostname") or asked.host or ""
    path = _changed(asked.path, prefix, at(written, "path")) + (f"?{asked.query}" if asked.query else "")
    return f"{scheme}://{host}{path}" if number_ in (None, WELL_KNOWN.get(scheme)) else f"{scheme}://{host}:{number_}{path}"
