"""Byte streams: what each connection's sides sent, where every sighting's bytes stand in it, and when each byte passed each point.

NAT leaves sequence numbers alone, so a place in a stream is the same at every observation point. Datagrams get a place too: the n-th
distinct one of its side has place n and is one "byte" long.
"""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import FIN, RST, SEQUENCE, SYN, TCP, UDP
from probes.jit import kernel
from probes.schema import Array, Column, Schema, Table, take
from tracer.tuples import mix

_GROUP = ("connection", "reply", "point", "tuple")
MOST_COVERING = 64  # segments of one place that are looked at: its repetitions

SEGMENTS = Schema(
    "segments",
    (
        Column("connection", "i4", "", "row of the connection"),
        Column("reply", "u1", "", "0 client to server, 1 server to client"),
        Column("point", "i4", "", "row of the observation point"),
        Column("node", "i4", "", "row of the node"),
        Column("tuple", "i4", "", "tuple as seen here"),
        Column("time_ns", "i8", "ns since the epoch", "on that node's clock"),
        Column("start", "i8", "bytes", "place of its first byte in the stream"),
        Column("end", "i8", "bytes", "place behind its last byte"),
        Column("captured", "i8", "bytes", "of its payload, in the file"),
        Column("fin", "u1", "", "1 where the stream ends behind it"),
        Column("row", "i8", "", "row of the observation"),
    ),
)


@kernel
def _places(connection: Array, node: Array, reply: Array, seq: Array, syn: Array, start: Array) -> None:
    """Fill `start`: bytes from the beginning of the side's stream, for sightings sorted by connection, node and time.

    Without a handshake, from the lowest sequence number seen. Sequence numbers wrap (RFC 9293, 3.4): each is taken as the nearest to the
    one before.
    """
    base, begun, lowest = np.full(2, -1), np.zeros(2, np.bool_), np.zeros(2, np.int64)
    last_seq, last_place = np.zeros(2, np.int64), np.zeros(2, np.int64)
    row = 0
    while row < len(connection):
        end = row
        base[:], begun[:], lowest[:] = -1, False, 0
        while end < len(connection) and connection[end] == connection[row]:
            if syn[end]:
                base[reply[end]], begun[reply[end]] = (seq[end] + 1) & 0xFFFF_FFFF, True
            end += 1
        for here in range(row, end):
            side = reply[here]
            if base[side] < 0:
                base[side] = seq[here]
            if here == row or node[here] != node[here - 1]:
                last_seq[0], last_seq[1] = base[0], base[1]
                last_place[:] = 0
            elif last_seq[side] < 0:
                last_seq[side] = base[side]
            number = (seq[here] + 1) & 0xFFFF_FFFF if syn[here] else seq[here]
            step = (number - last_seq[side]) & 0xFFFF_FFFF
            if step >= 0x8000_0000:
                step -= 0x1_0000_0000
            start[here] = last_place[side] + step
            last_seq[side], last_place[side] = number, start[here]
            if not begun[side]:
                lowest[side] = min(lowest[side], start[here])
        for here in range(row, end):
            start[here] -= lowest[reply[here]]
        row = end


def _datagram_places(connection: Array, reply: Array, identity: Array, times: Array) -> Array:
    """The ordinal of each datagram among the distinct ones of its side; one without identity counts by itself."""
    rows = np.arange(len(identity))
    known = np.where(identity == 0, rows.astype("u8") | np.uint64(1 << 63), identity)
    order = np.lexsort((times, known, reply, connection))
    c, r, k = connection[order], reply[order], known[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(c) != 0) | (r[1:] != r[:-1]) | (k[1:] != k[:-1])
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    ranked = first[np.lexsort((times[order][first], r[first], c[first]))]
    side_new = np.ones(len(ranked), bool)
    side_new[1:] = (np.diff(c[ranked]) != 0) | (r[ranked][1:] != r[ranked][:-1])
    starts = np.maximum.accumulate(np.where(side_new, np.arange(len(ranked)), 0))
    ordinal = np.empty(len(first), "i8")
    ordinal[group[ranked]] = np.arange(len(ranked)) - starts
    places = np.empty(len(order), "i8")
    places[order] = ordinal[group]
    return places


def segments(
    observations: Table, rows: Array, connection: Array, forward: Array, node: Array, point: Array, codes: Array, identity: Array
) -> Table:
    """The SEGMENTS of sightings (sorted by connection, node and time): every TCP segment with payload or FIN, every UDP datagram.

    Sorted by connection, side, point, tuple and time.
    """
    part = {
        name: observations[name][rows]
        for name in ("proto", "seq", "tcp_flags", "payload_bytes", "payload_at", "captured_bytes", "known", "time_ns")
    }
    reply, flags = (~forward).astype("u1"), part["tcp_flags"]
    length = part["payload_bytes"].astype("i8")
    stream = (part["proto"] == TCP) & (part["known"] & SEQUENCE > 0) & ((flags & RST == 0) | (length > 0))
    start, end = np.zeros(len(rows), "i8"), np.zeros(len(rows), "i8")
    at = np.flatnonzero(stream)
    syn = flags[at] & SYN > 0
    places = np.empty(len(at), "i8")
    _places(connection[at], node[at], reply[at].astype("i8"), part["seq"][at].astype("i8"), syn, places)
    start[at], end[at] = places, places + length[at]
    datagrams = np.flatnonzero(part["proto"] == UDP)
    start[datagrams] = _datagram_places(connection[datagrams], reply[datagrams], identity[datagrams], part["time_ns"][datagrams])
    end[datagrams] = start[datagrams] + 1
    fin = stream & (flags & FIN > 0)
    kept = np.flatnonzero(stream & ((length > 0) | fin))
    kept = np.concatenate([kept, datagrams])
    captured = np.where(part["payload_at"] > 0, part["captured_bytes"].astype("i8") - part["payload_at"], 0)
    table: Table = {
        "connection": connection[kept].astype("i4"), "reply": reply[kept], "point": point[kept].astype("i4"),
        "node": node[kept].astype("i4"), "tuple": codes[kept].astype("i4"), "time_ns": part["time_ns"][kept], "start": start[kept],
        "end": end[kept], "captured": np.clip(np.minimum(captured, length), 0, None)[kept], "fin": fin[kept].astype("u1"),
        "row": rows[kept],
    }  # fmt: skip
    order = np.lexsort((table["row"], table["time_ns"], table["tuple"], table["point"], table["reply"], table["connection"]))
    return SEGMENTS.check(take(table, order))


@kernel
def _look_up(wanted: Array, place: Array, group: Array, start: Array, end: Array, times: Array, found: Array) -> None:
    """For each (group, place): the earliest segment that covers the place, -1 where none does. Segments are sorted by group and start."""
    for index in range(len(wanted)):
        found[index] = -1
        low, high = 0, len(group)
        while low < high:
            middle = (low + high) // 2
            if group[middle] < wanted[index] or (group[middle] == wanted[index] and start[middle] <= place[index]):
                low = middle + 1
            else:
                high = middle
        here = low - 1
        for _ in range(MOST_COVERING):
            if here < 0 or group[here] != wanted[index]:
                break
            covers = start[here] <= place[index] < end[here]
            if covers and (found[index] < 0 or times[here] < times[found[index]]):
                found[index] = here
            here -= 1


class ByteTimes:
    """When each byte of a stream passed each observation point, under each tuple that it had there."""

    def __init__(self, segments_: Table) -> None:
        key = mix(*(segments_[name] for name in _GROUP))
        self._order = np.lexsort((segments_["time_ns"], segments_["start"], key))
        self._keys, self._group = np.unique(key[self._order], return_inverse=True)
        self._start, self._end, self._times = (segments_[name][self._order] for name in ("start", "end", "time_ns"))

    def at(self, connection: Array, reply: Array, point: Array, tuple_: Array, place: Array) -> Array:
        """Row of the SEGMENTS (int64) that first carried each place there; -1 where that was not seen."""
        key = mix(connection, reply, point, tuple_)
        wanted = np.searchsorted(self._keys, key)
        wanted = np.where(wanted < len(self._keys), wanted, 0)
        found = np.full(len(key), -1, "i8")
        asked = np.flatnonzero((self._keys[wanted] == key) & (place >= 0)) if len(self._keys) else found[:0]
        hits = np.empty(len(asked), "i8")
        _look_up(wanted[asked], place[asked].astype("i8"), self._group, self._start, self._end, self._times, hits)
        found[asked] = np.where(hits >= 0, self._order[np.maximum(hits, 0)], -1)
        return found
