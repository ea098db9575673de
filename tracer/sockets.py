"""Whose socket each end of a connection is, as programs on the node's cgroups told (`probes.sockets`; docs/sockets.md).

A socket is found by its tuple, on the node where both were seen and by that node's clock. Where an application asked for another address
than the one on the wire (a socket load balancer was there), or its first packet was translated before it left its namespace, the socket
tells of that translation, which no packet and perhaps no ledger shows.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from probes.decode.numbers import TCP
from probes.schema import Array, Table, size, take
from probes.sockets import ACCEPT, CONNECT, LISTEN, SOCKETS, SocketOwner, Sockets
from tracer import evidence
from tracer.chains import Translation
from tracer.tuples import FIELDS

# A socket is told of just before its first packet (connect) or with one of its packets; the capture's clock is the same to within EARLY_NS.
EARLY_NS, LATE_NS = 50_000_000, 3_000_000_000

Span = tuple[int, int]  # first and last time at which a node saw a tuple of a connection, on its clock


@dataclass(slots=True)
class SocketTable:
    """SOCKETS of all nodes but the listening ones; per row its `node`, and whether it is `sure` what was asked for: seen before rewrites.

    `own`, `asked` and `wire` are the codes of its tuples: the socket's, with the address that was asked for, as its first packet left the
    network namespace.
    """

    table: Table = field(default_factory=SOCKETS.empty)
    node: Array = field(default_factory=lambda: np.empty(0, "i4"))
    sure: Array = field(default_factory=lambda: np.empty(0, bool))
    owners: list[SocketOwner] = field(default_factory=list)
    listening: dict[tuple[int, int, int | str | None], set[int]] = field(default_factory=dict)  # owners by (node, port, netns or cgroup)
    own: Array = field(default_factory=lambda: np.empty(0, "i4"))
    asked: Array = field(default_factory=lambda: np.empty(0, "i4"))
    wire: Array = field(default_factory=lambda: np.empty(0, "i4"))


def gather(sockets: Mapping[str, Sockets], nodes: Sequence[str]) -> SocketTable:
    """The sockets of all nodes, without codes yet."""
    found = SocketTable()
    tables, places, sure = [], [], []
    for name in sorted(sockets):
        node, each = nodes.index(name), sockets[name]
        table = each.table | {"owner": each.table["owner"] + np.int32(len(found.owners))}
        found.owners += each.owners
        waits = np.flatnonzero(table["event"] == LISTEN)
        for netns, port, owner in zip(*(table[column][waits].tolist() for column in ("netns", "local_port", "owner")), strict=True):
            for place in (netns, found.owners[owner].cgroup):
                found.listening.setdefault((node, port, place), set()).add(owner)
        kept = take(table, (table["event"] != LISTEN) & (table["local_port"] > 0) & (table["remote_port"] > 0))
        tables.append(kept)
        places.append(np.full(size(kept), node, "i4"))
        sure.append(np.full(size(kept), each.first))
    if tables:
        found.table, found.node, found.sure = SOCKETS.concat(tables), np.concatenate(places), np.concatenate(sure)
    return found


def socket_tuples(table: Table) -> list[Table]:
    """The tuples of SOCKETS, with the columns of `tracer.tuples.FIELDS`: own, asked, on the wire."""
    own = _tuples(table, "local", "remote")
    asked = table["asked_port"] > 0
    wire = table["wire_local_port"] > 0
    return [own, _where(asked, _tuples(table, "local", "asked"), own), _where(wire, _tuples(table, "wire_local", "wire_remote"), own)]


def _tuples(table: Table, source: str, destination: str) -> Table:
    named = {
        "src_hi": f"{source}_hi", "src_lo": f"{source}_lo", "dst_hi": f"{destination}_hi", "dst_lo": f"{destination}_lo",
        "sport": f"{source}_port", "dport": f"{destination}_port", "proto": "proto",
    }  # fmt: skip
    return {name: table[named[name]] for name in FIELDS}


def _where(condition: Array, one: Table, other: Table) -> Table:
    return {name: np.where(condition, one[name], other[name]) for name in FIELDS}


class SocketLookup:
    """Sockets by the tuples seen on packets."""

    def __init__(self, sockets: SocketTable, reverse: Array) -> None:
        """`reverse` has for each tuple the code of its reverse."""
        self._time, self._event, self._netns, self._proto = (
            sockets.table[name].tolist() for name in ("time_ns", "event", "netns", "proto")
        )
        self.asked, self._wire, self._own = sockets.asked.tolist(), sockets.wire.tolist(), sockets.own.tolist()
        self._clients: dict[tuple[int, int], list[int]] = {}
        self._servers: dict[tuple[int, int], list[int]] = {}
        towards = reverse[sockets.own].tolist()
        for row in np.argsort(sockets.table["time_ns"], kind="stable").tolist():
            node = int(sockets.node[row])
            if self._event[row] != ACCEPT:
                self._clients.setdefault((node, self._wire[row]), []).append(row)
            if self._event[row] != CONNECT:
                self._servers.setdefault((node, towards[row]), []).append(row)

    def client(self, spans: Mapping[tuple[int, int], Span]) -> int:
        """The socket (row, -1 unknown) whose packets are the client's; `spans` go by (node, tuple in the client's direction)."""
        return self._first_found(self._clients, spans)

    def server(self, spans: Mapping[tuple[int, int], Span]) -> int:
        """The socket that they are for."""
        return self._first_found(self._servers, spans)

    def rewrite(self, row: int, spans: Mapping[tuple[int, int], Span]) -> Translation | None:
        """What the client's socket (`row`) tells of what became of its tuple before it was on the wire; None where it stayed as it was."""
        before, after = self.asked[row], self._wire[row]
        if before == after:
            return None
        node = next(place for place, code in spans if code == after and row in self._clients.get((place, code), ()))
        own = self._own[row]
        return Translation(node, before, after, evidence.CONNECT * (before != own) | evidence.SOCKET * (own != after))

    def _first_found(self, index: Mapping[tuple[int, int], list[int]], spans: Mapping[tuple[int, int], Span]) -> int:
        for place, (first, last) in spans.items():
            row = self._at(index.get(place, []), first, last)
            if row >= 0:
                return row
        return -1

    def _at(self, rows: list[int], first: int, last: int) -> int:
        """The one of `rows` (in order of time, all of one tuple) that was open from `first` to `last`; -1 where that cannot be told."""
        place = bisect.bisect_right(rows, first + EARLY_NS, key=lambda row: self._time[row])
        before, after = rows[max(place - 1, 0) : place], rows[place : place + 1]
        if before and self._proto[before[0]] == TCP:  # a stream has its own socket: opened just then, or not told of until it sent
            since = first - (LATE_NS if self._event[before[0]] == CONNECT else EARLY_NS)
            before = [row for row in before if self._time[row] >= since]
        found = before or [row for row in after if self._time[row] <= last + EARLY_NS and self._event[row] != CONNECT]
        if not found:
            return -1
        near = [row for row in rows[max(place - 3, 0) : place + 3] if abs(self._time[row] - self._time[found[0]]) <= LATE_NS]
        namespaces = {self._netns[row] for row in near} - {0}  # where the kernel did not tell
        return -1 if len(namespaces) > 1 else found[0]  # two may both have 127.0.0.1


def with_rewrite(known: list[Translation], rewrite: Translation) -> list[Translation]:
    """`known` and what a client's socket tells: it confirms what packets or ledgers have for that node and tuple, if it is the same."""
    same = [step for step in known if (step.node, step.after) == (rewrite.node, rewrite.after)]
    for step in same:
        step.evidence |= rewrite.evidence if step.before == rewrite.before else 0
    return known if same else [*known, rewrite]
