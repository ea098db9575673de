"""Which flows may belong to one connection, told a chunk of packets at a time.

Whatever any rule of `tracer.joins` could join shares a key here: equal identities (of weak ones: on one node), or the sequence number of a
SYN. Times are not looked at, so what is linked is more than what will be joined, and never less.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from probes.decode.numbers import ACK, EMBEDDED, SYN, TCP
from probes.jit import kernel, unsigned
from probes.schema import Array, Table
from tracer.numbering import HashNumbers
from tracer.sightings import identify, linked_rows
from tracer.tuples import FIELDS, mix, stir

RECENT = 16  # a node's points show a packet one right after the other: each would give the same link
_SYNS = 0x51  # apart from identities


@kernel
def _hash_flows(  # noqa: PLR0913, PLR0917 - columns
    rows: Array, src_hi: Array, src_lo: Array, dst_hi: Array, dst_lo: Array, sport: Array, dport: Array, proto: Array, flow: Array
) -> None:  # fmt: skip
    for number in range(len(rows)):
        row = rows[number]
        if number:
            last = rows[number - 1]
            ends = (src_lo[row] ^ src_lo[last]) | (dst_lo[row] ^ dst_lo[last]) | (src_hi[row] ^ src_hi[last]) | (dst_hi[row] ^ dst_hi[last])
            ports = (sport[row] ^ sport[last]) | (dport[row] ^ dport[last]) | (proto[row] ^ proto[last])
            if ends == 0 and ports == 0:  # the next observation point saw it, too
                flow[number] = flow[number - 1]
                continue
        ahead, back = unsigned(0), unsigned(0)
        for one, other in (
            (src_hi[row], dst_hi[row]), (src_lo[row], dst_lo[row]), (dst_hi[row], src_hi[row]), (dst_lo[row], src_lo[row]),
            (unsigned(sport[row]), unsigned(dport[row])), (unsigned(dport[row]), unsigned(sport[row])),
        ):  # fmt: skip
            ahead, back = stir(ahead, one), stir(back, other)
        ahead, back = stir(ahead, unsigned(proto[row])), stir(back, unsigned(proto[row]))
        flow[number] = min(ahead, back)


def flow_hashes(table: Table, rows: Array | None = None) -> Array:
    """A hash (uint64) of the 5-tuple (columns `tracer.tuples.FIELDS`) of each of `rows` (int64; all) that is the same for its reverse."""
    rows = np.arange(len(table["proto"])) if rows is None else rows
    flow = np.empty(len(rows), "u8")
    _hash_flows(rows, *(*(table[name] for name in FIELDS), flow))
    return flow


@kernel
def _key_packets(rows: Array, point: Array, node_of_point: Array, strong: Array, identity: Array) -> None:
    """Make what is equal for all sightings of a packet that may be joined out of `identity`: of weak ones, only for those on one node."""
    for number in range(len(rows)):
        if identity[number] != 0 and not strong[number]:
            identity[number] = stir(stir(unsigned(0), identity[number]), node_of_point[point[rows[number]]])


@kernel
def _link(keys: Array, numbers: Array, kept_keys: Array, kept_numbers: Array) -> int:
    """Copy links that are not among the RECENT before them; those of key 0 say nothing. Returns how many were kept."""
    count, recent, turn = 0, np.zeros(RECENT, np.uint64), 0
    for row in range(len(keys)):
        if keys[row] == 0:
            continue
        both, known = stir(keys[row], unsigned(numbers[row])), False
        for each in range(RECENT):
            known |= recent[each] == both
        if known:
            continue
        recent[turn], turn = both, (turn + 1) % RECENT
        kept_keys[count], kept_numbers[count] = keys[row], numbers[row]
        count += 1
    return count


@dataclass(slots=True)
class Links:
    """Flows by number, and `(keys, linked)`: equal keys link the flows of these numbers."""

    numbers: HashNumbers = field(default_factory=HashNumbers)
    keys: list[Array] = field(default_factory=list)
    linked: list[Array] = field(default_factory=list)

    def add(self, observations: Table, node_of_point: Array) -> Array:
        """Take in a chunk of observations; `node_of_point` (uint64) names nodes the same in every part. Returns the flow of each row.

        That is its number (int64), -1 but for `linked_rows`.
        """
        number = np.full(len(observations["proto"]), -1)
        rows = linked_rows(observations)
        number[rows] = self.numbers.of(flow_hashes(observations, rows))
        rows = rows[observations["view"][rows] != EMBEDDED]
        identity, strong, _, _ = identify(observations, rows)
        _key_packets(rows, observations["point"], node_of_point, strong, identity)
        self.tie(identity, number[rows])
        flags = observations["tcp_flags"][rows]
        syn = rows[(observations["proto"][rows] == TCP) & (flags & SYN > 0)]
        seq, way = observations["seq"][syn].astype("u8"), (observations["tcp_flags"][syn] & ACK).astype("u8")
        self.tie(mix(seq, way + np.uint64(_SYNS)), number[syn])
        return number

    def tie(self, keys: Array, numbers: Array) -> None:
        """Link flows that have equal `keys` (uint64, 0 for none)."""
        kept_keys, kept_numbers = np.empty(len(keys), "u8"), np.empty(len(keys), "u4")
        count = _link(keys, numbers, kept_keys, kept_numbers)
        self.keys.append(kept_keys[:count].copy())
        self.linked.append(kept_numbers[:count].copy())

    def join(self, *sides: Table) -> None:
        """Link the tuples in row i of all `sides` (columns FIELDS), whatever packets say."""
        if not len(sides[0]["proto"]):
            return
        numbers = [self.numbers.of(flow_hashes(side)) for side in sides]
        for other in numbers[1:]:
            self.keys += [mix(numbers[0].astype("u8"), np.full(len(other), _SYNS + 1, "u8"))] * 2
            self.linked += [numbers[0].astype("u4"), other.astype("u4")]
