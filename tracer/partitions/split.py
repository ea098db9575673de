"""What one partition needs of a bundle's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from probes.schema import Array, Table, take
from probes.sockets import LISTEN, Sockets
from tracer.ledger import ledger_tuples
from tracer.partitions.components import Deal
from tracer.partitions.links import Links, flow_hashes
from tracer.sockets import socket_tuples
from tracer.tuples import FIELDS


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
