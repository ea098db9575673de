"""The nouns of L7 routing: a request as a proxy got it, and the rule that says where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracer.cluster.fields import Object, at, string
from tracer.cluster.services import service_ports


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service that a rule may send requests to. `port` is the number, or the name where the Service's ports are not known.

    `weight` is its share of the requests (of a canary: of 100, or of canary-weight-total); None where chance does not decide.
    """

    namespace: str
    name: str
    port: int | str | None
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The rule that a request matched, and what the proxy does then.

    `host` and `path` are the rule's, as written (None: any host; a rule without paths); `path_type` is Exact, Prefix, PathPrefix,
    ImplementationSpecific or RegularExpression. `service_*` is None where the rule names no Service; of several by weight, the heaviest.
    `upstream_path` is what the upstream sees, without the query string; None where it cannot be told. `service_upstream`: the proxy
    connects to the ClusterIP rather than to endpoints. `default_backend`: no rule matched, this is where the rest goes.
    `redirect`: the proxy answers by itself and sends the client there. `upstream_host`: the Host that the upstream sees where it is not
    the client's. `backend_protocol`: HTTP, HTTPS, GRPC…, None where not known.
    """

    kind: str
    namespace: str
    name: str
    host: str | None
    path: str | None
    path_type: str | None
    service_namespace: str | None
    service_name: str | None
    service_port: int | str | None
    upstream_path: str | None
    service_upstream: bool = False
    alternatives: tuple[Backend, ...] = ()
    ingress_class: str | None = None
    default_backend: bool = False
    redirect: str | None = None
    upstream_host: str | None = None
    backend_protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the proxy got it. `path` as sent, without the query string; `headers` by lower-case name, empty where not known."""

    host: str | None
    path: str
    query: str
    method: str
    headers: Mapping[str, str]
    tls: bool

    @property
    def scheme(self) -> str:
        """What the client used towards the proxy: http or https."""
        return "https" if self.tls else "http"

    def url(self, path: str) -> str:
        """An absolute URL on the asked host; the path alone where there is no host."""
        return f"{self.scheme}://{self.host}{path}" if self.host else path


def asked(host: str | None, target: str, method: str, headers: Mapping[str, str], *, tls: bool) -> Asked | None:
    """A request by its Host and request target (RFC 9112, 3.2); None where the target is no path (`*`, CONNECT's authority).

    A target in absolute form names its host itself, and that one counts (RFC 9112, 3.2.2).
    """
    scheme, slashes, rest = target.partition("://")
    if slashes and scheme.lower() in ("http", "https"):
        end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
        host, target = rest[:end], rest[end:]
        target = target if target.startswith("/") else f"/{target}"
    if not target.startswith("/"):
        return None
    path, _, query = target.partition("#")[0].partition("?")
    return Asked(bare_host(host), path, query, method.upper(), {name.lower(): value for name, value in headers.items()}, tls)


def bare_host(host: str | None) -> str | None:
    """A Host header as rules compare it: lower case, without port and trailing dot; an IPv6 literal keeps its brackets.

    As nginx's ngx_http_validate_host does, and as Gateway API demands ("MUST ignore any port value").
    """
    text = (host or "").strip().lower()
    if text.startswith("["):
        text = text.partition("]")[0] + "]"
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text.removesuffix(".") or None


def label_suffix(host: str | None, wildcard: str) -> str | None:
    """What stands for the `*` of `*.example.test` in `host`, None where it does not match."""
    suffix = wildcard[1:].lower()
    return host[: -len(suffix)] if host is not None and host.endswith(suffix) and len(host) > len(suffix) else None


def identity(item: Object) -> tuple[str, str]:
    """(namespace, name) of an object."""
    return string(item, "metadata", "namespace") or "default", string(item, "metadata", "name") or ""


def numbered(port: int | str | None, service: Object | None) -> int | str | None:
    """A backend's port as the Service's port number, where the Service is known and has it; else as it was.

    By number, name or targetPort: ingress-nginx takes all three (internal/ingress/controller/controller.go, serviceEndpoints).
    """
    ports = service_ports(service) if service is not None and port is not None else []
    by_number = {str(entry.port): entry.port for entry in ports}
    by_name = {entry.port_name: entry.port for entry in ports}
    by_target = {entry.target_port: entry.port for entry in reversed(ports)}
    return by_number.get(str(port)) or by_name.get(str(port)) or by_target.get(str(port)) or port


def headless(service: Object | None) -> bool:
    """Whether a Service has no ClusterIP that a proxy could connect to."""
    return service is not None and at(service, "spec", "clusterIP") in (None, "", "None")
