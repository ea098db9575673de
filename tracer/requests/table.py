"""Requests: one row per exchange, or per connection where nothing in it could be read, with the times at both ends' doors."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from probes.decode.numbers import UDP
from probes.dissect import Exchange
from probes.schema import Array, Table, size, take
from tracer.clocks import Clocks
from tracer.pipeline import Reconstruction
from tracer.requests.dissection import Dissection
from tracer.requests.passed import GOT, Passed
from tracer.requests.schema import REQUEST_HOPS, REQUESTS
from tracer.status import REFUSED


@dataclass(slots=True)
class Requests:
    """`table` is REQUESTS in the order of their start, `hops` is REQUEST_HOPS; `exchanges[table["exchange"][i]]` is request i's.

    `at_door` has, for each time of REQUESTS at a door, whether it was seen at that door itself (bool): where a capture dropped the packet
    there, the time is that of the next point that saw it.
    """

    table: Table
    hops: Table
    exchanges: list[Exchange]
    at_door: Table

    def exchange(self, request: int) -> Exchange | None:
        """What was read of a request; None where its connection stands for it."""
        place = int(self.table["exchange"][request])
        return None if place < 0 else self.exchanges[place]


def requests(traced: Reconstruction, found: Dissection, passed: Passed, clocks: Clocks) -> Requests:
    """The requests of all connections, whose bytes were seen when `passed` says."""
    exchanges, carried = found.in_order()
    whole = np.setdiff1d(np.arange(size(traced.connections), dtype="i4"), carried)
    hops, seen, at_door = _at_doors(traced, passed, clocks, len(exchanges))
    table = REQUESTS.concat(
        [_of_exchanges(traced, clocks, carried, exchanges, seen, passed.unanswered), _of_connections(traced, clocks, whole)]
    )
    order = np.lexsort((table["number"], table["connection"], table["start_ns"]))
    table = take(table, order)
    rank = np.empty(len(order), "i4")
    rank[order] = np.arange(len(order))
    hops["request"] = rank[hops["request"]]
    own = _hops_of_connections(traced, clocks, whole, rank[len(carried) :])
    both = REQUEST_HOPS.concat([hops, own])
    both = take(both, np.argsort(both["request"], kind="stable"))
    sure = {name: np.concatenate([column, np.zeros(len(whole), bool)])[order] for name, column in at_door.items()}
    return Requests(REQUESTS.check(table), REQUEST_HOPS.check(both), exchanges, sure)


def _at_doors(traced: Reconstruction, passed: Passed, clocks: Clocks, count: int) -> tuple[Table, Table, Table]:
    """The REQUEST_HOPS of `count` exchanges, the times (aligned int64 ns, -1 not seen) at their doors by column of REQUESTS, `at_door`."""
    begins = traced.hops["position"] == 0
    ends = np.append(begins[1:], True) if len(begins) else begins
    doors: Table = {}
    at_door: Table = {}
    hops = REQUEST_HOPS.empty()
    for last, columns in (
        (0, ("start_ns", "arrival_ns", "reply_ns", "answer_ns")),
        (1, ("sent_ns", "received_ns", "done_ns", "end_ns")),
    ):
        seen = take(passed.requests, np.flatnonzero(passed.requests["last"] == last))
        other = take(passed.elsewhere, np.flatnonzero(passed.elsewhere["last"] == last))
        path = take(traced.hops, seen["hop"])
        aligned = clocks.align(path["node"], seen["time_ns"])
        if not last:
            hops = {
                "request": seen["exchange"], "reply": path["reply"], "row": seen["row"], "node": path["node"], "point": path["point"],
                "tuple": path["tuple"], "time_ns": seen["time_ns"], "aligned_ns": aligned,
            }  # fmt: skip
        for way, (begin, end) in ((0, columns[:2]), (1, columns[2:])):
            mine = np.flatnonzero(path["reply"] == way)
            exchange, hop = seen["exchange"][mine], seen["hop"][mine]
            doors[begin], doors[end] = (np.full(count, -1, "i8") for _ in range(2))
            doors[begin][exchange[::-1]] = aligned[mine][::-1]  # of several the first in path order stays,
            doors[end][exchange] = aligned[mine]  # and here the last
            mine = np.flatnonzero(other["reply"] == way)  # for want of a time at a hop, whoever's
            doors[(begin, end)[way]][other["exchange"][mine]] = clocks.align(other["node"][mine], other["time_ns"][mine])
            for name, there in ((begin, begins), (end, ends)):
                at_door[name] = np.zeros(count, bool)
                at_door[name][exchange[there[hop]]] = True
    return take(hops, _in_time(hops)), doors, at_door


def _in_time(hops: Table) -> Array:
    """Rows of `hops` (in path order), those of one stay on a node by its clock: either of two ports of a bridge may see a packet first."""
    path = hops["request"].astype("i8") * 2 + hops["reply"]
    stay = np.cumsum((np.diff(path, prepend=-1) != 0) | (np.diff(hops["node"], prepend=-1) != 0))
    return np.lexsort((hops["time_ns"], stay))


def _of_exchanges(
    traced: Reconstruction, clocks: Clocks, carried: Array, exchanges: list[Exchange], seen: Table, unanswered: Array
) -> Table:
    first = np.diff(carried, prepend=-1) != 0
    number = np.arange(len(carried)) - np.maximum.accumulate(np.where(first, np.arange(len(carried)), 0))
    client, server = _doors(traced)
    start = functools.reduce(
        lambda known, name: np.where(known >= 0, known, seen[name]), ("sent_ns", "answer_ns", "end_ns"), seen["start_ns"]
    )
    opened = clocks.align(traced.connections["first_node"][carried], traced.connections["start_ns"][carried])
    start = np.where(start >= 0, start, opened)
    datagram = traced.connections["proto"][carried] == UDP
    end = np.max([start, seen["sent_ns"], seen["end_ns"], seen["answer_ns"]], axis=0)
    closed = clocks.align(traced.connections["first_node"][carried], traced.connections["end_ns"][carried])
    last = np.append(first[1:], True)
    waited = last & (seen["answer_ns"] < 0) & (seen["end_ns"] < 0) & ~datagram & (unanswered != GOT)
    end = np.where(waited, np.maximum(end, closed), end)  # for an answer, until then
    length = {
        side: np.array(
            [getattr(e, f"{side}_end") - getattr(e, f"{side}_start") if getattr(e, f"{side}_start") >= 0 else -1 for e in exchanges], "i8"
        )
        for side in ("request", "response")
    }
    return {
        "connection": carried, "number": number.astype("i4"), "exchange": np.arange(len(carried), dtype="i4"),
        "client_node": client[carried], "server_node": server[carried],
        "begin_ns": np.where(first & (opened < start), opened, start), "start_ns": start, "sent_ns": seen["sent_ns"],
        "answer_ns": seen["answer_ns"], "end_ns": end, "arrival_ns": seen["arrival_ns"], "received_ns": seen["received_ns"],
        "reply_ns": seen["reply_ns"], "done_ns": seen["done_ns"],
        "request_bytes": np.where(datagram, -1, length["request"]), "response_bytes": np.where(datagram, -1, length["response"]),
    }  # fmt: skip


def _doors(traced: Reconstruction) -> tuple[Array, Array]:
    """Nodes (int32 rows, -1 none) of the first and last hop of each connection's request path."""
    asked = np.flatnonzero(traced.hops["reply"] == 0)
    connection, node = traced.hops["connection"][asked], traced.hops["node"][asked]
    client, server = (np.full(size(traced.connections), -1, "i4") for _ in range(2))
    client[connection[::-1]] = node[::-1]
    server[connection] = node
    return client, server


def _of_connections(traced: Reconstruction, clocks: Clocks, whole: Array) -> Table:
    client, server = _doors(traced)
    columns = traced.connections
    start, end = (clocks.align(columns["first_node"][whole], columns[name][whole]) for name in ("start_ns", "end_ns"))
    refused = (columns["status"][whole] == REFUSED) & (columns["answer_ns"][whole] >= 0)  # by an ICMP error, perhaps: no packet of it
    end = np.where(refused, np.maximum(end, clocks.align(columns["first_node"][whole], columns["answer_ns"][whole])), end)
    unknown = np.full(len(whole), -1, "i8")
    return {
        "connection": whole, "number": np.zeros(len(whole), "i4"), "exchange": unknown.astype("i4"),
        "client_node": client[whole], "server_node": server[whole], "begin_ns": start, "start_ns": start, "sent_ns": unknown,
        "answer_ns": unknown, "end_ns": end, "arrival_ns": unknown, "received_ns": unknown, "reply_ns": unknown, "done_ns": unknown,
        "request_bytes": unknown, "response_bytes": unknown,
    }  # fmt: skip


def _hops_of_connections(traced: Reconstruction, clocks: Clocks, whole: Array, request: Array) -> Table:
    """Hops of requests that are whole connections: those of the connection's first packets."""
    owner = np.full(size(traced.connections), -1, "i4")
    owner[whole] = request
    hops = take(traced.hops, np.flatnonzero(owner[traced.hops["connection"]] >= 0))
    return {
        "request": owner[hops["connection"]], "reply": hops["reply"], "row": hops["row"], "node": hops["node"], "point": hops["point"],
        "tuple": hops["tuple"], "time_ns": hops["time_ns"], "aligned_ns": clocks.align(hops["node"], hops["time_ns"]),
    }  # fmt: skip
