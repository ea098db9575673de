"""Ingress objects of one controller to the servers and locations that it makes of them.

Follows ingress-nginx's source (paths below are in github.com/kubernetes/ingress-nginx); for other controllers, the text of the API
(networking.k8s.io/v1) without ingress-nginx's annotations. Not followed: snippets, session affinity, ConfigMap settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tracer.cluster import canary, nginx
from tracer.cluster.canary import Canary
from tracer.cluster.fields import Object, at, created_ns, dicts, number, string
from tracer.cluster.history import FOREVER_NS
from tracer.cluster.routes import Backend, identity, label_suffix

ANNOTATIONS = "nginx.ingress.kubernetes.io/"
LEGACY_CLASS = "kubernetes.io/ingress.class"
ANY_HOST = "_"
TRUE = ("1", "t", "T", "TRUE", "true", "True")  # Go's strconv.ParseBool
_LABEL = re.compile(r"[\w-]+")  # of a wildcard host (template.go, buildServerName)


@dataclass(frozen=True, slots=True)
class Location:
    """One path of a server, as the controller writes it: `path_type` Exact or Prefix, `written_type` as the Ingress has it."""

    item: Object
    path: str
    path_type: str
    written_type: str | None
    backend: Backend | None
    notes: Mapping[str, str]
    default: bool = False

    @property
    def rewrites(self) -> bool:
        """location.go, needsRewrite."""
        return self.notes.get("rewrite-target", self.path) != self.path

    @property
    def replaceable(self) -> bool:
        """Whether a rule may take this path: the root of a host does, not that of an Ingress that is nothing but a default backend."""
        return self.default and (self.backend is None or bool(dicts(self.item, "spec", "rules")))

    @property
    def regular(self) -> bool:
        """Whether it makes regular expressions of its server's paths."""
        return self.rewrites or is_on(self.notes, "use-regex")


@dataclass(slots=True)
class Server:
    """All that is known of one host, `locations` by path and type."""

    host: str
    locations: dict[tuple[str, str], Location] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)

    def takes(self, host: str) -> bool:
        """Whether one of its expressions matches a host."""
        if self.host.startswith("*.") and _LABEL.fullmatch(label_suffix(host, self.host) or ""):
            return True
        expressions = (nginx.pattern(alias.lstrip("~*")) for alias in self.aliases if alias.startswith("~"))
        return any(expression is not None and expression.search(nginx.octets(host)) for expression in expressions)

    def ordered(self) -> list[Location]:
        """Locations as nginx.conf has them: longest first, then by name downwards (controller.go, getBackendServers)."""
        return sorted(sorted(self.locations.values(), key=lambda each: each.path, reverse=True), key=lambda each: -len(each.path))


@dataclass(slots=True)
class Servers:
    """All hosts of one controller, and the canaries beside its backends."""

    nginx: bool
    by_host: dict[str, Server] = field(default_factory=dict)
    canaries: dict[Backend, Canary] = field(default_factory=dict)

    def of(self, host: str | None) -> Server | None:
        """The server for a host, as nginx looks for it (https://nginx.org/en/docs/http/server_names.html), else the one for any host.

        By its name or an alias; by an alias `*.…`, the longest first; then by expressions in the order of hosts: wildcard hosts, which
        take one label, are some of them, aliases `~…` the others.
        """
        exact = self.by_host.get(host or ANY_HOST)
        if exact is not None or host is None:
            return exact
        servers = [self.by_host[name] for name in sorted(self.by_host)]
        aliases = [(alias, server) for server in servers for alias in server.aliases]
        wide = [(alias, server) for alias, server in aliases if alias.startswith("*.") and label_suffix(host, alias)]
        named = [server for alias, server in aliases if alias == host]
        named += [server for _, server in sorted(wide, key=lambda each: -len(each[0]))]
        return next(iter(named + [each for each in servers if each.takes(host)]), self.by_host.get(ANY_HOST))


def is_on(notes: Mapping[str, str], name: str) -> bool:
    """Whether an annotation says true."""
    return notes.get(name) in TRUE


def class_of(item: Object) -> str | None:
    """The class of an Ingress: ingress-nginx looks at the old annotation first (store.go, ingressclass)."""
    return string(item, "metadata", "annotations", LEGACY_CLASS) or string(item, "spec", "ingressClassName")


def is_annotated(item: Object) -> bool:
    """Whether an Ingress has annotations of ingress-nginx."""
    return bool(_notes(item))


def servers(items: Iterable[Object], *, is_nginx: bool) -> Servers:
    """The servers of a controller's Ingresses.

    The oldest Ingress wins where two have the same path; of equally old ones, the last by `namespace/name` (store.go, sortIngressSlice).
    """
    named = sorted(items, key=lambda item: "/".join(identity(item)), reverse=True)
    ordered = sorted(named, key=lambda item: FOREVER_NS if (created := created_ns(item)) is None else created)
    found = Servers(is_nginx)
    noted = [(item, _notes(item) if is_nginx else {}) for item in ordered]
    plain = [(item, notes) for item, notes in noted if not is_on(notes, "canary")]
    for item, notes in plain:
        _add_servers(found, item, notes)
    for item, notes in plain:
        for server, location in _locations(found, item, notes):
            key = (location.path, location.path_type)
            if key not in server.locations or server.locations[key].replaceable:
                server.locations[key] = location
    for item, notes in noted:
        if is_on(notes, "canary"):
            _add_canary(found, item, notes)
    return found


def _notes(item: Object) -> dict[str, str]:
    """The annotations of ingress-nginx, without its prefix and without empty ones (internal/ingress/annotations/parser)."""
    written = at(item, "metadata", "annotations")
    pairs = written.items() if isinstance(written, dict) else ()
    own = ((name.removeprefix(ANNOTATIONS), text) for name, text in pairs if name.startswith(ANNOTATIONS) and isinstance(text, str))
    return {name: text.strip() for name, text in own if text.strip()}


def _backend(item: Object, written: object) -> Backend | None:
    name = string(written, "service", "name")
    port = number(written, "service", "port", "number") or string(written, "service", "port", "name")
    return Backend(identity(item)[0], name, port) if name else None


def _add_servers(found: Servers, item: Object, notes: dict[str, str]) -> None:
    """Every host with its root, which leads to the default backend until a rule has it (controller.go, createServers)."""
    default = _backend(item, at(item, "spec", "defaultBackend"))
    if default is not None:
        # The last Ingress with a default backend has what no host takes; rewrites do not count there.
        bare = {name: text for name, text in notes.items() if name not in ("rewrite-target", "use-regex", "app-root")}
        anywhere = found.by_host.setdefault(ANY_HOST, Server(ANY_HOST))
        anywhere.locations["/", "Prefix"] = Location(item, "/", "Prefix", None, default, bare, default=True)
    for rule in dicts(item, "spec", "rules"):
        host = _host(rule)
        server = found.by_host.setdefault(host, Server(host))
        server.locations.setdefault(("/", "Prefix"), Location(item, "/", "Prefix", None, default, notes, default=True))
        server.aliases = server.aliases or [alias.strip().lower() for alias in notes.get("server-alias", "").split(",") if alias.strip()]


def _host(rule: Object) -> str:
    return (string(rule, "host") or ANY_HOST).lower()


def _locations(found: Servers, item: Object, notes: dict[str, str]) -> Iterator[tuple[Server, Location]]:
    """The paths of an Ingress, with the servers that they are of."""
    for rule in dicts(item, "spec", "rules"):
        server = found.by_host.get(_host(rule))
        for entry in dicts(rule, "http", "paths") if server is not None else ():
            backend = _backend(item, entry.get("backend"))
            if backend is not None and server is not None:
                written = string(entry, "pathType") or "ImplementationSpecific"
                # Anything but Exact is a Prefix (internal/k8s/main.go, SetDefaultNGINXPathType).
                path_type = written if written == "Exact" else "Prefix"
                yield server, Location(item, string(entry, "path") or "/", path_type, written, backend, notes)


def _add_canary(found: Servers, item: Object, notes: dict[str, str]) -> None:
    # A canary stands beside a backend, and so on every path that has it (controller.go, mergeAlternativeBackends).
    for server, location in _locations(found, item, notes):
        main = server.locations.get((location.path, location.path_type))
        if main is not None and main.backend is not None and location.backend is not None and location.backend != main.backend:
            found.canaries.setdefault(main.backend, canary.policy(location.backend, notes))
