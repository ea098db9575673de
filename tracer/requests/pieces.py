"""Which captured bytes are dissected: every byte of a stream once, from one observation point, and what that one missed from others."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import TCP
from probes.jit import kernel
from probes.schema import Array, Column, Schema, Table, take

PIECES = Schema(
    "pieces",
    (
        Column("connection", "i4", "", "row of the connection"),
        Column("reply", "u1", "", "0 client to server, 1 server to client"),
        Column("offset", "i8", "bytes", "place of its first byte in the stream"),
        Column("skip", "i8", "bytes", "at the segment's front, which came before"),
        Column("size", "i8", "bytes", "captured"),
        Column("wire", "i8", "bytes", "there were, up to the next piece"),
        Column("time_ns", "i8", "ns since the epoch", "when all of the stream up to here had come"),
        Column("fin", "u1", "", "1 where the stream ends behind it"),
        Column("stream", "u1", "", "1 TCP, 0 a datagram"),
        Column("row", "i8", "", "row of the observation"),
    ),
)


def _best_points(table: Table, worth: Array) -> Array:
    """For each segment whether it is of its connection's best point: where most of `worth` was seen, and of equals first."""
    connection, point = table["connection"].astype("i8"), table["point"].astype("i8")
    key, group = np.unique(connection << 24 | point, return_inverse=True)
    total = np.bincount(group, weights=worth, minlength=len(key)).astype("i8")
    first = np.full(len(key), np.iinfo("i8").max)
    np.minimum.at(first, group, table["time_ns"])
    rank = np.lexsort((key, first, -total, key >> 24))
    best = np.zeros(len(key), bool)
    best[rank[np.diff(key[rank] >> 24, prepend=-1) != 0]] = True
    return np.asarray(best[group])


@kernel
def _cover(stream: Array, start: Array, end: Array, captured: Array, taken: Array, skip: Array, until: Array) -> None:
    """Mark what is `taken` of segments with payload, sorted by stream and start, and how many bytes of its front to `skip`.

    So no byte comes twice. `until` is where what there was from a taken one on ends, by all segments before the next taken one.
    """
    reached, known, latest = 0, 0, 0
    for row in range(len(stream)):
        if row == 0 or stream[row] != stream[row - 1]:
            reached = known = start[row]
        last = start[row] + captured[row]
        taken[row] = last > reached or (captured[row] == 0 and start[row] >= reached and end[row] > known)
        known = max(known, end[row])
        if taken[row]:
            skip[row], latest = max(reached - start[row], 0), row
            reached = max(last, reached)
        until[latest] = known


def pieces(segments: Table, observations: Table, wanted: Array) -> Table:
    """The PIECES of the connections that `wanted` (bool per connection) names, in the order in which they became readable."""
    table = take(segments, np.flatnonzero(wanted[segments["connection"]]))
    tcp = observations["proto"][table["row"]] == TCP
    worth = np.where(tcp, table["captured"], 1)
    best = _best_points(table, worth)
    streams, datagrams = take(table, np.flatnonzero(tcp)), take(table, np.flatnonzero(~tcp & best))
    node = np.full(len(wanted), -1, "i4")
    node[table["connection"][best]] = table["node"][best]
    own = node[streams["connection"]] == streams["node"]
    rows = PIECES.concat([_of_streams(streams, best[tcp], own), _of_datagrams(datagrams)])
    order = np.lexsort((rows["offset"], rows["reply"], rows["time_ns"], rows["connection"]))
    return PIECES.check(take(rows, order))


def _of_streams(table: Table, best: Array, own: Array) -> Table:
    """The PIECES of streams, from segments of the `best` point and others; `own` are those whose times are of its node's clock."""
    stream = table["connection"].astype("i8") << 1 | table["reply"]
    order = np.lexsort((table["time_ns"], ~best, -table["captured"], table["start"], stream))
    table, own, stream = take(table, order), own[order], stream[order]
    taken, skip, until = np.zeros(len(stream), bool), np.zeros(len(stream), "i8"), table["end"].copy()
    at = np.flatnonzero(table["end"] > table["start"])
    some, front, there = np.zeros(len(at), bool), np.zeros(len(at), "i8"), np.zeros(len(at), "i8")
    _cover(stream[at], table["start"][at], table["end"][at], table["captured"][at], some, front, there)
    taken[at], skip[at], until[at] = some, front, there
    ends = np.full(int(stream.max(initial=-1)) + 1, -1, "i8")  # where each stream ends
    np.maximum.at(ends, stream[table["fin"] > 0], table["end"][table["fin"] > 0])
    taken |= _lone_ends(stream, table, ends)
    at = np.flatnonzero(taken)
    table, own, stream, skip, until = take(table, at), own[at], stream[at], skip[at], until[at]
    offset = table["start"] + skip
    following = np.append(offset[1:], 0)
    inside = np.append(stream[1:] == stream[:-1], False) if len(stream) else np.zeros(0, bool)
    wire = np.where(inside, np.minimum(following, until), until) - offset
    size = np.minimum(table["captured"] - skip, wire)
    return {
        "connection": table["connection"], "reply": table["reply"], "offset": offset, "skip": skip, "size": size, "wire": wire,
        "time_ns": _readable(stream, table["time_ns"], own), "fin": ((offset + wire == ends[stream]) & (ends[stream] >= 0)).astype("u1"),
        "stream": np.ones(len(stream), "u1"), "row": table["row"],
    }  # fmt: skip


def _lone_ends(stream: Array, table: Table, ends: Array) -> Array:
    """One segment without payload per stream that ends where no other segment does: its FIN came alone, its last byte was not seen."""
    data = table["end"] > table["start"]
    last = np.full(len(ends), -1, "i8")
    np.maximum.at(last, stream[data], table["end"][data])
    alone = np.flatnonzero(~data & (table["fin"] > 0) & (table["end"] == ends[stream]) & (last[stream] < ends[stream]))
    marked = np.zeros(len(stream), bool)
    _, first = np.unique(stream[alone], return_index=True)
    marked[alone[first]] = True
    return marked


def _readable(stream: Array, times: Array, own: Array) -> Array:
    """When all bytes up to each piece's end had come (int64 ns): the latest time so far in its stream, of the best point's clock.

    Of a piece that only another node saw (not `own`), what is known is that it came after the piece before it, and before the one behind
    it. Questions are taken to have come early, answers late, so that none stands before its question.
    """
    if not len(times):
        return times
    lowest = times.min()
    span = int(times.max() - lowest) + 1
    group = np.cumsum(np.diff(stream, prepend=-1) != 0) - 1
    begin = group * span  # streams one behind the other, so that what accumulates in one ends there
    known = np.where(own, times - lowest, 0)
    last = np.zeros(int(stream.max()) // 2 + 1, "i8")  # of both sides
    np.maximum.at(last, stream >> 1, known)
    behind = np.minimum.accumulate(np.where(own, known + begin, last[stream >> 1] + begin)[::-1])[::-1] - begin
    known = np.where(own, known, np.where(stream & 1 > 0, behind, 0))
    return np.asarray(np.maximum.accumulate(known + begin) - begin + lowest)


def _of_datagrams(table: Table) -> Table:
    _, first = np.unique(
        np.stack([table["connection"].astype("i8"), table["reply"].astype("i8"), table["start"]]), axis=1, return_index=True
    )
    table = take(table, first)
    none = np.zeros(len(first), "i8")
    return {
        "connection": table["connection"], "reply": table["reply"], "offset": table["start"], "skip": none, "size": table["captured"],
        "wire": table["captured"], "time_ns": table["time_ns"], "fin": none.astype("u1"), "stream": none.astype("u1"), "row": table["row"],
    }  # fmt: skip
