"""What one partition needs of a bundle's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from probes.schema import Array, Table, take
from probes.sockets import LISTEN, Sockets
from tracer.ledger import ledger_tuples
from tracer.partitions.components import Deal
from tracer.partitions.links import Links, flow_hashes
from tracer.sockets import socket_tuples


def split(observations: Table, part: Array, count: int, first: int = 0) -> Iterator[Table]:
    """The observations of each of `count` partitions, in order; `part` (int32) has that of each row, -1 for none by itself.

    With a packet go those that it was in (`outer`, which then counts within the partition's rows here, from `first` + 0 in `observations`).
    """
    outer = np.where(observations["outer"] >= 0, observations["outer"] - first, -1)
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(count + 1))
    for number in range(count):
        rows = order[bounds[number] : bounds[number + 1]]
        around = outer[rows]
        while len(around := around[around >= 0]):
            rows = np.union1d(rows, around)
            around = outer[around]
        table = take(observations, rows)
        inside = table["outer"] >= 0
        table["outer"][inside] = np.searchsorted(rows, outer[rows[inside]])
        yield table


def link_evidence(links: Links, ledgers: Mapping[str, Table], sockets: Mapping[str, Sockets]) -> None:
    """What nodes' ledgers and sockets say of several tuples at once stays together."""
    for ledger in ledgers.values():
        links.join(*ledger_tuples(ledger))
    for each in sockets.values():
        links.join(*socket_tuples(each.table))


def split_ledgers(ledgers: Mapping[str, Table], dealt: Deal, part: int) -> dict[str, Table]:
    """The lines about flows of partition `part`; every node is still there."""
    return {node: take(ledger, dealt.of(flow_hashes(ledger_tuples(ledger)[0])) == part) for node, ledger in ledgers.items()}


def split_sockets(sockets: Mapping[str, Sockets], dealt: Deal, part: int) -> dict[str, Sockets]:
    """The sockets of partition `part`'s flows, and all that listen."""
    found = {}
    for node, each in sockets.items():
        mine = dealt.of(flow_hashes(socket_tuples(each.table)[0])) == part
        found[node] = replace(each, table=take(each.table, mine | (each.table["event"] == LISTEN)))
    return found
