"""Which rule of which L7 proxy took a request, by the API objects as they were at that moment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from tracer.cluster import gateway, ingress, servers
from tracer.cluster.fields import Object, string
from tracer.cluster.history import NEVER_NS
from tracer.cluster.lives import Life, changes
from tracer.cluster.routes import Asked, Backend, Route, headless, identity, numbered

KINDS = ("Ingress", "IngressClass", "Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute")
STATES = 64  # of the rules, kept at once

FindService = Callable[[str, str], Object | None]


@dataclass(frozen=True, slots=True)
class Proxy:
    """What goes by one set of rules: the controller of some Ingresses, a port of a Gateway. Unknown classes and controllers are None."""

    classes: frozenset[str | None]
    controller: str | None
    match: Callable[[Asked], Route | None]


class Routing:
    """The rules over time."""

    def __init__(self, by_kind: Mapping[str, list[Life]]) -> None:
        self._lives = [life for kind in KINDS for life in by_kind.get(kind, [])]
        self._changes = changes(self._lives)
        self._state = functools.lru_cache(STATES)(self._proxies)

    def route(
        self,
        asked: Asked,
        time_ns: int,
        service: FindService,
        *,
        namespace: str | None = None,
        ingress_class: str | None = None,
        controller: str | None = None,
    ) -> Route | None:
        """The rule that took a request; None where none is known, or where proxies differ and nothing tells which of them got it.

        A rule goes before a default backend. `ingress_class` and `controller` say which proxies it may have been, `namespace` which
        rules to prefer where several proxies have one.
        """
        moment = self._changes.at(time_ns)
        found = []
        for proxy in self._state(NEVER_NS if moment is None else moment):
            if ingress_class in (None, *proxy.classes) and controller in (None, proxy.controller):
                route = proxy.match(asked)
                if route is not None:
                    found.append(route)
        found = [route for route in found if not route.default_backend] or found
        found = [route for route in found if route.namespace == namespace] or found
        if len({(route.service_namespace, route.service_name, route.redirect) for route in found}) != 1:
            return None
        return _resolved(found[0], service)

    def _proxies(self, time_ns: int) -> list[Proxy]:
        items: dict[str, list[Object]] = {kind: [] for kind in KINDS}
        for life in self._lives:
            item = life.at(time_ns)
            # Other groups have a Gateway as well (networking.istio.io).
            if item is not None and (life.kind.startswith("Ingress") or (string(item, "apiVersion") or "").startswith(gateway.GROUP)):
                items[life.kind].append(item)
        return [*_ingress_proxies(items["Ingress"], items["IngressClass"]), *_gateway_proxies(items)]


def _ingress_proxies(items: Iterable[Object], classes: Iterable[Object]) -> Iterable[Proxy]:
    controllers = {identity(item)[1]: string(item, "spec", "controller") for item in classes}
    groups: dict[tuple[str | None, str | None], list[Object]] = {}
    for item in items:
        name = servers.class_of(item)
        controller = controllers.get(name) if name else None
        groups.setdefault((controller, None if controller else name), []).append(item)
    for (controller, _), found in groups.items():
        names = frozenset(servers.class_of(item) for item in found)
        hosts = servers.servers(found, is_nginx=_is_nginx(controller, names, found))
        yield Proxy(names, controller, functools.partial(ingress.match, hosts))


def _is_nginx(controller: str | None, names: frozenset[str | None], items: list[Object]) -> bool:
    """Whether ingress-nginx has these: by its controller's name; where that is not known, by its class's or by its annotations."""
    if controller is not None:
        return controller.endswith("ingress-nginx")
    return any(name is not None and "nginx" in name for name in names) or any(servers.is_annotated(item) for item in items)


def _gateway_proxies(items: Mapping[str, list[Object]]) -> Iterable[Proxy]:
    controllers = {identity(item)[1]: string(item, "spec", "controllerName") for item in items["GatewayClass"]}
    for item in items["Gateway"]:
        name = string(item, "spec", "gatewayClassName")
        for port in gateway.ports(item, items["HTTPRoute"] + items["GRPCRoute"]):
            yield Proxy(frozenset([name]), controllers.get(name or ""), functools.partial(gateway.match, port))


def _resolved(route: Route, service: FindService) -> Route:
    """`route` with ports as numbers, where the Services are known."""

    def named(backend: Backend) -> Backend:
        return replace(backend, port=numbered(backend.port, service(backend.namespace, backend.name)))

    others = tuple(named(backend) for backend in dict.fromkeys(route.alternatives))
    if route.service_namespace is None or route.service_name is None:
        return replace(route, alternatives=others)
    item = service(route.service_namespace, route.service_name)
    # Without a ClusterIP, ingress-nginx goes to the endpoints (controller.go, getServiceClusterEndpoint).
    clustered = route.service_upstream and not headless(item)
    return replace(route, service_port=numbered(route.service_port, item), service_upstream=clustered, alternatives=others)
