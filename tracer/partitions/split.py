"""What one partition needs of a bundle's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from probes.schema import OBSERVATIONS, Array, Table, take
from probes.sockets import LISTEN, Sockets
from tracer.ledger import ledger_tuples
from tracer.partitions.components import Deal
from tracer.partitions.links import Links, flow_hashes
from tracer.sockets import socket_tuples
from tracer.tuples import FIELDS


class Cut:
    """Observations cut into `count` partitions; `part` (int32) has that of each row, -1 for none by itself.

    With a packet goes what it was in (`outer`, which counts from `first` here, and within its partition in what comes out).
    """

    def __init__(self, observations: Table, part: Array, count: int, first: int = 0) -> None:
        self.columns = {name: column if _has_content(column) else None for name, column in observations.items()}  # None: nothing but zeros
        self._outer = np.where(observations["outer"] >= 0, observations["outer"] - first, -1)
        small = part.astype(np.min_scalar_type(-count - 1))  # is sorted by counting
        self._order = np.argsort(small, kind="stable")
        self._bounds = np.searchsorted(small[self._order], np.arange(count + 1))

    def table(self, number: int) -> Table:
        """The observations of one partition, in order."""
        rows, outer = self.rows(number)
        table = {column.name: np.zeros(len(rows), column.dtype) for column in OBSERVATIONS.columns}
        for name, column in self.columns.items():
            if column is not None:
                np.take(column, rows, out=table[name], mode="clip")  # "raise" would copy
        return table | {"outer": outer}

    def rows(self, number: int) -> tuple[Array, Array]:
        """The rows (int64) of one partition, in order, and the place of what each was in among them (int64, -1 for none)."""
        rows = self._order[self._bounds[number] : self._bounds[number + 1]]
        around = self._outer[rows]
        if not (around >= 0).any():
            return rows, around
        wanted = np.zeros(len(self._outer), bool)
        wanted[rows] = True
        while len(around := around[around >= 0]):
            wanted[around] = True
            around = self._outer[around]
        rows, place = np.flatnonzero(wanted), np.full(len(wanted) + 1, -1)  # the last one is that of -1
        place[rows] = np.arange(len(rows))
        return rows, place[self._outer[rows]]


def _has_content(column: Array) -> bool:
    """Whether anything in it is not 0; mostly its beginning tells."""
    return bool(np.count_nonzero(column[:4096]) or np.count_nonzero(column))


def with_rest(observations: Table, part: Array, dealt: Deal, first: int = 0) -> Array:
    """`part` as `Cut` takes it, with a partition for every row: packets of no connection go by their flow, and with what they carry."""
    alone = part < 0
    outer = observations["outer"]
    alone[outer[outer >= 0] - first] = False
    flows = flow_hashes({name: observations[name][alone] for name in FIELDS})
    whole = part.copy()
    whole[alone] = dealt.part_of(dealt.groups_of(flows)[0])
    return whole


def link_evidence(links: Links, ledgers: Mapping[str, Table], sockets: Mapping[str, Sockets]) -> None:
    """What nodes' ledgers and sockets say of several tuples at once stays together."""
    for ledger in ledgers.values():
        links.join(*ledger_tuples(ledger))
    for each in sockets.values():
        links.join(*socket_tuples(each.table))


def evidence_flows(ledgers: Mapping[str, Table], sockets: Mapping[str, Sockets]) -> Array:
    """The flows (uint64) by which `lines_dealt` and `split_sockets` tell whose lines are whose, in order."""
    sides = [*(ledger_tuples(each)[0] for each in ledgers.values()), *(socket_tuples(each.table)[0] for each in sockets.values())]
    return np.unique(np.concatenate([np.empty(0, "u8"), *map(flow_hashes, sides)]))


def lines_dealt(ledgers: Mapping[str, Table], dealt: Deal) -> dict[str, Array]:
    """The partition (int32) of each line of every node's ledger, by the flow it is about."""
    return {node: dealt.of(flow_hashes(ledger_tuples(ledger)[0])) for node, ledger in ledgers.items()}


def split_ledgers(ledgers: Mapping[str, Table], lines: Mapping[str, Array], part: int) -> dict[str, Table]:
    """The lines of partition `part`, as `lines_dealt` has them; every node is still there."""
    return {node: take(ledger, lines[node] == part) for node, ledger in ledgers.items()}


def split_sockets(sockets: Mapping[str, Sockets], dealt: Deal, part: int) -> dict[str, Sockets]:
    """The sockets of partition `part`'s flows, and all that listen."""
    found = {}
    for node, each in sockets.items():
        mine = dealt.of(flow_hashes(socket_tuples(each.table)[0])) == part
        found[node] = replace(each, table=take(each.table, mine | (each.table["event"] == LISTEN)))
    return found
