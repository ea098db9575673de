"""Retransmissions, and which observation point first missed the packet that had to be sent again.

A point that did not capture a packet is not thereby where it was lost: only a point that saw the same bytes sent again, and not the first
time, is named.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from probes.decode.numbers import SYN, TCP
from probes.jit import inlined, kernel, wide
from probes.schema import Array, Table
from tracer.connections import Joined
from tracer.orders import by_number
from tracer.schema import LOSSES

_MODULUS = 1 << 32
COPY_NS = 20_000  # the same packet twice at one point within this time was captured twice; nobody learns of a loss so fast
SYN_COPY_NS = 100_000  # the same of a SYN, which is sent again after a second; a server may answer it, and then send its answer again
COPY_BY_ID_NS = 200_000_000  # the same of what has the same IP ID, too: it is another one in what is sent again


class _Sent(NamedTuple):
    """Columns of one run's TCP sightings: where each was seen, and what it carried."""

    point: Array
    leg: Array
    seq: Array
    length: Array
    tsval: Array
    ip_id: Array


@kernel
def _sent_again(  # noqa: PLR0913, PLR0917 - columns
    order: Array, leg: Array, forward: Array, times: Array, rows: Array, proto: Array, tcp_flags: Array, seq: Array, payload_bytes: Array,
    tsval: Array, ip_id: Array, ttl: Array, before: Array,
) -> None:  # fmt: skip
    """For sightings in `order`, by leg and time: `before[i]` is the last one before i that carried its bytes, -1 where i brings new ones.

    A SYN counts as one byte; a single byte of payload may be a keepalive. A packet that a node routes out of the interface by which it came
    in is there twice, however long that takes: with a lower TTL the second time. So is one in a capture that does not tell interfaces
    apart: what is sent again has another IP ID, if it has one.
    """
    newest, top_end = np.full(2, -1), np.zeros(2, np.int64)
    for place in range(len(order)):
        at = order[place]
        row = rows[at]
        if place == 0 or leg[at] != leg[order[place - 1]]:
            newest[:] = -1
        before[place] = -1
        length = _length(row, payload_bytes, tcp_flags) if proto[row] == TCP else 0
        if length == 0:
            continue
        side, start = 1 if forward[at] else 0, wide(seq[row])
        beyond = (start + length - top_end[side]) % _MODULUS
        if newest[side] < 0 or 0 < beyond < _MODULUS // 2:
            newest[side], top_end[side] = place, start + length
            continue
        if payload_bytes[row] == 1 and not tcp_flags[row] & SYN and (start + 1 - top_end[side]) % _MODULUS == 0:
            continue
        back = place - 1
        while back >= 0 and leg[order[back]] == leg[at] and place - back < 4096:
            other = order[back]
            earlier = rows[other]
            carried = _length(earlier, payload_bytes, tcp_flags)
            if forward[other] == forward[at] and (start - wide(seq[earlier])) % _MODULUS < carried:
                alike = tsval[earlier] == tsval[row] and ip_id[earlier] == ip_id[row]
                within = COPY_BY_ID_NS if ip_id[row] else SYN_COPY_NS if tcp_flags[row] & SYN else COPY_NS
                copy = times[at] - times[other] < within or ttl[row] < ttl[earlier]
                before[place] = -1 if alike and copy else back
                break
            back -= 1


@inlined
def _length(row: int, payload_bytes: Array, tcp_flags: Array) -> int:
    return wide(payload_bytes[row]) + (1 if tcp_flags[row] & SYN else 0)


def losses(joined: Joined, observations: Table, leg: Array, hop_table: Table) -> tuple[Table, Array]:
    """`(LOSSES table, retransmissions of each connection as int32)`. `leg` has the leg of each sighting."""
    sightings, rows = joined.sightings, joined.sightings["row"]
    order = by_number(leg, int(leg.max()) + 1)  # of a leg, which is on one node, sightings are in order of time already
    before = np.empty(len(order), "i8")
    _sent_again(
        order, leg, joined.forward, sightings["time_ns"], rows, observations["proto"], observations["tcp_flags"], observations["seq"],
        observations["payload_bytes"], observations["tsval"], observations["ip_id"], observations["ttl"], before,
    )  # fmt: skip
    concerned = np.zeros(len(joined.bounds) - 1, bool)
    concerned[joined.connection[order[before >= 0]]] = True
    kept = concerned[joined.connection[order]]  # nothing of the others is looked at any more
    order, before = order[kept], np.append(np.cumsum(kept) - 1, -1)[before[kept]]
    seen = rows[order]
    length = observations["payload_bytes"][seen].astype("i8") + (observations["tcp_flags"][seen] & SYN > 0)
    seq, tsval, ip_id = observations["seq"][seen].astype("i8"), observations["tsval"][seen], observations["ip_id"][seen]
    again = np.flatnonzero(before >= 0)
    count = len(joined.bounds) - 1
    if not len(again):
        return LOSSES.empty(), np.zeros(count, "i4")
    paths = _paths(hop_table)
    connection, point, ahead = joined.connection[order], sightings["point"][order], joined.forward[order]
    per_connection: dict[int, list[int]] = {}
    for index, which in enumerate(connection.tolist()):
        per_connection.setdefault(which, []).append(index)
    sent = _Sent(point, leg[order], seq, length, tsval, ip_id)
    leg_of = leg[order]  # a point that sees a packet before and after NAT has two legs of it, and would count it twice
    repeats: dict[tuple[int, bool], dict[int, list[int]]] = {}
    for index in again.tolist():
        repeats.setdefault((int(connection[index]), bool(ahead[index])), {}).setdefault(int(leg_of[index]), []).append(index)
    found: list[tuple[int, ...]] = []
    total = np.zeros(count, "i4")
    for which, direction in sorted(repeats):
        path = paths.get((which, not direction), [])
        place = {place: number for number, place in enumerate(path)}
        # the leg that saw most, of several the first on the path
        told = max(repeats[which, direction].values(), key=lambda rows: (len(rows), -place.get(int(point[rows[0]]), len(path)), -rows[0]))
        total[which] += len(told)
        members = [index for index in per_connection[which] if bool(ahead[index]) == direction]
        for index in told:
            original = int(before[index])
            last, missed = _missing(path, members, sent, original, index)
            found.append((
                which, int(not direction), int(sightings["time_ns"][order[original]]),
                int(sightings["time_ns"][order[index]] - sightings["time_ns"][order[original]]), int(seq[index]), last, missed,
            ))  # fmt: skip
    columns = zip(*found, strict=True)
    return {column.name: np.array(values, column.dtype) for column, values in zip(LOSSES.columns, columns, strict=True)}, total


def _paths(hop_table: Table) -> dict[tuple[int, bool], list[int]]:
    """Observation points in path order by (connection, reply)."""
    paths: dict[tuple[int, bool], list[int]] = {}
    for connection, reply, point in zip(
        hop_table["connection"].tolist(), hop_table["reply"].tolist(), hop_table["point"].tolist(), strict=True
    ):
        path = paths.setdefault((connection, bool(reply)), [])
        if point not in path:
            path.append(point)
    return paths


def _missing(path: list[int], members: list[int], sent: _Sent, original: int, again: int) -> tuple[int, int]:
    """`(last point that saw the original, first that saw only the repetition)`; -1 where there is none.

    Their timestamps tell the two apart; within one tick of that clock the IP IDs do, and where there are none (IPv6), their number.
    """
    start = int(sent.seq[again])
    covering = [index for index in members if (start - sent.seq[index]) % _MODULUS < sent.length[index]]
    if sent.tsval[original] != sent.tsval[again]:
        saw = {int(sent.point[index]) for index in covering if sent.tsval[index] == sent.tsval[original]}
    else:
        alike = [index for index in covering if sent.tsval[index] == sent.tsval[original]]
        if sent.ip_id[original] != sent.ip_id[again]:
            saw = {int(sent.point[index]) for index in alike if sent.ip_id[index] == sent.ip_id[original]}
        else:
            times = Counter(int(sent.leg[index]) for index in alike)
            saw = {int(sent.point[index]) for index in alike if times[int(sent.leg[index])] >= times[int(sent.leg[original])]}
    saw_again = {int(sent.point[index]) for index in covering}
    last = -1
    for place in path:
        if place in saw:
            last = place
        elif place in saw_again:
            return last, place
    return last, -1
