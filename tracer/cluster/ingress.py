"""The location of a controller's servers that a request gets, and what the proxy does then.

Chosen as nginx chooses (https://nginx.org/en/docs/http/ngx_http_core_module.html#location); test_routes_nginx.py compares.
"""

from __future__ import annotations

from dataclasses import replace

from tracer.cluster import canary, nginx
from tracer.cluster.fields import dicts
from tracer.cluster.routes import Asked, Route, identity
from tracer.cluster.servers import ANY_HOST, TRUE, Location, Server, Servers, class_of, is_on


def match(found: Servers, asked: Asked) -> Route | None:
    """Where the controller sends a request; None where nothing is known to take it."""
    server = found.of(asked.host)
    uri = nginx.normalized(asked.path) if found.nginx else nginx.octets(asked.path)
    if server is None or uri is None:
        return None
    if uri == b"/":
        root = next((each for each in server.ordered() if each.notes.get("app-root", "").startswith("/")), None)
        if root is not None:
            return replace(_route(found, server, root, uri, asked), redirect=asked.url(root.notes["app-root"]))
    regular = any(each.regular for each in server.locations.values())
    location = _regular(server, uri) if regular else _plain(server, uri, is_nginx=found.nginx)
    if location is not None and location.backend is None and not found.nginx:
        # The API's text: what no host and no path takes goes to the default backend. ingress-nginx keeps hosts apart.
        location = found.by_host[ANY_HOST].locations.get(("/", "Prefix")) if ANY_HOST in found.by_host else None
    if location is None or location.backend is None:
        return None
    return _route(found, server, location, uri, asked)


def _plain(server: Server, uri: bytes, *, is_nginx: bool) -> Location | None:
    """Exact, else the longest prefix by whole path elements; nginx first looks whether only a final slash is missing."""
    path = uri.decode("utf-8", "surrogateescape")
    own = server.locations.get((path, "Exact")) or server.locations.get((path, "Prefix"))
    if own is None and is_nginx:
        own = server.locations.get((f"{path}/", "Prefix")) or server.locations.get((f"{path}/", "Exact"))
    prefixes = (each for each in server.locations.values() if each.path_type == "Prefix")
    found = [each for each in prefixes if _has_prefix(uri, nginx.octets(each.path.rstrip("/")))]
    return own or max(found, key=lambda each: len(each.path.rstrip("/")), default=None)


def _has_prefix(uri: bytes, prefix: bytes) -> bool:
    return uri.startswith(prefix) and uri[len(prefix) : len(prefix) + 1] in (b"", b"/")


def _regular(server: Server, uri: bytes) -> Location | None:
    """The first that matches, Exact ones too: every path of the host is `~* "^PATH"` (docs, ingress-path-matching.md)."""
    for location in server.ordered():
        expression = nginx.pattern(f"^{location.path}")
        if expression is None:
            return None  # what stands after it cannot be told
        if expression.match(uri):
            return location
    return None


def _route(found: Servers, server: Server, location: Location, uri: bytes, asked: Asked) -> Route:
    namespace, name = identity(location.item)
    backend, others = canary.choose(location.backend, found.canaries.get(location.backend) if location.backend else None, asked)
    notes = location.notes
    return Route(
        kind="Ingress",
        namespace=namespace,
        name=name,
        host=None if server.host == ANY_HOST else server.host,
        path=None if location.default else location.path,
        path_type=location.written_type,
        service_namespace=backend.namespace if backend else None,
        service_name=backend.name if backend else None,
        service_port=backend.port if backend else None,
        upstream_path=_upstream_path(location, uri, asked),
        service_upstream=is_on(notes, "service-upstream"),
        alternatives=others,
        ingress_class=class_of(location.item),
        default_backend=location.default,
        redirect=_redirect(location, uri, asked) if found.nginx else None,
        upstream_host=notes.get("upstream-vhost"),
        backend_protocol=notes.get("backend-protocol", "HTTP").upper() if found.nginx else None,
    )


def _upstream_path(location: Location, uri: bytes, asked: Asked) -> str | None:
    if not location.rewrites:
        return asked.path  # proxy_pass without a URI hands on what the client sent
    changed = nginx.rewritten(location.path, location.notes["rewrite-target"], uri)
    return None if changed is None else nginx.escaped(changed)


def _redirect(location: Location, uri: bytes, asked: Asked) -> str | None:
    """Where ingress-nginx sends the client instead of asking the backend."""
    notes = location.notes
    fixed = notes.get("temporal-redirect") or notes.get("permanent-redirect")
    if fixed:
        return fixed
    target = notes.get("rewrite-target", "")
    if location.rewrites and target.startswith(("http://", "https://")):
        return target  # nginx redirects then (ngx_http_rewrite_module, rewrite)
    if _wants_tls(location, asked):
        uri_sent = f"{asked.path}?{asked.query}" if asked.query else asked.path
        return f"https://{asked.host or ''}{uri_sent if is_on(notes, 'preserve-trailing-slash') else uri_sent.removesuffix('/')}"
    if location.path == uri.decode("utf-8", "surrogateescape") + "/":
        return asked.url(location.path)  # a location that ends in a slash, asked without (nginx docs, location)
    return None


def _wants_tls(location: Location, asked: Asked) -> bool:
    """Plain HTTP where the Ingress has TLS, or is told to force it (docs, annotations.md, server-side HTTPS enforcement)."""
    notes = location.notes
    if asked.tls or asked.headers.get("x-forwarded-proto") == "https" or asked.path.startswith("/.well-known/acme-challenge"):
        return False
    has_tls = bool(dicts(location.item, "spec", "tls")) and notes.get("ssl-redirect", "true") in TRUE
    return has_tls or is_on(notes, "force-ssl-redirect")
