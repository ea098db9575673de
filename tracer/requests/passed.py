"""When bytes passed observation points: all that is asked of segments, told before clocks are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.schema import Array, Table, size, take
from tracer.pipeline import Reconstruction
from tracer.requests.dissection import Dissection
from tracer.requests.schema import BEGINNINGS, ELSEWHERE, PASSED
from tracer.requests.streams import ByteTimes

HELLO, CLIENT_END, SERVER_END, LOGIN = range(4)  # BEGINNINGS.what
GAVE_UP, GOT = 1, 2  # Passed.unanswered
_PLACES = ("request_start", "request_end", "response_start", "response_end")


@dataclass(slots=True)
class Passed:
    """`requests` is PASSED, what no hop of it shows is in `elsewhere` (ELSEWHERE), `beginnings` is BEGINNINGS.

    `unanswered` (int8) says of each exchange without a response what became of it, as its client tells: GAVE_UP, GOT (it acknowledged a
    response that was not captured), or 0.
    """

    requests: Table
    elsewhere: Table
    beginnings: Table
    unanswered: Array


def passed(traced: Reconstruction, found: Dissection) -> Passed:
    """What `found.segments` say of the exchanges that were found in them, and of how connections began and ended."""
    times = ByteTimes(found.segments)
    seen = _requests(traced, found, times)
    return Passed(seen, _elsewhere(traced, found, seen), _beginnings(traced, found, times), _unanswered(traced, found))


def _requests(traced: Reconstruction, found: Dissection, times: ByteTimes) -> Table:
    exchanges, carried = found.in_order()
    exchange, hop = _asked(traced, carried)
    reply, point, code = (traced.hops[name][hop] for name in ("reply", "point", "tuple"))
    places = {name: np.array([getattr(each, name) for each in exchanges], "i8") for name in _PLACES}
    first = np.where(reply > 0, places["response_start"][exchange], places["request_start"][exchange])
    last = np.where(reply > 0, places["response_end"][exchange], places["request_end"][exchange]) - 1
    parts = []
    for which, place in enumerate((first, last)):
        segment = times.at(carried[exchange], reply, point, code, place)
        at = np.flatnonzero(segment >= 0)
        parts.append({
            "exchange": exchange[at].astype("i4"), "hop": hop[at].astype("i8"), "last": np.full(len(at), which, "u1"),
            "row": np.full(len(at), -1) if which else found.segments["row"][segment[at]], "time_ns": found.segments["time_ns"][segment[at]],
        })  # fmt: skip
    return PASSED.concat(parts)


def _elsewhere(traced: Reconstruction, found: Dissection, seen: Table) -> Table:
    """Bytes that passed no hop of their connection, which are those of its first packets, where other points saw them."""
    exchanges, carried = found.in_order()
    place = np.array([[getattr(each, name) for name in _PLACES] for each in exchanges], "i8").reshape(-1, 2, 2)
    missed = place >= 0
    missed[seen["exchange"], traced.hops["reply"][seen["hop"]], seen["last"]] = False
    exchange, reply, last = np.nonzero(missed)
    if not len(exchange):
        return ELSEWHERE.empty()
    row = _anywhere(found.segments, carried[exchange], reply, place[exchange, reply, last] - last)
    at = np.flatnonzero(row >= 0)
    node, time_ns = (found.segments[name][row[at]] for name in ("node", "time_ns"))
    columns = {"exchange": exchange[at].astype("i4"), "reply": reply[at].astype("u1"), "last": last[at].astype("u1")}
    return ELSEWHERE.check(columns | {"node": node, "time_ns": time_ns})


def _anywhere(segments: Table, connection: Array, reply: Array, place: Array) -> Array:
    """Row of the SEGMENTS that first carried the byte at each `place`, at whatever point; -1 where none did."""
    rows = np.flatnonzero(np.isin(segments["connection"], connection))
    here, asked = np.zeros(len(rows), "i4"), np.zeros(len(place), "i4")  # one point for all
    found = ByteTimes(take(segments, rows) | {"point": here, "tuple": here}).at(connection, reply, asked, asked, place)
    return np.append(rows, -1)[found]


def _asked(traced: Reconstruction, carried: Array) -> tuple[Array, Array]:
    """`(exchange, HOPS row)` for every hop of every exchange's connection, in path order."""
    first = np.searchsorted(traced.hops["connection"], carried)
    count = np.searchsorted(traced.hops["connection"], carried, side="right") - first
    exchange = np.repeat(np.arange(len(carried)), count)
    within = np.arange(len(exchange)) - np.repeat(np.cumsum(count) - count, count)
    return exchange, np.repeat(first, count) + within


def _beginnings(traced: Reconstruction, found: Dissection, times: ByteTimes) -> Table:
    asked = [  # connection, what, way, place
        (row, what, way, place)
        for row, each in found.handshakes.items()
        if min(each.start, each.client_end, each.server_end) >= 0
        for what, way, place in ((HELLO, 0, each.start), (CLIENT_END, 0, each.client_end - 1), (SERVER_END, 1, each.server_end - 1))
    ]
    asked += [
        (row, LOGIN, 0, int(each[0].attributes["login_at"]))
        for row, each in found.exchanges.items()
        if each and "login_at" in each[0].attributes
    ]
    connection, what, way, place = np.array(asked, "i8").reshape(-1, 4).T
    node, time_ns = at_client(traced, found.segments["time_ns"], times, connection, way, place)
    seen = np.flatnonzero(node >= 0)
    return BEGINNINGS.check({
        "connection": connection[seen].astype("i4"), "what": what[seen].astype("u1"), "node": node[seen].astype("i4"),
        "time_ns": time_ns[seen],
    })  # fmt: skip


def at_client(
    traced: Reconstruction, recorded: Array, times: ByteTimes, connection: Array, reply: Array, place: Array
) -> tuple[Array, Array]:
    """Where and when (node and its own int64 ns, -1 not seen) the byte at each `place` of a side's stream passed the client's door.

    That is the first observation point on its side. `connection` and `reply` (0 client to server, 1 back) say whose stream it is,
    `recorded` has the times of the SEGMENTS of `times`.
    """
    hops = traced.hops
    door = np.full((len(traced.connections["proto"]), 2), -1, "i8")
    for way, rows in ((0, np.flatnonzero(hops["reply"] == 0)[::-1]), (1, np.flatnonzero(hops["reply"] == 1))):
        door[hops["connection"][rows], way] = rows  # of the way there the first hop, of the way back the last
    row = door[connection, reply]
    point, code, node = (np.where(row >= 0, hops[name][row], -1) for name in ("point", "tuple", "node"))
    found = times.at(connection, reply, point, code, np.where(row >= 0, place, -1))
    seen = found >= 0
    time_ns = np.full(len(place), -1, "i8")
    time_ns[seen] = recorded[found[seen]]
    return np.where(seen, node, -1), time_ns


def _unanswered(traced: Reconstruction, found: Dissection) -> Array:
    """Passed.unanswered: what the client acknowledged in the end, against what it had acknowledged when it began to ask.

    Who gave up ended the connection (FIN) before its server did, where its first packet was seen. One number more is the server's FIN.
    What it got is its response only if that was not captured: else it would have been read.
    """
    exchanges, carried = found.in_order()
    told = np.zeros(len(exchanges), "i1")
    asked = np.array([row for row, each in enumerate(exchanges) if each.response_start < 0 <= each.request_start], "i8")
    if not len(asked):
        return told
    segments, connection = found.segments, carried[asked]
    place = np.array([exchanges[row].request_start for row in asked.tolist()], "i8")
    question = _anywhere(segments, connection, np.zeros(len(asked), "u1"), place)
    theirs = np.isin(segments["connection"], connection)
    here = np.flatnonzero(theirs & (segments["node"] == traced.connections["first_node"][segments["connection"]]))
    here = here[np.argsort(segments["time_ns"][here], kind="stable")]
    ended = np.full((size(traced.connections), 2), np.iinfo("i8").max)
    ends = here[segments["fin"][here] > 0]
    np.minimum.at(ended, (segments["connection"][ends], segments["reply"][ends]), segments["time_ns"][ends])
    latest = np.full(len(ended), -1)
    said = here[segments["reply"][here] == 0]
    latest[segments["connection"][said]] = said  # of several the last stays
    last = latest[connection]
    before, after = (traced.observations["ack"][segments["row"][rows]].astype("i8") for rows in (question, last))
    got = (after - before) & 0xFFFF_FFFF
    seen = (question >= 0) & (last >= 0)
    told[asked[seen & (got == 0) & (ended[connection, 0] < ended[connection, 1])]] = GAVE_UP
    got_some = np.flatnonzero(seen & (got > 1) & (got < 0x8000_0000))
    told[asked[got_some[~_captured(traced, segments, connection[got_some], before[got_some])]]] = GOT
    return told


def _captured(traced: Reconstruction, segments: Table, connection: Array, number: Array) -> Array:
    """Whether the byte of this sequence number (i8) that each connection's server sent was captured anywhere (bool)."""
    answers = np.flatnonzero(segments["reply"] == 1)[::-1]
    some = np.full(size(traced.connections), -1)
    some[segments["connection"][answers]] = answers
    one = some[connection]
    away = (number - traced.observations["seq"][segments["row"][one]].astype("i8") + (1 << 31) & 0xFFFF_FFFF) - (1 << 31)
    way = np.ones(len(one), "u1")
    return np.asarray((one >= 0) & (_anywhere(segments, connection, way, segments["start"][one] + away) >= 0))
