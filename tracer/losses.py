"""Retransmissions, and which observation point first missed the packet that had to be sent again.

A point that did not capture a packet is not thereby where it was lost: only a point that saw the same bytes sent again, and not the first
time, is named.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from probes.decode.numbers import SYN, TCP
from probes.jit import kernel
from probes.schema import Array, Table
from tracer.connections import Joined
from tracer.orders import by_number
from tracer.schema import LOSSES

_MODULUS = 1 << 32
COPY_NS = 20_000  # the same packet twice at one point within this time was captured twice; nobody learns of a loss so fast


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
    leg: Array,
    ahead: Array,
    times: Array,
    seq: Array,
    length: Array,
    one_byte: Array,
    tsval: Array,
    ip_id: Array,
    ttl: Array,
    before: Array,
) -> None:
    """For sightings sorted by leg and time: `before[i]` is the last sighting before i that carried its bytes, -1 where i brings new ones.

    A SYN counts as one byte of `length`; `one_byte` says which have a single byte of payload, as keepalives do. A packet that a node routes
    out of the interface by which it came in is there twice, however long that takes: with a lower TTL the second time.
    """
    newest = np.full(2, -1)
    for row in range(len(leg)):
        if row == 0 or leg[row] != leg[row - 1]:
            newest[:] = -1
        before[row] = -1
        if length[row] == 0:
            continue
        side = 1 if ahead[row] else 0
        top = newest[side]
        if top < 0:
            newest[side] = row
            continue
        beyond = (seq[row] + length[row] - seq[top] - length[top]) % _MODULUS
        if 0 < beyond < _MODULUS // 2:
            newest[side] = row
            continue
        keepalive = one_byte[row] and (seq[row] + 1 - seq[top] - length[top]) % _MODULUS == 0
        if keepalive:
            continue
        back = row - 1
        while back >= 0 and leg[back] == leg[row] and row - back < 4096:
            if ahead[back] == ahead[row] and length[back] > 0 and (seq[row] - seq[back]) % _MODULUS < length[back]:
                alike = tsval[back] == tsval[row] and ip_id[back] == ip_id[row]
                copy = times[row] - times[back] < COPY_NS or ttl[row] < ttl[back]
                before[row] = -1 if alike and copy else back
                break
            back -= 1


def losses(joined: Joined, observations: Table, leg: Array, hop_table: Table) -> tuple[Table, Array]:
    """`(LOSSES table, retransmissions of each connection as int32)`. `leg` has the leg of each sighting."""
    sightings = joined.sightings
    rows = sightings["row"]
    tcp = np.flatnonzero(observations["proto"][rows] == TCP)
    order = by_number(leg, int(leg.max()) + 1, tcp)  # of a leg, which is on one node, sightings are in order of time already
    seen = rows[order]
    payload = observations["payload_bytes"][seen].astype("i8")
    syn = observations["tcp_flags"][seen] & SYN > 0
    length = payload + syn
    seq, tsval, ip_id = observations["seq"][seen].astype("i8"), observations["tsval"][seen], observations["ip_id"][seen]
    before = np.full(len(order), -1, "i8")
    times = sightings["time_ns"][order]
    one_byte, ttl = (payload == 1) & ~syn, observations["ttl"][seen]
    _sent_again(leg[order], joined.forward[order], times, seq, length, one_byte, tsval, ip_id, ttl, before)
    again = np.flatnonzero(before >= 0)
    count = len(joined.bounds) - 1
    if not len(again):
        return LOSSES.empty(), np.zeros(count, "i4")
    paths = _paths(hop_table)
    connection, point, ahead = joined.connection[order], sightings["point"][order], joined.forward[order]
    per_connection: dict[int, list[int]] = {}
    for index in np.flatnonzero(np.isin(connection, connection[again])).tolist():
        per_connection.setdefault(int(connection[index]), []).append(index)
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
