"""Clients of the shop, what they and the servers noted, and the records that hopline makes of it."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.requests import RequestRecorder
from tracer.bundle import read_bundle
from tracer.requests import RequestTrace, trace_requests
from tracer.trace import trace

from .lab import Lab
from .recording import bundle, recording
from .services import MACHINES, SERVICES
from .shop import objects, vip
from .shop_servers import App, Call
from .traffic import text

Record = dict[str, Any]
SERVING = ("edge", "lone", "web-a", "web-b", "app")  # whose logs tell what they served
ADDRESSES = [f"172.30.0.{number}" for number in range(200, 254)]  # more of the client machine's
BALANCED = "198.51.100."  # clients behind a balancer that speaks the PROXY protocol
_WAIT_SECONDS = 120  # of patience, with a machine that is busy


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its client saw it. `status` is None where the client gave up."""

    token: str
    host: str
    path: str
    local: str
    status: int | None
    spent_ns: int


@dataclass
class Visitor:
    """Somebody in `place` with one connection to the ingress, whose `door` is `edge`, `edge-tls` or `edge-behind`."""

    lab: Lab
    door: str = "edge"
    place: str = "client"
    source: str = ""
    secret: ssl.SSLContext | None = None
    host: str = ""
    seconds: float = _WAIT_SECONDS
    greeting: bytes = b""
    abrupt: bool = False  # leaves with a RST

    def __post_init__(self) -> None:
        service = next(each for each in SERVICES if each.name == self.door)
        target = (MACHINES["node-a"].addresses[0], service.node_port) if self.place == "client" else vip(self.door).split(":")
        self._socket = self.lab.socket(self.place, socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(self.seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.abrupt:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.source:
            self._socket.bind((self.source, 0))
        self._socket.connect((target[0], int(target[1])))
        self.local = text(self._socket.getsockname())
        if self.greeting:
            self._socket.sendall(self.greeting)
        if self.secret:
            self._socket = self.secret.wrap_socket(self._socket, server_hostname=self.host)
        self._connection = http.client.HTTPConnection("shop")
        self._connection.sock = self._socket

    def ask(self, token: str, host: str, path: str, headers: dict[str, str] | None = None) -> Asked:
        """GET `path` of `host`."""
        status, began = None, time.perf_counter_ns()
        try:
            self._connection.request("GET", path, headers={"Host": host, "X-Token": token, **(headers or {})})
            with self._connection.getresponse() as answer:
                answer.read()
                status = answer.status
        except TimeoutError:
            pass
        return Asked(token, host, path, self.local, status, time.perf_counter_ns() - began)

    def close(self) -> None:
        """Leave, and wait until the server has closed too, however busy it is: whoever comes next then comes alone."""
        if not self.abrupt:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
                while self._socket.recv(1 << 16):
                    pass
        self._connection.close()
        self._socket.close()


@dataclass
class Shop:
    """A running shop: `lab` and `app`, servers' logs and recordings in `folder`."""

    lab: Lab
    app: App
    folder: Path
    tokens: Iterator[str] = field(default_factory=lambda: (f"k{number:05}" for number in itertools.count(1)))
    visits: dict[str, Visit] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=lambda: ADDRESSES)

    def __post_init__(self) -> None:
        for address in self.addresses:
            self.lab.run("client", "ip", "addr", "add", f"{address}/24", "dev", "eth0")

    def visit(self, name: str, shopping: Callable[[Shop], Iterable[Asked]], taken: Sequence[str] = ("any",)) -> Visit:
        """What happened when `shopping` was done, with the first of the bundles `taken`; once for every name."""
        if name not in self.visits:
            before = {pod: len(self._log(pod)) for pod in SERVING}
            calls = len(self.app.calls)
            folder = self.folder / name
            folder.mkdir()
            with recording(self.lab, folder, tuple(taken)):
                asked = list(shopping(self))
            for each in taken:
                (bundle(folder, each) / "cluster.json").write_text(json.dumps(objects()))
            served = {pod: self._log(pod)[before[pod] :] for pod in SERVING}
            self.visits[name] = Visit(bundle(folder, taken[0]), asked, served, self.app.calls[calls:])
        return self.visits[name]

    def _log(self, pod: str) -> list[Record]:
        return list(self.app.served) if pod == "app" else list(map(json.loads, (self.folder / f"{pod}.log").read_text().splitlines()))

    @contextmanager
    def visitor(self, **how: Any) -> Iterator[Visitor]:
        with closing(Visitor(self.lab, **how)) as made:
            yield made

    def together(self, visitors: int, requests: int, ask: Callable[[Visitor, int], Asked], **how: Any) -> list[Asked]:
        """`requests` requests of so many visitors at a time, each with a connection (`source`: one address each)."""
        sources = how.pop("sources", [""] * visitors)

        def stay(number: int) -> list[Asked]:
            with self.visitor(source=sources[number], **how) as each:
                return [ask(each, index) for index in range(number, requests, visitors)]

        with ThreadPoolExecutor(visitors) as pool:
            return [each for asked in pool.map(stay, range(visitors)) for each in asked]


@dataclass
class Visit:
    """One recorded scenario: what clients asked, what each server logged (`served`), what the application called."""

    bundle: Path
    asked: list[Asked]
    served: dict[str, list[Record]]
    calls: list[Call]

    def by(self, name: str) -> Visit:
        """The same, from another bundle."""
        return replace(self, bundle=bundle(self.bundle.parent, name))

    @cached_property
    def found(self) -> RequestTrace:
        return self.traced()

    def traced(self, keys: Path | None = None) -> RequestTrace:
        return trace_requests(trace(read_bundle([self.bundle])), keys=keys)

    @cached_property
    def records(self) -> Records:
        return Records(self, RequestRecorder(self.found))

    def with_confidence(self, least: float) -> Records:
        return Records(self, RequestRecorder(self.found, least))


class Records:
    """The records of a visit, and which of them is what the logs tell of."""

    def __init__(self, visit: Visit, recorder: RequestRecorder) -> None:
        self.all: list[Record] = list(recorder)
        self.by_id = {record["id"]: record for record in self.all}
        self.order = {identifier: place for place, identifier in enumerate(self.by_id)}
        self.children: dict[str, list[Record]] = defaultdict(list)
        for record in self.all:
            if record["parent"]:
                self.children[record["parent"]].append(record)
        self.token: dict[str, str] = {}  # by record id
        self.logged: dict[str, Record] = {}  # by record id: the server's own line
        self.lost: list[tuple[str, Record]] = []  # lines that no record fits
        self._match_served(visit.served)
        self._match_calls(visit.calls)

    def on(self, pod: str) -> list[Record]:
        """Those that a pod served, in order of their start."""
        mine = (record for record in self.all if record["server"] and record["server"]["name"] == pod)
        return sorted(mine, key=lambda record: record["start_ns"])

    def _match_served(self, served: dict[str, list[Record]]) -> None:
        """A log's line is the record of the same place on the same connection.

        An address and port may come again, of a client or of a masquerade: nginx numbers its connections, the application notes in order.
        """
        for pod, lines in served.items():
            records: dict[str, list[Record]] = defaultdict(list)
            for record in self.on(pod):
                if record["protocol"] == "http" and record["translated"]:
                    records[record["translated"]["src"]].append(record)
            for line in sorted(lines, key=lambda line: (line["on"], line["number"]) if "on" in line else (0, 0)):
                if line["token"]:
                    mine = records[line["peer"]]
                    if mine:
                        self._know(mine.pop(0), line["token"], line)
                    else:
                        self.lost.append((pod, line))

    def _match_calls(self, calls: list[Call]) -> None:
        waiting = {(call.local, call.operation): [] for call in calls}
        for call in calls:
            waiting[call.local, call.operation].append(call.token)
        for record in sorted(self.all, key=lambda record: record["start_ns"]):
            if record["original"] and (mine := waiting.get((record["original"]["src"], record["operation"]))):
                self.token.setdefault(record["id"], mine.pop(0))

    def _know(self, record: Record, token: str, line: Record) -> None:
        self.token[record["id"]] = token
        self.logged[record["id"]] = line

    def of(self, token: str, pod: str) -> Record:
        """The record of what `pod` served for a token."""
        (found,) = (record for record in self.on(pod) if self.token.get(record["id"]) == token)
        return found

    def told(self, callers: Iterable[str] = ("edge", "lone", "app")) -> list[tuple[Record, Record | None, bool]]:
        """(call, its given parent, whether that is right) of every call whose token is known."""
        found = []
        for record in self.all:
            caller = (record["client"] or {}).get("name")
            if caller in callers and record["id"] in self.token:
                parent = self.by_id.get(record["parent"] or "")
                right = parent is not None and self.token.get(parent["id"]) == self.token[record["id"]]
                found.append((record, parent, right and parent is not None and parent["server"]["name"] == caller))
        return found


__all__ = ["BALANCED", "Asked", "Records", "Shop", "Visit", "Visitor"]
