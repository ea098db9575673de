"""API objects of L7 routing, as short as tests need them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracer.cluster import Route, Timeline

NOW_NS = 1_795_435_200 * 1_000_000_000  # 2026-11-23T12:00:00Z
NGINX = "nginx.ingress.kubernetes.io/"

Object = dict[str, Any]
Rule = tuple[str, str | None, str]  # path, pathType, Service


def created(seconds: int) -> str:
    return f"2026-11-23T11:00:{seconds:02}Z"


def backend(service: str, port: int | str = 80) -> Object:
    return {"service": {"name": service, "port": {"number": port} if isinstance(port, int) else {"name": port}}}


def ingress(
    host: str | None,
    *rules: Rule,
    name: str = "rules",
    namespace: str = "shop",
    age: int = 0,
    default: str | None = None,
    tls: bool = False,
    class_name: str | None = "nginx",
    legacy_class: str | None = None,
    port: int | str = 80,
    notes: dict[str, str] | None = None,
) -> Object:
    """An Ingress of one host; `notes` are annotations of ingress-nginx, without its prefix."""
    annotations = {NGINX + note: text for note, text in (notes or {}).items()}
    if legacy_class:
        annotations["kubernetes.io/ingress.class"] = legacy_class
    paths = [{"path": path, "pathType": kind, "backend": backend(service, port)} for path, kind, service in rules]
    spec: Object = {"rules": [{**({"host": host} if host else {}), "http": {"paths": paths}}]} if rules else {}
    if class_name:
        spec["ingressClassName"] = class_name
    if default:
        spec["defaultBackend"] = backend(default)
    if tls:
        spec["tls"] = [{"hosts": [host], "secretName": "certificate"}]
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"{namespace}/{name}",
        "creationTimestamp": created(age),
        "annotations": annotations,
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def ingress_class(name: str, controller: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": controller},
    }


def service(name: str, *ports: tuple[str | None, int, int | str], namespace: str = "shop", **spec: Any) -> Object:
    entries = [{"name": port_name, "port": port, "targetPort": target} for port_name, port, target in ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "uid": f"service/{namespace}/{name}", "creationTimestamp": created(0)},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": entries, **spec},
    }


def gateway(*listeners: Object, name: str = "edge", namespace: str = "infra", class_name: str = "envoy") -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace, "uid": f"gateway/{namespace}/{name}", "creationTimestamp": created(0)},
        "spec": {"gatewayClassName": class_name, "listeners": list(listeners)},
    }


def listener(name: str = "http", hostname: str | None = None, port: int = 80, protocol: str = "HTTP", allowed: str = "All") -> Object:
    found = {"name": name, "port": port, "protocol": protocol, "allowedRoutes": {"namespaces": {"from": allowed}}}
    return {**found, "hostname": hostname} if hostname else found


def route(
    *rules: Object,
    hostnames: Iterable[str] = (),
    name: str = "routes",
    namespace: str = "shop",
    age: int = 0,
    kind: str = "HTTPRoute",
    parent: Object | None = None,
    accepted: bool | None = None,
) -> Object:
    reference = {"name": "edge", "namespace": "infra", **(parent or {})}
    condition = {"type": "Accepted", "status": str(accepted)}
    status = {} if accepted is None else {"parents": [{"parentRef": reference, "conditions": [condition]}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": f"{kind}/{namespace}/{name}", "creationTimestamp": created(age)},
        "spec": {"parentRefs": [reference], "hostnames": list(hostnames), "rules": list(rules)},
        "status": status,
    }


def rule(to: str | dict[str, int] | None, *matches: Object, **more: Any) -> Object:
    """A rule to one Service, or to several by weight."""
    weights = {to: 1} if isinstance(to, str) else to or {}
    references = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    return {"matches": list(matches), "backendRefs": references, **more}


def path(value: str, kind: str = "PathPrefix", **more: Any) -> Object:
    return {"path": {"type": kind, "value": value}, **more}


def taken(objects: Iterable[Object], host: str | None, target: str, **request: Any) -> str | None:
    """The Service that a request goes to."""
    found = Timeline.of(objects).route(host, target, NOW_NS, **request)
    return None if found is None else found.service_name


P, E, S = "Prefix", "Exact", "ImplementationSpecific"
HOST = "shop.test"


def routed(objects: list[Object], host: str | None = HOST, target: str = "/", **request: Any) -> Route:
    found = Timeline.of(objects).route(host, target, NOW_NS, **request)
    assert found is not None
    return found
