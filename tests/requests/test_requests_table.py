"""Requests as rows: when they passed both ends' doors, their hops, and what stands for a connection that could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carried_packets import ACROSS_NS, ALL, ETH0, HOP_NS, MICROSECOND, MS, START_NS, VETH, WAY, WIRE_NS, Talk, Wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.requests import RequestRecorder
from probes.dissect import Exchange, Handshake
from probes.schema import size, take
from tracer.requests import REQUEST_HOPS, REQUESTS, RequestTrace
from tracer.requests.dissection import Dissection
from tracer.requests.moments import handshakes, logins
from tracer.requests.passed import GAVE_UP, GOT, at_client, passed
from tracer.requests.streams import ByteTimes

CLIENT_DOOR, SERVER_DOOR = ("node-a", VETH), ("node-b", VETH)
COLUMNS = ("start_ns", "sent_ns", "arrival_ns", "received_ns", "reply_ns", "done_ns", "answer_ns", "end_ns")
DRIFT_NS = 50  # what half a thousandth of a clock's drift makes of some hops within a node
Row = dict[str, Any]


def rows(found: RequestTrace) -> list[Row]:
    """The REQUESTS as dicts, times after START_NS (and -1 where they are unknown)."""
    table = REQUESTS.check(found.requests.table)
    REQUEST_HOPS.check(found.requests.hops)
    plain = {name: column.tolist() for name, column in table.items()}
    made = [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]
    return [{name: value - START_NS if name.endswith("_ns") and value >= 0 else value for name, value in row.items()} for row in made]


def near(times: Sequence[int], true: Sequence[int], slack: int) -> bool:
    return all(abs(time - each) <= slack if each >= 0 else time == -1 for time, each in zip(times, true, strict=True))


def conversation(talk: Talk) -> None:
    """Two exchanges; the second one's question and answer are two packets each."""
    talk.open(0)
    talk.send(1 * MS, "PA", b"\x01question")
    talk.send(3 * MS, "PA", b"\x02answer", reply=True)
    talk.send(5 * MS, "PA", b"\x01another ")
    talk.send(5 * MS + 7 * MICROSECOND, "PA", b"\x01question")
    talk.send(8 * MS, "PA", b"\x02another", reply=True)
    talk.send(8 * MS + 9 * MICROSECOND, "PA", b"\x02answer", reply=True)


def doors(first: int, last: int, answer: int, rest: int) -> list[int]:
    """By COLUMNS, of the first and last byte of question and answer as they left their pods."""
    return [first, last, first + ACROSS_NS, last + ACROSS_NS, answer, rest, answer + ACROSS_NS, rest + ACROSS_NS]


TRUE = (doors(1 * MS, 1 * MS, 3 * MS, 3 * MS), doors(5 * MS, 5 * MS + 7000, 8 * MS, 8 * MS + 9000))


@pytest.mark.parametrize("ahead_ns", [0, 7 * MS, -1_000 * MS, 3_600_000 * MS])
def test_requests_pass_both_doors(ahead_ns: int, tmp_path: Path) -> None:
    """Within a node to the nanosecond; of the other node within what its clock may be off (a wire's time, either way)."""
    wire = Wire({"node-b": ahead_ns})
    conversation(wire.connection())
    found = wire.traced(tmp_path)
    made = rows(found)
    assert [row["number"] for row in made] == [0, 1]
    assert [found.requests.exchange(row).protocol for row in range(2)] == ["exchange"] * 2  # type: ignore[union-attr]
    reference = found.trace.tables.nodes[found.clocks.reference]
    assert reference == "node-a"
    for row, true in zip(made, TRUE, strict=True):
        assert near([row[name] for name in COLUMNS], true, WIRE_NS + DRIFT_NS)
        assert [row[name] for name in COLUMNS if name in ("start_ns", "sent_ns", "answer_ns", "end_ns")] == [
            true[0],
            true[1],
            true[6],
            true[7],
        ]
        assert abs(row["done_ns"] - row["reply_ns"] - (true[5] - true[4])) <= DRIFT_NS
        assert [found.trace.tables.nodes[row[name]] for name in ("client_node", "server_node")] == ["node-a", "node-b"]
    assert [row["begin_ns"] for row in made] == [0, 5 * MS]
    assert [(row["request_bytes"], row["response_bytes"]) for row in made] == [(9, 7), (18, 15)]
    assert all(sure.all() for sure in found.requests.at_door.values())


@pytest.mark.parametrize("ahead_ns", [0, 7 * MS, -400 * MS])
def test_hops_are_those_of_the_first_byte(ahead_ns: int, tmp_path: Path) -> None:
    wire = Wire({"node-b": ahead_ns})
    conversation(wire.connection())
    found = wire.traced(tmp_path)
    hops, points = found.requests.hops, found.trace.tables.points
    for request, true in enumerate(TRUE):
        for reply, sent in ((0, true[0]), (1, true[4])):
            mine = take(hops, np.flatnonzero((hops["request"] == request) & (hops["reply"] == reply)))
            way = WAY[::-1] if reply else WAY
            assert [(points[point].node, points[point].ifindex) for point in mine["point"].tolist()] == [each[:2] for each in way]
            after = [WAY[len(WAY) - 1 - place][2] if reply else WAY[place][2] for place in range(len(WAY))]
            after = after[::-1] if reply else after
            expected = [sent + each for each in after]
            assert [time - START_NS - wire.clock_ns.get(points[point].node, 0)
                    for time, point in zip(mine["time_ns"].tolist(), mine["point"].tolist(), strict=True)] == expected  # fmt: skip
            assert near((mine["aligned_ns"] - START_NS).tolist(), expected, WIRE_NS + DRIFT_NS)
            seen = found.trace.tables.observations
            assert (seen["time_ns"][mine["row"]] == mine["time_ns"]).all()


MISSED = {  # which time is told by the next point instead
    "the request at the client's door": (1 * MS, False, CLIENT_DOOR, {"start_ns", "sent_ns"}),
    "the request at the server's door": (1 * MS, False, SERVER_DOOR, {"arrival_ns", "received_ns"}),
    "the answer at the server's door": (3 * MS, True, SERVER_DOOR, {"reply_ns", "done_ns"}),
    "the answer at the client's door": (3 * MS, True, CLIENT_DOOR, {"answer_ns", "end_ns"}),
    "the request between them": (1 * MS, False, ("node-a", ETH0), set()),
}


@pytest.mark.parametrize("name", MISSED)
def test_where_a_capture_missed_a_packet_the_next_point_tells_and_it_is_said(name: str, tmp_path: Path) -> None:
    when, reply, dropped, moved = MISSED[name]
    wire = Wire()
    talk = wire.connection().open(0)
    for at, text, back in ((1 * MS, b"\x01question", False), (3 * MS, b"\x02answer", True)):
        talk.send(at, "PA", text, reply=back, only=[each for each in ALL if (at, back, each) != (when, reply, dropped)])
    talk.send(5 * MS, "PA", b"\x01bye")
    found = wire.traced(tmp_path)
    row = rows(found)[0]
    sure = {name for name, column in found.requests.at_door.items() if column[0]}
    assert set(COLUMNS) - sure == moved
    later = {"start_ns": HOP_NS, "sent_ns": HOP_NS, "arrival_ns": -HOP_NS, "received_ns": -HOP_NS,
             "reply_ns": HOP_NS, "done_ns": HOP_NS, "answer_ns": -HOP_NS, "end_ns": -HOP_NS}  # fmt: skip
    true = [each + later[column] * (column in moved) for column, each in zip(COLUMNS, TRUE[0], strict=True)]
    assert near([row[column] for column in COLUMNS], true, WIRE_NS + DRIFT_NS)


def test_a_packet_sent_again_counts_where_it_was_first_seen(tmp_path: Path) -> None:
    """The first try was lost between the nodes: it left at 1 ms, and arrived at 250 ms."""
    wire = Wire()
    talk = wire.connection().open(0)
    talk.send(1 * MS, "PA", b"\x01question", only=[CLIENT_DOOR, ("node-a", ETH0)])
    talk.send(250 * MS, "PA", b"\x01question", again=True)
    talk.send(252 * MS, "PA", b"\x02answer", reply=True)
    row = rows(wire.traced(tmp_path))[0]
    arrived = 250 * MS + ACROSS_NS
    true = [1 * MS, 1 * MS, arrived, arrived, 252 * MS, 252 * MS, 252 * MS + ACROSS_NS, 252 * MS + ACROSS_NS]
    assert near([row[name] for name in COLUMNS], true, WIRE_NS + 500 * MICROSECOND)


def test_nobody_answered(tmp_path: Path) -> None:
    wire = Wire()
    talk = wire.connection().open(0)
    talk.send(1 * MS, "PA", b"\x01question")
    talk.send(3 * MS, "PA", b"\x02answer", reply=True)
    talk.send(5 * MS, "PA", b"\x01another")
    first, last = rows(wire.traced(tmp_path))
    assert (first["response_bytes"], last["response_bytes"]) == (7, -1)
    assert [last[name] for name in ("answer_ns", "reply_ns", "done_ns")] == [-1] * 3
    assert last["start_ns"] == 5 * MS
    assert last["end_ns"] >= last["sent_ns"] == 5 * MS


def test_what_became_of_requests_without_answers(tmp_path: Path) -> None:
    """A client acknowledges what it got, with what it says next, whether or not a packet of that was captured."""
    wire, ports = Wire(), (9999, 9999, 9999, 80, 9999)
    gave_up, got, dropped, web, left = (
        wire.connection(port, 40000 + number).open(number * MICROSECOND) for number, port in enumerate(ports)
    )
    for talk in (gave_up, got, dropped, left):
        talk.send(1 * MS, "PA", b"\x01question")
    for talk in (got, left):
        talk.send(3 * MS, "PA", b"\x02answer", reply=True, only=[])
    dropped.send(3 * MS, "FA", reply=True, only=[])
    web.send(1 * MS, "PA", b"GET /answered HTTP/1.1\r\nHost: a\r\n\r\n")
    web.send(3 * MS, "PA", b"HTTP/1.1 204 No Content\r\n\r\n", reply=True, only=[])
    web.send(4 * MS, "PA", b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    for talk in (gave_up, got, dropped, web, left):
        talk.send(5 * MS, "FA")
    left.send(6 * MS, "R")
    found = wire.traced(tmp_path)
    assert found.passed.unanswered.tolist() == [GAVE_UP, GOT, 0, GOT, GAVE_UP, GOT]
    told = {(row["connection"], row["number"]): (row["end_ns"] > 5 * MS) for row in rows(found)}
    assert [told[key] for key in sorted(told)] == [True, False, True, False, True, False], "who got an answer did not wait for one"
    records = sorted(RequestRecorder(found), key=lambda record: (record["connection"], record["start_ns"]))
    assert [record["status"] for record in records] == ["timeout", "closed", "open", "closed", "timeout", "closed"]
    assert [any("not captured" in each for each in record["problems"]) for record in records] == [False, True, False, True, False, True]
    assert [record["latency"]["total_ns"] is None for record in records] == [False, True, False, True, False, True]


def test_who_acknowledges_answers_between_questions_did_not_give_up(tmp_path: Path) -> None:
    """No answer was captured: of an unknown protocol, all that its client says is one question, and the last is goodbye."""
    wire = Wire()
    talk = wire.connection()
    for flags, reply in (("S", False), ("SA", True), ("A", False)):
        talk.send(0, flags, reply=reply, only=[] if reply else ALL)
    for at in (1 * MS, 4 * MS):
        talk.send(at, "PA", b"\x01question")
        talk.send(at + 1 * MS, "PA", b"\x02answer", reply=True, only=[])
    talk.send(7 * MS, "PA", b"\x03bye")
    talk.send(8 * MS, "FA")
    (record,) = RequestRecorder(wire.traced(tmp_path))
    assert (record["protocol"], record["status"], record["latency"]["total_ns"]) == ("exchange", "closed", None)
    assert (record["packets"]["reply"], record["last_seen_at"]) == (0, None), "it got where it went"


def test_how_long_a_response_without_its_request_took_is_not_known(tmp_path: Path) -> None:
    wire = Wire()
    web = wire.connection(80).open(0)
    web.send(1 * MS, "PA", b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", only=[])
    web.send(3 * MS, "PA", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", reply=True)
    web.send(5 * MS, "PA", b"ok", reply=True)
    (record,) = RequestRecorder(wire.traced(tmp_path))
    assert (record["status"], record["operation"], record["end_ns"] - record["start_ns"]) == ("200", None, 2 * MS)
    assert record["problems"] == ["the request was not captured: its response was"]
    assert (record["latency"]["total_ns"], record["latency"]["network_ns"]) == (None, None)


def test_what_was_captured_and_is_no_response_does_not_stand_for_one(tmp_path: Path) -> None:
    wire = Wire()
    web = wire.connection(80).open(0)
    web.send(1 * MS, "PA", b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    web.send(3 * MS, "PA", b"HTTP/1.1 102 Processing\r\n\r\n", reply=True)
    web.send(5 * MS, "FA")
    found = wire.traced(tmp_path)
    assert found.passed.unanswered.tolist() == [0]
    (record,) = RequestRecorder(found)
    assert not any("not captured" in each for each in record["problems"])
    assert found.requests.table["end_ns"][0] >= 5 * MS


def test_what_passed_no_hop_is_told_by_the_points_that_saw_it(tmp_path: Path) -> None:
    """Of the handshake, two points saw all: hops are there. The rest was seen at others only."""
    wire = Wire()
    talk = wire.connection()
    for at, flags, reply in ((0, "S", False), (ACROSS_NS, "SA", True), (2 * ACROSS_NS, "A", False)):
        talk.send(at, flags, reply=reply, only=[CLIENT_DOOR, SERVER_DOOR])
    between = [("node-a", ETH0)]
    talk.send(1 * MS, "PA", b"\x01question", only=between)
    talk.send(3 * MS, "PA", b"\x02answer", reply=True, only=between)
    talk.send(5 * MS, "PA", b"\x01another")
    talk.send(8 * MS, "PA", b"\x02another", reply=True, only=between)
    found = wire.traced(tmp_path)
    first, last = rows(found)
    asked, answered = 1 * MS + HOP_NS, 3 * MS + HOP_NS + WIRE_NS
    assert [first[name] for name in COLUMNS] == [asked, asked, -1, -1, -1, -1, answered, answered]
    assert (last["start_ns"], last["answer_ns"], last["end_ns"]) == (5 * MS, *[8 * MS + HOP_NS + WIRE_NS] * 2)
    assert not any(found.requests.at_door[name][0] for name in COLUMNS)


def test_a_connection_that_said_nothing_stands_for_itself(tmp_path: Path) -> None:
    wire = Wire({"node-b": 5 * MS})
    wire.connection(client_port=40001).send(0, "S")
    conversation(wire.connection())
    wire.connection(client_port=40002).open(20 * MS)
    found = wire.traced(tmp_path)
    made = rows(found)
    whole = [row for row in made if row["exchange"] < 0]
    assert [row["start_ns"] for row in whole] == [0, 20 * MS]
    assert [row["end_ns"] for row in whole] == [HOP_NS, 20 * MS + 2 * ACROSS_NS + HOP_NS], "with the last that the client's node saw"
    for row in whole:
        assert row["begin_ns"] == row["start_ns"]
        assert {row[name] for name in (*COLUMNS[1:-1], "request_bytes", "response_bytes")} == {-1}
        assert found.requests.exchange(made.index(row)) is None
    assert [row["start_ns"] for row in made] == sorted(row["start_ns"] for row in made), "in the order of their start"
    assert {row["connection"] for row in made} == set(range(size(found.trace.tables.connections)))
    hops = found.requests.hops
    assert hops["request"].tolist() == sorted(hops["request"].tolist())
    for number, row in enumerate(made):
        ways = hops["reply"][hops["request"] == number].tolist()
        assert ways == ([0] * 4 if row is whole[0] else [0] * 4 + [1] * 4)
    assert not any(found.requests.at_door[name][[made.index(row) for row in whole]].any() for name in COLUMNS)


def test_either_of_two_points_of_a_node_may_see_a_packet_first(tmp_path: Path) -> None:
    """The path is told by the connection's first packet; later ones keep to their node's clock."""
    wire = Wire()
    talk = wire.connection().open(0)
    for at, text, reply in ((1 * MS, b"\x01question", False), (3 * MS, b"\x02answer", True)):
        talk.send(at, "PA", text, reply=reply)
    frames = wire.frames["node-a"]
    here = [number for number, each in enumerate(frames) if b"question" in each.frame]
    one, other = here
    frames[one], frames[other] = replace(frames[one], time_ns=frames[other].time_ns), replace(frames[other], time_ns=frames[one].time_ns)
    found = wire.traced(tmp_path)
    hops, points = found.requests.hops, found.trace.tables.points
    mine = np.flatnonzero((hops["request"] == 0) & (hops["reply"] == 0))
    seen = [(points[point].node, points[point].ifindex) for point in hops["point"][mine].tolist()]
    assert seen == [("node-a", ETH0), ("node-a", VETH), ("node-b", ETH0), ("node-b", VETH)]
    assert (np.diff(hops["aligned_ns"][mine]) >= 0).all()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ahead_ns=st.integers(-(10**15), 10**15))
def test_a_node_s_clock_does_not_matter(ahead_ns: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Shifted by a known offset, a node tells the same: to some nanoseconds, for its drift is told anew."""

    @cache
    def told(offset_ns: int) -> list[Row]:
        wire = Wire({"node-b": offset_ns})
        conversation(wire.connection())
        return rows(wire.traced(tmp_path_factory.mktemp("shifted")))

    for row, moved in zip(told(0), told(ahead_ns), strict=True):
        for name, value in row.items():
            assert abs(value - moved[name]) <= (DRIFT_NS if name.endswith("_ns") else 0), name


# --- moments ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> RequestTrace:
    wire = Wire({"node-b": 7 * MS})
    conversation(wire.connection())
    return wire.traced(tmp_path_factory.mktemp("moments"))


@pytest.mark.parametrize(
    ("reply", "place", "at_ns"),
    [
        (0, 0, 1 * MS), (0, 8, 1 * MS), (0, 9, 5 * MS), (0, 18, 5 * MS + 7000), (0, 26, 5 * MS + 7000), (0, 27, -1), (0, -1, -1),
        (1, 0, 3 * MS + ACROSS_NS), (1, 7, 8 * MS + ACROSS_NS), (1, 15, 8 * MS + 9000 + ACROSS_NS), (1, 22, -1),
    ],
)  # fmt: skip
def test_when_a_byte_passed_the_client(found: RequestTrace, reply: int, place: int, at_ns: int) -> None:
    tables = found.trace.tables
    segments, asked = found.dissection.segments, (np.zeros(1, "i8"), np.array([reply]), np.array([place]))
    node, time = at_client(tables, segments["time_ns"], ByteTimes(segments), *asked)
    assert np.where(node >= 0, found.clocks.align(node, time), -1).tolist() == [START_NS + at_ns if at_ns >= 0 else -1]


def test_handshakes_and_logins_have_their_time(found: RequestTrace) -> None:
    """A handshake ends with the later side's last byte; one that was not seen whole is left out."""

    def told(known: Dissection) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
        beginnings = passed(found.trace.tables, known).beginnings
        return handshakes(beginnings, found.clocks), logins(beginnings, found.clocks)

    said = replace(found.dissection, exchanges={})
    for begun, end_ns in (
        (Handshake(start=0, client_end=27, server_end=7), 5 * MS + 7000),
        (Handshake(start=0, client_end=9, server_end=7), 3 * MS + ACROSS_NS),
    ):
        assert told(replace(said, handshakes={0: begun})) == ({0: (START_NS + 1 * MS, START_NS + end_ns)}, {})
    for unseen in (
        Handshake(start=0, client_end=9),
        Handshake(client_end=9, server_end=7),
        Handshake(start=0, client_end=900, server_end=7),
    ):
        assert told(replace(said, handshakes={0: unseen})) == ({}, {})
    logging_in = [Exchange("mysql", attributes={"login_at": "9"}), Exchange("mysql", attributes={"login_at": "0"})]
    assert told(replace(said, exchanges={0: logging_in})) == ({}, {0: START_NS + 5 * MS})
    assert told(replace(said, exchanges={0: [Exchange("mysql", attributes={"login_at": "900"})]})) == ({}, {})
    assert told(said) == ({}, {})
