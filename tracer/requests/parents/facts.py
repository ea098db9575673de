"""What is known of each request when its parent is looked for: whose it is, and when it came and went there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from probes.addresses import text
from probes.dissect import Exchange
from probes.schema import Array, Table
from tracer.clocks import Clocks
from tracer.cluster import Owner
from tracer.names import Named
from tracer.pipeline import Reconstruction
from tracer.requests.table import Requests

WHOLE = "connection"  # what a call whose content could not be read is called among the kinds of calls
SLACK_NS = 1_000_000  # between two nodes whose clocks nothing ties together


@dataclass(slots=True)
class Facts:
    """Columns by request (times int64 ns on the reference clock, -1 unknown).

    `caller` and `server` are numbers of whoever's the client's and the server's socket is, -1 where a node's own or not known; `kind` is
    the protocol. `arrival`, `received`, `reply`, `close` are at the server's door, `begin`, `start`, `answer`, `end` at the client's.
    """

    exchanges: list[Exchange | None]
    kind: list[str]
    caller: Array
    server: Array
    workload: list[tuple[str, ...]]  # of each number
    connection: Array
    peer: list[str | None]  # the client's address as the server sees it
    target: list[str | None]  # the address that the client asked for
    arrival: Array
    received: Array
    reply: Array
    close: Array
    begin: Array
    start: Array
    answer: Array
    end: Array
    slack: Array  # of comparing the two doors of different nodes
    at_door: Table  # by column of REQUESTS: whether the time was seen at the door itself
    context: Array | None = (
        None  # the request that the thread was busy with which made this call, -1 unknown; None: no threads were told of
    )

    def seen_at_door(self, column: str, times: Array) -> Array:
        """`times` of a column of REQUESTS where they were seen at the door itself, so that their order tells something; else -1."""
        return np.where(self.at_door[column], times, -1)


def facts(
    traced: Reconstruction, named: Sequence[Named], found: Requests, clocks: Clocks, workload: Callable[[Owner, int], tuple[str, ...]]
) -> Facts:
    """The Facts of all requests. `workload` says what a pod belongs to at a time, so that pods of one kind teach one another."""
    table = found.table
    connection = table["connection"]
    numbers: dict[tuple[str, ...], int] = {}
    workloads: list[tuple[str, ...]] = []

    def number(owner: Owner | None, address: str | None, when: int) -> int:
        if owner is not None and owner.kind == "node":
            return -1  # a node's sockets are of many processes
        pod = owner is not None and owner.kind == "pod"
        key = ("pod", owner.uid or f"{owner.namespace}/{owner.name}") if pod and owner else ("address", address or "")
        if not pod and not address:
            return -1
        if key not in numbers:
            numbers[key] = len(numbers)
            workloads.append(workload(owner, when) if pod and owner else key)
        return numbers[key]

    ends = [_ends(traced, each) for each in named]
    caller, server = np.full(len(named), -1, "i8"), np.full(len(named), -1, "i8")
    for row, (each, (source, _, target, _)) in enumerate(zip(named, ends, strict=True)):
        when = int(traced.connections["start_ns"][row])
        caller[row], server[row] = number(each.client, source, when), number(each.server, target, when)
    exchanges = [found.exchange(row) for row in range(len(connection))]
    arrival = np.where(table["arrival_ns"] >= 0, table["arrival_ns"], table["start_ns"])
    closed = clocks.align(traced.connections["first_node"], traced.connections["end_ns"])[connection]
    answered = table["answer_ns"] >= 0
    done = np.where(answered, table["end_ns"], np.maximum(closed, table["end_ns"]))
    done = np.where(table["reply_ns"] >= 0, np.maximum(table["done_ns"], table["reply_ns"]), done)
    apart = clocks.uncertainty(table["server_node"], table["client_node"], table["start_ns"])
    return Facts(
        exchanges, [each.protocol if each else WHOLE for each in exchanges], caller[connection], server[connection], workloads, connection,
        [ends[row][1] for row in connection.tolist()], [ends[row][3] for row in connection.tolist()],
        arrival, np.where(table["received_ns"] >= 0, table["received_ns"], arrival), table["reply_ns"], done, table["begin_ns"],
        table["start_ns"], table["answer_ns"], np.where(answered | (table["exchange"] < 0), table["end_ns"], -1),
        np.where(apart < 0, SLACK_NS, 0), found.at_door,
    )  # fmt: skip


def _ends(traced: Reconstruction, named: Named) -> tuple[str | None, str | None, str | None, str | None]:
    """Addresses: the client's as it knows itself, as the server sees it; the server's own, and what the client asked for."""
    tuples = traced.tuples

    def address(code: int, side: str) -> str | None:
        return text(int(tuples[f"{side}_hi"][code]), int(tuples[f"{side}_lo"][code])) if code >= 0 else None

    return address(named.source, "src"), address(named.translated, "src"), address(named.target, "dst"), address(named.original, "dst")
