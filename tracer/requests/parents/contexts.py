"""What each thread was busy with when it made a call, by the order in which it read and wrote its sockets (`probes.threads`).

A thread that reads a request is busy with it until it reads something else; what it reads in answer to a call brings it back to the request
that the call was made for. That is what a worker of an event loop does (nginx, Envoy, HAProxy, Node.js), and a thread per request. Where
runtimes move work between threads it is right less often: how often, the traffic itself tells (`linkage`).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping

import numpy as np

from probes.schema import Array, Table
from probes.sockets import CONNECT
from probes.threads import LOST, READ
from tracer.clocks import Clocks
from tracer.pipeline import Reconstruction
from tracer.requests.parents.facts import Facts

UNKNOWN = -1
OPENED = 9  # beside the ways of probes.threads: the thread opened this connection
_MOST_AT_ONCE = 64  # requests of one connection that are looked at
Event = tuple[int, int, int, int]  # aligned ns, thread, cookie, way


def contexts(traced: Reconstruction, uses: Mapping[str, Table], clocks: Clocks, facts: Facts) -> Array:
    """For each request the one (int64 row, -1 unknown) that the thread was busy with which made it."""
    found = np.full(len(facts.exchanges), UNKNOWN, "i8")
    for name in sorted(uses):
        if name in traced.nodes:
            node = traced.nodes.index(name)
            threads = ThreadContexts(_connections(traced, node), facts)
            for event in _events(traced, node, uses[name], clocks):
                threads.take(*event)
            for call, request in threads.owner.items():
                found[call] = request
    return found


def _connections(traced: Reconstruction, node: int) -> dict[int, tuple[int, bool]]:
    """{cookie: (connection, whether it is the client's socket)} of a node's sockets that have one connection alone."""
    found: dict[int, tuple[int, bool]] = {}
    several: set[int] = set()
    for rows, client in ((traced.client_socket, True), (traced.server_socket, False)):
        here = np.flatnonzero(rows >= 0)
        here = here[traced.sockets.node[rows[here]] == node]
        cookies = traced.sockets.table["cookie"][rows[here]].tolist()
        for connection, cookie in zip(here.tolist(), cookies, strict=True):
            if found.setdefault(cookie, (connection, client)) != (connection, client):
                several.add(cookie)
    return {cookie: place for cookie, place in found.items() if cookie not in several}


def _events(traced: Reconstruction, node: int, uses: Table, clocks: Clocks) -> Iterator[Event]:
    """Reads, writes and openings of a node in order of time, on the reference clock."""
    sockets = traced.sockets.table
    opened = np.flatnonzero((traced.sockets.node == node) & (sockets["event"] == CONNECT) & (sockets["thread"] > 0))
    time_ns = clocks.align(np.array(node), np.concatenate([uses["time_ns"], sockets["time_ns"][opened]]))
    columns = [np.concatenate([uses[name], sockets[name][opened]]) for name in ("thread", "cookie")]
    way = np.concatenate([uses["way"], np.full(len(opened), OPENED, "u1")])
    order = np.argsort(time_ns, kind="stable")
    return zip(*(column[order].tolist() for column in (time_ns, *columns, way)), strict=True)


class ThreadContexts:
    """The threads of a node, event by event. `owner` has the request of each call, UNKNOWN where that cannot be told."""

    def __init__(self, connections: Mapping[int, tuple[int, bool]], facts: Facts) -> None:
        self._connections = connections
        self.owner: dict[int, int] = {}
        self._busy: dict[int, int] = {}  # by thread
        self._opened: dict[int, int] = {}  # by connection: what the thread that opened it was busy with
        self._start, self._arrival, self._reply = facts.start.tolist(), facts.arrival.tolist(), facts.reply.tolist()
        self._by_start, self._by_arrival = (_by_connection(facts.connection, times) for times in (facts.start, facts.arrival))
        self._called: dict[int, int] = {}  # by connection: how many of its calls have an owner

    def take(self, time_ns: int, thread: int, cookie: int, way: int) -> None:
        """The next event."""
        if way == LOST:  # nobody knows what threads are busy with now
            self._busy.clear()
        if cookie not in self._connections:
            if way == READ:
                self._busy.pop(thread, None)
            return
        connection, client = self._connections[cookie]
        if way == READ:
            self._busy[thread] = self._answered(connection, time_ns) if client else self._under_way(connection, time_ns)
        elif client and way == OPENED:
            self._opened[connection] = self._context(thread, time_ns)
        elif client:
            self._calls(connection, self._context(thread, time_ns), time_ns)

    def _context(self, thread: int, time_ns: int) -> int:
        request = self._busy.get(thread, UNKNOWN)
        over = request != UNKNOWN and 0 <= self._reply[request] < time_ns
        return UNKNOWN if over else request

    def _under_way(self, connection: int, time_ns: int) -> int:
        """The one request of a connection that came and was not answered yet."""
        rows = self._by_arrival.get(connection, [])
        end = bisect.bisect_right(rows, time_ns, key=lambda row: self._arrival[row])
        open_ = [row for row in rows[max(end - _MOST_AT_ONCE, 0) : end] if not 0 <= self._reply[row] < time_ns]
        return open_[0] if len(open_) == 1 else UNKNOWN

    def _answered(self, connection: int, time_ns: int) -> int:
        """What the last call on a connection was made for."""
        rows = self._by_start.get(connection, [])
        end = bisect.bisect_right(rows, time_ns, key=lambda row: self._start[row])
        return self.owner.get(rows[end - 1], UNKNOWN) if end else UNKNOWN

    def _calls(self, connection: int, request: int, time_ns: int) -> None:
        """A thread that was busy with `request` wrote: the call that left by then, which has no owner yet, is for that."""
        rows = self._by_start.get(connection, [])
        end = bisect.bisect_right(rows, time_ns, key=lambda row: self._start[row])
        begin = self._called.get(connection, 0)
        self._called[connection] = max(begin, end)
        for row in rows[begin:end]:
            self.owner[row] = request if end - begin == 1 else UNKNOWN
        if begin == 0 and end == 1 and connection in self._opened:  # the first on a connection is for what it was opened for
            self.owner[rows[0]] = self._opened[connection]


def _by_connection(connection: Array, times: Array) -> dict[int, list[int]]:
    """Requests of each connection in order of `times`."""
    found: dict[int, list[int]] = {}
    for row in np.lexsort((times, connection)).tolist():
        found.setdefault(int(connection[row]), []).append(row)
    return found
