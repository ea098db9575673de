"""The door to prometheus-client: `/metrics`, `/healthz` and `/readyz` of a long-running command, on one port."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
_QUIET_SECONDS = 10.0  # a client that sends nothing for so long is hung up on


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its values by label values, in the order of `labels`. A counter's name gets `_total` when it is served."""

    name: str
    meaning: str
    kind: Literal["counter", "gauge"]
    values: Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = ()


def probe_counters(counters: Mapping[str, Mapping[str, int]]) -> Family:
    """The counters of probes (`Probe.counters()` by the probe's name) as `hopline_probe_events_total{probe,what}`."""
    values: dict[tuple[str, ...], float] = {
        (probe, what): float(number) for probe, each in counters.items() for what, number in each.items()
    }
    return Family("hopline_probe_events", "Events of each probe: seen, written, dropped and why.", "counter", values, ("probe", "what"))


def address_of(listen: str) -> tuple[str, int]:
    """(address, port) of "ADDRESS:PORT", "[IPv6]:PORT" or ":PORT". ValueError where it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not (host[0] == "[" and host[-1] == "]")):
        raise ValueError(f"{listen}: no address to listen on (give ADDRESS:PORT, [IPv6]:PORT or :PORT)")
    return host.strip("[]"), int(port)


class Endpoint:
    """Answers GETs until it is closed. `families` and `unready` are called in the server's thread, for each request.

    `unready` gives the reason why this process should get no work yet, None where it should.
    """

    def __init__(self, listen: str, families: Callable[[], Iterable[Family]], unready: Callable[[], str | None] = lambda: None) -> None:
        """Listen. ValueError for a bad address, OSError where it cannot be had."""
        address = address_of(listen)
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(families))
        self._unready = unready
        six = ":" in address[0] or (not address[0] and socket.has_dualstack_ipv6())
        self._server = (_Server6 if six else _Server)(address, _handler(self))
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    @property
    def port(self) -> int:
        """The port listened on, which is the system's choice where 0 was asked for."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """(status, content type, body) of a GET."""
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return 200, content_type, encode(self._registry)
        if path == "/healthz":
            return 200, "text/plain", b"ok\n"
        if path == "/readyz":
            reason = self._unready()
            return (503, "text/plain", f"{reason}\n".encode()) if reason else (200, "text/plain", b"ok\n")
        return 404, "text/plain", b"/metrics, /healthz or /readyz\n"


class _Collected(Collector):
    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for family in self._families():
            metric = _KINDS[family.kind](family.name, family.meaning, labels=family.labels)
            for labels, value in family.values.items():
                metric.add_metric(labels, value)
            yield metric

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        return iter(())  # names are known once there are values; without this, registering would ask for them


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


class _Server6(_Server):
    """IPv6; where no address is given, IPv4 as well."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        if not self.server_address[0]:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _handler(endpoint: Endpoint) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _QUIET_SECONDS

        def do_GET(self) -> None:
            status, content_type, body = endpoint.answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds: no line for each."""

    return Handler
