"""Requests of which it is known what they were made for, as the FACTS that parents are told by."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probes.dissect import Exchange
from tracer.requests.parents import Facts, Parents, parents

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000
START_NS = 1_795_411_500 * SECOND
AT_DOOR = ("start_ns", "sent_ns", "answer_ns", "end_ns", "arrival_ns", "received_ns", "reply_ns", "done_ns")
NETWORK = 50 * US


@dataclass(eq=False)
class Call:
    """One request: who made it, who served it, when (ns after START_NS, at the client's door), and for which other one."""

    kind: str
    caller: str  # a pod ("app-1"), or an address; "" where it is not known
    server: str
    start: int
    end: int = -1  # -1: never answered
    parent: Call | None = None
    operation: str | None = "GET /"
    status: str | None = "200"
    opened: int | None = None  # when its connection was, where it is the first on it
    connection: object = None
    target: str = "10.96.0.1"
    peer: str = "10.244.0.1"
    attributes: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    unread: bool = False

    def exchange(self) -> Exchange | None:
        if self.unread:
            return None
        answered = self.end >= 0
        return Exchange(
            self.kind, 0, self.operation, self.status if answered else None, 0, 10, 0 if answered else -1, 10 if answered else -1,
            self.attributes, self.answers,
        )  # fmt: skip


def workload(name: str) -> tuple[str, ...]:
    """Pods `app-1` and `app-2` are of one Deployment; an address is alone."""
    return ("demo", "Deployment", name.rpartition("-")[0]) if "-" in name else ("address", name)


def facts_of(calls: Sequence[Call]) -> Facts:
    """The Facts of `calls`, row by row."""
    names = list(dict.fromkeys(name for call in calls for name in (call.caller, call.server) if name))
    connections: dict[object, int] = {}

    def column(values: Iterable[int]) -> np.ndarray[Any, Any]:
        return np.array(list(values), "i8")

    def at(when: int) -> int:
        return START_NS + when if when >= 0 else -1

    arrival = column(at(call.start + NETWORK) for call in calls)
    answered = np.array([call.end >= 0 for call in calls], bool)
    reply = np.where(answered, column(at(call.end - NETWORK) for call in calls), -1)
    start = column(at(call.start) for call in calls)
    end = column(at(call.end) for call in calls)
    closed = column(at(max(call.start, call.end) + SECOND) for call in calls)
    return Facts(
        [call.exchange() for call in calls], ["connection" if call.unread else call.kind for call in calls],
        column(names.index(call.caller) if call.caller else -1 for call in calls),
        column(names.index(call.server) if call.server else -1 for call in calls),
        [workload(name) for name in names],
        column(connections.setdefault(call if call.connection is None else call.connection, len(connections)) for call in calls),
        [call.peer for call in calls], [call.target for call in calls],
        arrival, arrival, reply, np.where(answered, reply, closed),
        column(at(call.start if call.opened is None else call.opened) for call in calls),
        start, end, end, np.zeros(len(calls), "i8"), {name: np.ones(len(calls), bool) for name in AT_DOOR},
    )  # fmt: skip


@dataclass
class Told:
    """What `parents` says of calls, by the calls themselves."""

    found: Parents
    calls: list[Call]

    def likeliest(self, call: Call) -> tuple[Call | None, float]:
        candidates = self.found.candidates.get(self.calls.index(call), [])
        return (self.calls[candidates[0][0]], candidates[0][1]) if candidates else (None, 0.0)

    def given(self, call: Call, least: float = 0.9) -> Call | None:
        parent, likely = self.likeliest(call)
        return parent if likely >= least else None

    def evidence(self, call: Call) -> list[str]:
        return self.found.evidence.get(self.calls.index(call), [])

    def score(self, calls: Iterable[Call]) -> tuple[int, int, int]:
        """How many of `calls` are given their parent, none, and a wrong one."""
        given = [(self.given(call), call.parent) for call in calls]
        return (
            sum(1 for mine, true in given if mine is not None and mine is true), sum(1 for mine, _ in given if mine is None),
            sum(1 for mine, true in given if mine is not None and mine is not true),
        )  # fmt: skip


def told(calls: Sequence[Call]) -> Told:
    ordered = sorted(calls, key=lambda call: call.start)
    return Told(parents(facts_of(ordered)), ordered)


def proxied(seed: int, *, workers: int, count: int, rate: float = 400.0, paths: int = 1) -> tuple[list[Call], list[Call]]:
    """`(requests, calls)` of an event-driven proxy: every worker takes the events of its sockets in order, each 20 µs of work.

    Clients keep connections to a worker, workers keep connections to the backend. With one path for all, only times tell.
    """
    chance = random.Random(seed)
    requests, calls = [], []
    free = [0] * workers
    idle: list[list[tuple[int, int]]] = [[] for _ in range(workers)]
    clients = [(f"172.30.0.{number}", number % workers) for number in range(8 * workers)]
    busy = dict.fromkeys(range(len(clients)), 0)
    events: list[tuple[int, int, str, Any]] = []
    at = 0
    for number in range(count):
        at += int(chance.expovariate(rate) * SECOND)
        events.append((at, number, "request", None))
    heapq.heapify(events)
    opened = 0
    while events:
        now, number, what, about = heapq.heappop(events)
        if what == "request":
            ready = [client for client, until in busy.items() if until <= now]
            if not ready:
                continue
            client = chance.choice(ready)
            busy[client] = 1 << 62
            address, worker = clients[client]
            path = f"/{number}" if paths > 1 else "/"
            request = Call("http", address, "proxy-1", now, operation=f"GET {path}", connection=("down", client), attributes={"path": path})
            requests.append(request)
            free[worker] = max(free[worker], now + NETWORK) + 20 * US
            sent, new = free[worker], None
            if idle[worker]:
                connection = idle[worker].pop()[1]
            else:
                connection, new, opened = opened, sent, opened + 1
                sent += 200 * US
            answered = sent + NETWORK + int(chance.uniform(1, 20) * MS) + NETWORK
            call = Call(
                "http", "proxy-1", "backend-1", sent, answered, request, f"GET {path}", "200", new, ("up", connection),
                attributes={"path": path},
            )  # fmt: skip
            calls.append(call)
            heapq.heappush(events, (answered, number, "response", (request, client, worker, connection)))
        else:
            request, client, worker, connection = about
            free[worker] = max(free[worker], now) + 20 * US
            request.end = free[worker] + NETWORK
            busy[client] = request.end + MS
            idle[worker].append((now, connection))
    return requests, calls


def application(seed: int, count: int, *, pods: int = 1, apart: int = 3 * MS) -> tuple[list[Call], list[Call], list[Call]]:
    """`(requests, lookups, queries)` of an application whose every request resolves a name, then asks a database on a new connection."""
    chance = random.Random(seed)
    requests, lookups, queries = [], [], []
    at = 0
    for number in range(count):
        at += int(chance.expovariate(1 / apart))
        pod = f"app-{1 + chance.randrange(pods)}"
        request = Call("http", "172.30.0.100", pod, at, operation="GET /items", attributes={"path": "/items"}, connection=("in", number))
        asked = at + NETWORK + int(chance.uniform(100, 400) * US)
        resolved = asked + int(chance.uniform(200, 2000) * US)
        lookup = Call(
            "dns", pod, "dns-1", asked, resolved, request, "A db.demo.svc.cluster.local", "NOERROR",
            attributes={"qname": "db.demo.svc.cluster.local"}, answers={"addresses": "10.96.0.3"},
        )  # fmt: skip
        opened = resolved + int(chance.uniform(50, 200) * US)
        sent = opened + 300 * US
        done = sent + int(chance.uniform(300, 3000) * US)
        query = Call(
            "mysql", pod, "db-1", sent, done, request, f"SELECT * FROM items LIMIT {number}", "ok", opened, ("db", number),
            target="10.96.0.3", answers={"values": f"row{number} all"},
        )  # fmt: skip
        request.end = done + int(chance.uniform(50, 500) * US)
        request.answers = {"words": f"<li>row{number} all"}
        requests.append(request)
        lookups.append(lookup)
        queries.append(query)
    return requests, lookups, queries
