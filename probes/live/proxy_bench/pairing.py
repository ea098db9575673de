"""The same packet before and after the node: by what no NAT changes, a TCP sequence number and an IP identification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.schema import Array

SYN, ACK = 2, 16
_OUTGOING = 4  # PACKET_OUTGOING
_IPV4, _TCP, _NO_OPTIONS = 0x0800, 6, 0x45


@dataclass(frozen=True, slots=True)
class Pairs:
    """Packets of the client that were seen on both sides, in the order of their arrival; all arrays have one length.

    `time_ns` (i8, kernel's monotonic clock) is when each came in, `spent_ns` (i8) how long after that it went out; `asked` (u4) and
    `asked_port` (u2) are its destination before, `given` (u4) and `given_port` (u2) after; `first` (bool) tells a connection's SYN from a
    packet with data.
    """

    time_ns: Array
    spent_ns: Array
    asked: Array
    asked_port: Array
    given: Array
    given_port: Array
    first: Array

    def __getitem__(self, chosen: Array | slice) -> Pairs:
        return Pairs(*(getattr(self, name)[chosen] for name in self.__slots__))


def pairs(records: Array, client_ifindex: int, server_ifindex: int) -> Pairs:
    """The SYNs and data packets in `records` (RECORD) that came in at one interface and went out at the other, once each.

    A key is a sequence number and an IP identification; what has the same as another packet is left out, being either of two. A SYN that is
    sent again has another identification: only the first counts.
    """
    tcp = (records["ethertype"] == _IPV4) & (records["proto"] == _TCP) & (records["version_length"] == _NO_OPTIONS)
    flags = records["flags"] & (SYN | ACK)
    payload = records["total_bytes"].astype("i4") - 20 - ((records["offset"] >> 4).astype("i4") << 2)
    wanted = tcp & ((flags == SYN) | ((flags == ACK) & (payload > 0)))
    outgoing = records["kind"] == _OUTGOING
    came = records[wanted & ~outgoing & (records["ifindex"] == client_ifindex)]
    went = records[wanted & outgoing & (records["ifindex"] == server_ifindex)]
    (came_at, came_keys), (went_at, went_keys) = _once(came), _once(went)
    _, ours, theirs = np.intersect1d(came_keys, went_keys, assume_unique=True, return_indices=True)
    before, after = came[came_at[ours]], went[went_at[theirs]]
    order = np.argsort(before["time_ns"], kind="stable")
    before, after = before[order], after[order]
    syn = np.flatnonzero(before["flags"] & SYN)
    again = np.setdiff1d(syn, syn[np.unique(before["seq"][syn], return_index=True)[1]])
    before, after = np.delete(before, again), np.delete(after, again)
    return Pairs(
        before["time_ns"].astype("i8"), after["time_ns"].astype("i8") - before["time_ns"].astype("i8"),
        before["dst"].astype("u4"), before["dport"].astype("u2"), after["dst"].astype("u4"), after["dport"].astype("u2"),
        (before["flags"] & SYN) != 0,
    )  # fmt: skip


def _once(rows: Array) -> tuple[Array, Array]:
    """Where the rows are whose key no other has, and those keys (u8), ascending."""
    keys = rows["seq"].astype("u8") << np.uint64(16) | rows["ip_id"]
    found, at, counts = np.unique(keys, return_index=True, return_counts=True)
    return at[counts == 1], found[counts == 1]
