"""Packets of conversations: handshakes, requests, answers, acknowledgments, ends, and what is lost and sent again, each at its time.

A packet is sent some time after the one before it in its conversation, so times are running sums; what begins at a moment of its own (a
conversation, a request on a connection that was kept open) is an anchor, where the sum begins anew.
"""

from __future__ import annotations

import numpy as np

from analysis.synth.frames import ACK, AT_SENDER, BEYOND, FIN, NOT_LOST, PACKET, PSH, SYN
from probes.schema import Array, Table, take

SEGMENT_BYTES, GSO_SEGMENTS = 1398, 30  # of payload: an MSS of 1410 less the timestamps
SYN_FACTOR = 2  # a first packet walks the rules
REACT_NS, BURST_NS, IDLE_NS = 15_000, 12_000, 300_000
RETRANSMIT_NS, SYN_RETRANSMIT_NS = 200_000_000, 1_000_000_000
MARGIN_NS = 2_000_000  # a kept connection is free again this long after its last byte

HANDSHAKE, END = -1, 1 << 30  # numbers of what comes before and after the exchanges of a conversation

# Conversations are tables of: way, start_ns, jitter (share of the way's own delays), mss, isn[2], stamp[2] and ip_id[2] (per direction),
# beside what `traffic` and `truth` need. Exchanges: conversation, number, request and response (rows of the messages), their bytes,
# gap_ns before the request, think_ns before the answer, anchor_ns (when the request is sent; -1: after what came before).


def travels(conversations: Table, travel_ns: Array) -> Array:
    """How long a packet of each conversation takes from its first place to its last, per direction; shape (n, 2), int64 ns."""
    return np.asarray((travel_ns[conversations["way"]] * conversations["jitter"][:, None]).astype("i8"))


def handshake_ns(travel: Array) -> Array:
    """From a SYN to the first request."""
    return np.asarray(SYN_FACTOR * travel.sum(axis=1) + 3 * REACT_NS)


def _rows(conversation: Array, number: Array | int, phase: int, gap: Array | int, *, reply: int, flags: int) -> Table:
    """Rows of packets without payload."""
    none = np.zeros(len(conversation), "i8")
    return {
        "conversation": conversation, "number": none + number, "phase": none + phase, "segment": none, "gap_ns": none + gap,
        "anchor_ns": none - 1, "reply": none + reply, "flags": none + flags, "message": none - 1, "offset": none, "length": none,
        "exchange": none - 1, "lost": none.astype(bool), "again": none.astype(bool),
    }  # fmt: skip


def _concat(tables: list[Table]) -> Table:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def exchange_rows(exchanges: Table, travel: Array, generator: np.random.Generator, loss: float, *, gso: bool) -> Table:
    """The rows of all packets of `exchanges`; `travel` (n, 2) are their conversations'. Some are lost, and sent again."""
    conversation, number = exchanges["conversation"], exchanges["number"]
    which = np.arange(len(conversation))
    asks = _rows(conversation, number, 0, exchanges["gap_ns"], reply=0, flags=PSH | ACK)
    asks |= {"message": exchanges["request"], "length": exchanges["request_bytes"], "anchor_ns": exchanges["anchor_ns"]}
    heard = _rows(conversation, number, 1, travel[:, 0] + REACT_NS, reply=1, flags=ACK)
    most = SEGMENT_BYTES * (GSO_SEGMENTS if gso else 1)
    segments = -(-exchanges["response_bytes"] // most)
    of = np.repeat(which, segments)
    segment = np.arange(len(of)) - np.repeat(np.cumsum(segments) - segments, segments)
    answers = _rows(conversation[of], number[of], 2, np.where(segment == 0, exchanges["think_ns"][of], BURST_NS), reply=1, flags=PSH | ACK)
    length = np.minimum(exchanges["response_bytes"][of] - segment * most, most)
    answers |= {"message": exchanges["response"][of], "offset": segment * most, "length": length, "segment": segment}
    thanks = _rows(conversation, number, 3, travel[:, 1] + REACT_NS, reply=0, flags=ACK)
    asks["exchange"], heard["exchange"], answers["exchange"], thanks["exchange"] = which, which, of, which
    rows = _concat([asks, heard, answers, thanks])
    return _lose(rows, (rows["length"] > 0) & (generator.random(len(rows["length"])) < loss), RETRANSMIT_NS) if loss else rows


def _lose(rows: Table, lost: Array, again_ns: int) -> Table:
    """`rows` of which those `lost` are followed by the same, sent again."""
    repeated = take(rows, lost)
    repeated["again"], repeated["gap_ns"] = np.ones(len(repeated["again"]), bool), np.full(len(repeated["gap_ns"]), again_ns)
    repeated["anchor_ns"] = np.full(len(repeated["gap_ns"]), -1)
    return _concat([rows | {"lost": lost}, repeated])


def durations(rows: Table, travel: Array, count: int) -> Array:
    """From the request's departure to the last byte's arrival (int64 ns), of each of `count` exchanges with these `rows`."""
    inside = (rows["phase"] < 3) & ~((rows["phase"] == 0) & ~rows["again"])
    total = np.zeros(count, "i8")
    np.add.at(total, rows["exchange"][inside], rows["gap_ns"][inside])
    return np.asarray(total + travel[:, 1])


def opening_rows(conversations: Table, travel: Array, generator: np.random.Generator, loss: float) -> Table:
    """The rows of all handshakes."""
    which = np.arange(len(travel))
    syn = _rows(which, HANDSHAKE, 0, 0, reply=0, flags=SYN) | {"anchor_ns": conversations["start_ns"]}
    if loss:
        syn = _lose(syn, generator.random(len(which)) < loss, SYN_RETRANSMIT_NS)
    accept = _rows(which, HANDSHAKE, 1, SYN_FACTOR * travel[:, 0] + REACT_NS, reply=1, flags=SYN | ACK)
    return _concat([syn, accept, _rows(which, HANDSHAKE, 2, SYN_FACTOR * travel[:, 1] + REACT_NS, reply=0, flags=ACK)])


def closing_rows(travel: Array) -> Table:
    """The rows of all ends: the client closes first."""
    which = np.arange(len(travel))
    return _concat([
        _rows(which, END, 0, IDLE_NS, reply=0, flags=FIN | ACK),
        _rows(which, END, 1, travel[:, 0] + REACT_NS, reply=1, flags=FIN | ACK),
        _rows(which, END, 2, travel[:, 1] + REACT_NS, reply=0, flags=ACK),
    ])  # fmt: skip


def packets(conversations: Table, parts: list[Table], count: Array, generator: np.random.Generator) -> tuple[Array, Table]:
    """`(PACKET rows, the rows they are made of)`, by conversation and in the order sent. `count[way, reply]`: places on each way."""
    rows = _concat(parts)
    rows = take(rows, np.lexsort((rows["again"], rows["segment"], rows["phase"], rows["number"], rows["conversation"])))
    conversation, reply = rows["conversation"], rows["reply"]
    made = np.zeros(len(conversation), PACKET)
    times = _times(rows)
    first = np.searchsorted(conversation, conversation)  # of its conversation
    carried = rows["length"] + (rows["flags"] & SYN > 0) + (rows["flags"] & FIN > 0)
    own, other = _sent_before(carried * ~rows["lost"], reply, first)
    isn = conversations["isn"]
    made["seq"] = isn[conversation, reply] + own
    made["ack"] = np.where(rows["flags"] & ACK > 0, isn[conversation, 1 - reply] + other, 0)
    numbers, _ = _sent_before(np.maximum(-(-rows["length"] // SEGMENT_BYTES), 1), reply, first)
    accept = rows["flags"] & (SYN | ACK) == SYN | ACK
    made["ip_id"] = np.where(accept, 0, conversations["ip_id"][conversation, reply] + numbers)
    stamp = (conversations["stamp"][conversation, reply] + times // 1_000_000).astype("u4")
    made["tsval"], made["tsecr"] = stamp, _latest_of_other(stamp, reply, first)
    made["mss"] = np.where(rows["flags"] & SYN > 0, np.where(reply == 0, conversations["mss"][conversation], 1410), 0)
    made["window"] = np.where(rows["flags"] & SYN > 0, 64240, 502)
    for name in ("conversation", "message", "offset", "length", "flags", "reply"):
        made[name] = rows[name]
    made["time_ns"] = times
    places = count[conversations["way"][conversation], reply]
    made["first_places"] = np.where(rows["lost"], 1 + (generator.random(len(made)) * (places - 1)).astype("u1"), NOT_LOST)
    return made, rows


def _times(rows: Table) -> Array:
    anchored = rows["anchor_ns"] >= 0
    passed = np.cumsum(np.where(anchored, 0, rows["gap_ns"]))
    since = np.maximum.accumulate(np.where(anchored, np.arange(len(anchored)), 0))
    return np.asarray(rows["anchor_ns"][since] + passed - passed[since])


def _sent_before(amount: Array, reply: Array, first: Array) -> tuple[Array, Array]:
    """`(own, other)`: how much each row's side, and the other, sent before it in its conversation, which begins at row `first`."""
    sent = np.stack([np.where(reply == side, amount, 0) for side in (0, 1)])
    before = np.cumsum(sent, axis=1) - sent
    before -= before[:, first]
    row = np.arange(len(amount))
    return before[reply, row], before[1 - reply, row]


def _latest_of_other(stamp: Array, reply: Array, first: Array) -> Array:
    """The latest stamp of the other side before each row, 0 where there is none."""
    row = np.arange(len(stamp))
    echoed = np.zeros(len(stamp), "u4")
    for side in (0, 1):
        latest = np.maximum.accumulate(np.where(reply == side, row, -1))
        found = (reply != side) & (latest >= first)
        echoed[found] = stamp[latest[found]]
    return echoed


def resegmented(made: Array) -> Array:
    """Packets of several segments look otherwise beyond the wire: what the sender's node sees whole, others see as two."""
    large = (made["length"] > SEGMENT_BYTES) & (made["first_places"] == NOT_LOST)
    whole, head = made.copy(), made[large].copy()
    whole["where"][large] = AT_SENDER
    tail = head.copy()
    segments = -(-head["length"] // SEGMENT_BYTES)
    cut = (segments + 1) // 2 * SEGMENT_BYTES
    head["length"], head["where"], tail["where"] = cut, BEYOND, BEYOND
    for name, amount in (("length", -cut), ("offset", cut), ("seq", cut), ("ip_id", (segments + 1) // 2), ("time_ns", 1_000)):
        tail[name] = (tail[name].astype("i8") + amount).astype(tail[name].dtype)
    return np.concatenate([whole, head, tail])
