"""A shop behind an ingress: nginx's configurations in the pods `edge`, `lone`, `web-a` and `web-b`, and the Ingress objects for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy_objects import ingress, ingress_class

from .services import PODS, SERVICES, cluster_objects

FAILING_PORT, CLOSED_PORT = 8082, 9
EDGE_PORTS = {"plain": 8080, "tls": 8443, "behind": 8081}


def at(pod: str, port: int = 8080) -> str:
    return f"{PODS[pod].addresses[0]}:{port}"


def vip(service: str) -> str:
    found = next(each for each in SERVICES if each.name == service)
    return f"{found.vips[0]}:{found.port}"


WEB = (at("web-a"), at("web-b"))
_KEPT = ("proxy_http_version 1.1", 'proxy_set_header Connection ""', "proxy_set_header Host $host")


@dataclass(frozen=True, slots=True)
class Site:
    """A host of the ingress: the Service that its Ingress names, and the upstream servers to which nginx really goes."""

    host: str
    service: str
    upstream: tuple[str, ...]
    lines: tuple[str, ...] = _KEPT  # of its location
    path: str = "/"
    rewrite: str = ""  # annotation rewrite-target; `path` is then a regular expression

    @property
    def name(self) -> str:
        return self.host.partition(".")[0]

    def server(self) -> str:
        """nginx's upstream and server."""
        servers = "".join(f"server {each} max_fails=0; " for each in self.upstream)
        kept = "keepalive 32;" if _KEPT[0] in self.lines else ""
        match = f'~ "^{self.path}"' if self.rewrite else self.path
        rewrite = f'rewrite "(?i){self.path}" {self.rewrite} break; ' if self.rewrite else ""
        lines = "".join(f"{line}; " for line in self.lines)
        listens = " ".join(f"listen {port}{_LISTEN[door]};" for door, port in EDGE_PORTS.items())
        location = f"location {match} {{ {rewrite}proxy_pass http://{self.name}; {lines}}}"
        return f"upstream {self.name} {{ {servers}{kept} }}\nserver {{ {listens} server_name {self.host}; {location} }}"

    def object(self) -> dict[str, Any]:
        """The Ingress."""
        notes = {"rewrite-target": self.rewrite, "use-regex": "true"} if self.rewrite else {}
        port = next(each.port for each in SERVICES if each.name == self.service)
        kind = "ImplementationSpecific" if self.rewrite else "Prefix"
        found = ingress(self.host, (self.path, kind, self.service), name=self.name, notes=notes, port=port)
        found["metadata"] |= {"creationTimestamp": "2024-11-01T08:00:00Z"}
        return found


_LISTEN = {"plain": "", "tls": " ssl", "behind": " proxy_protocol"}
_FORWARDED = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for"
_NEXT = "proxy_next_upstream error timeout http_502 http_504"
SITES = {site.name: site for site in (
    Site("keep.test", "web", WEB),
    Site("service.test", "web", (vip("web"),), (*_KEPT, _FORWARDED)),
    Site("old.test", "web", WEB, ("proxy_set_header X-Real-IP $remote_addr",)),  # HTTP/1.0, a connection per request: nginx as it comes
    Site("retry.test", "web", (at("web-a", CLOSED_PORT), at("web-b"))),
    Site("error.test", "web", (at("web-a", FAILING_PORT), at("web-b")), (*_KEPT, _NEXT)),
    Site("deep.test", "web", WEB, (*_KEPT, 'proxy_set_header Forwarded "for=$remote_addr;proto=http"'), "/api(/|$)(.*)", "/$2"),
    Site("wrong.test", "web", (at("lone"),)),
    Site("chain.test", "self", (at("lone"),)),
    Site("slow.test", "app", (at("app"),), (*_KEPT, "proxy_ignore_client_abort on")),
    Site("behind.test", "web", WEB, (*_KEPT, "proxy_set_header X-Forwarded-For $proxy_protocol_addr")),
    Site("secret.test", "web", WEB),
    Site("named.test", "web", WEB),
    Site("real.test", "web", WEB, (*_KEPT, "proxy_set_header X-Real-IP $remote_addr")),
    Site("alike.test", "web", WEB),
    Site("alone.test", "app", (at("app"),)),
    Site("app.test", "app", (at("app"),)),
)}  # fmt: skip

_MAIN = """daemon off; worker_processes {workers}; pid {folder}/{pod}.pid; error_log {folder}/{pod}.error.log; user root;
events {{ worker_connections 512; }}
http {{
  log_format truth escape=json '{{"peer":"$remote_addr:$remote_port","ended":$msec,"on":$connection,"number":$connection_requests,'
    '"token":"$http_x_token","path":"$request_uri","status":"$status","seconds":$request_time,'
    '"upstream":"$upstream_addr","answers":"$upstream_status"}}';
  access_log {folder}/{pod}.log truth; keepalive_requests 100000; types {{ application/json json; }}
  client_body_temp_path {folder}/{pod}.body; proxy_temp_path {folder}/{pod}.proxy; fastcgi_temp_path {folder}/{pod}.fastcgi;
  uwsgi_temp_path {folder}/{pod}.uwsgi; scgi_temp_path {folder}/{pod}.scgi;
  {servers}
}}
"""
_EDGE = """ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
  server {{ listen 8080 default_server reuseport; listen 8443 ssl default_server reuseport;
    listen 8081 proxy_protocol default_server reuseport; return 404; }}
"""
_WEB = """server {{ listen 8080; root {folder}/files; location /missing {{ return 404; }} }}
  server {{ listen 8082; location / {{ return 502; }} location /late {{ return 504; }} }}
"""
_MIDDLE = """upstream web {{ server {web}; keepalive 32; }}
  server {{ listen 8080; location / {{ proxy_pass http://web; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header Host $host; }} }}
"""


def configuration(pod: str, folder: Path) -> str:
    """nginx.conf of a pod."""
    servers = {"edge": _EDGE, "lone": _MIDDLE}.get(pod, _WEB).format(folder=folder, web=vip("web"))
    if pod == "edge":
        servers += "\n".join(site.server() for site in SITES.values())
    return _MAIN.format(folder=folder, pod=pod, workers=2 if pod == "edge" else 1, servers=servers)


def objects() -> dict[str, Any]:
    """The cluster with its Ingresses, and `edge` as their controller."""
    found = cluster_objects()
    edge = next(item for item in found["items"] if (item["kind"], item["metadata"]["name"]) == ("Pod", "edge"))
    edge["metadata"]["labels"] = {"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}
    found["items"] += [ingress_class("nginx", "k8s.io/ingress-nginx"), *(site.object() for site in SITES.values())]
    return found
