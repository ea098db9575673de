"""What packets become: lifetimes of tuples, status, retransmissions and where a packet was last seen, translations."""

from __future__ import annotations

import numpy as np
import pytest
from wire import Row, datagram, packet, tuple_of
from wire import traced as traced_rows

from probes.decode.numbers import IN, OUT, SYN
from probes.schema import size
from tracer import ways
from tracer.pipeline import reconstruct
from tracer.status import STATUSES
from tracer.trace import Trace

C, S, V = "10.0.0.1:40000", "10.0.0.2:80", "10.96.0.1:80"
SECOND = 1000.0


def handshake(ms: float, isn: int = 100, src: str = C, dst: str = S) -> list[Row]:
    return [
        packet(ms, src, dst, "S", seq=isn), packet(ms + 1, dst, src, "SA", seq=9000 + isn, ack=isn + 1),
        packet(ms + 2, src, dst, "A", seq=isn + 1, ack=9001 + isn),
    ]  # fmt: skip


def closing(ms: float, isn: int = 100) -> list[Row]:
    return [packet(ms, C, S, "FA", seq=isn + 1, ack=9001 + isn), packet(ms + 1, S, C, "FA", seq=9001 + isn, ack=isn + 2)]


def echo(ms: float) -> list[Row]:
    return [datagram(ms, C, S, ip_id=0, payload=int(ms) + 1), datagram(ms + 1, S, C, ip_id=0, payload=int(ms) + 2)]


LIFETIMES: tuple[tuple[str, list[Row], int], ...] = (
    ("one handshake and its data", [*handshake(0), packet(9, C, S, seq=101, ack=9101, length=50)], 1),
    ("a SYN sent again", [packet(0, C, S, "S", seq=100), packet(1000, C, S, "S", seq=100), packet(3000, C, S, "S", seq=100)], 1),
    ("the port reused with another ISN", [*handshake(0), *closing(10), *handshake(300, isn=7777)], 2),
    ("its handshake missed, far sequence numbers", [*handshake(0), packet(300, C, S, seq=101 + (1 << 31), ack=5, length=9)], 2),
    ("its handshake missed, behind a FIN", [*handshake(0), *closing(10), packet(300, C, S, seq=5000, ack=77000, length=9)], 2),
    ("its handshake missed, what it acknowledges is far", [*handshake(0), packet(300, C, S, seq=1000, ack=9101 + (1 << 31))], 2),
    ("its handshake missed, what it acknowledges is beyond a FIN",
     [*handshake(0), packet(9, S, C, "FA", seq=9101, ack=101), packet(300, C, S, seq=1000, ack=9103)], 2),
    ("acknowledging a FIN", [*handshake(0), packet(9, S, C, "FA", seq=9101, ack=101), packet(10, C, S, seq=101, ack=9102)], 1),
    ("silence of a TCP connection", [*handshake(0), packet(600 * SECOND, C, S, seq=101, ack=9101, length=1)], 1),
    ("datagrams a moment apart", [*echo(0), *echo(500)], 1),
    ("datagrams after 31 s", [*echo(0), *echo(31 * SECOND)], 2),
    ("a long-lived flow of datagrams after 31 s", [*echo(0), *echo(3 * SECOND), *echo(34 * SECOND)], 1),
    ("a long-lived flow of datagrams after 121 s", [*echo(0), *echo(3 * SECOND), *echo(124 * SECOND)], 2),
)  # fmt: skip


@pytest.mark.parametrize(("rows", "count"), [case[1:] for case in LIFETIMES], ids=[case[0] for case in LIFETIMES])
def test_lifetimes_of_a_tuple(rows: list[Row], count: int) -> None:
    found = traced_rows(rows)
    assert size(found.connections) == count
    assert {tuple_of(found, code) for code in found.connections["original"].tolist()} == {f"{C} > {S}"}


STATUS: tuple[tuple[str, list[Row], str], ...] = (
    ("a whole connection", [*handshake(0), *closing(10)], "closed"),
    ("no FIN yet", handshake(0), "open"),
    ("one side closed", [*handshake(0), closing(10)[0]], "open"),
    ("aborted by the server", [*handshake(0), packet(10, S, C, "R", seq=9101)], "reset"),
    ("aborted after both closed", [*handshake(0), *closing(10), packet(20, S, C, "R", seq=9102)], "closed"),
    ("refused", [packet(0, C, S, "S", seq=100), packet(1, S, C, "RA", ack=101)], "refused"),
    ("refused, the attempt was not seen", [packet(1, S, C, "RA", ack=101)], "refused"),
    ("aborted from its middle", [packet(1, S, C, "RA", seq=9101, ack=101)], "reset"),
    ("one SYN and the capture ends", [packet(0, C, S, "S", seq=100)], "open"),
    ("two SYNs", [packet(0, C, S, "S", seq=100), packet(1000, C, S, "S", seq=100)], "timeout"),
    ("two SYNs, and what answered was not captured", [packet(0, C, S, "S", seq=100), packet(1000, C, S, "S", seq=100, tsval=9),
                                                      packet(1001, C, S, seq=101, ack=9101)], "open"),
    ("accepted, as the client says, then aborted", [packet(0, C, S, "S", seq=100), packet(1, C, S, seq=101, ack=9101),
                                                    packet(9, S, C, "R", seq=9101)], "reset"),
    ("the client gives up", [packet(0, C, S, "S", seq=100), packet(9, C, S, "R", seq=101)], "open"),
    ("answered datagram", echo(0), "closed"),
    ("unanswered datagram", echo(0)[:1], "open"),
)  # fmt: skip


@pytest.mark.parametrize(("rows", "status"), [case[1:] for case in STATUS], ids=[case[0] for case in STATUS])
def test_status(rows: list[Row], status: str) -> None:
    found = traced_rows(rows)
    assert [STATUSES[code] for code in found.connections["status"].tolist()] == [status]


def test_a_connection_seen_from_its_middle_has_its_well_known_port_as_server() -> None:
    found = traced_rows([packet(0, S, C, seq=500, ack=600, length=10), packet(1, C, S, seq=600, ack=510)])
    assert tuple_of(found, int(found.connections["original"][0])) == f"{C} > {S}"


DATA = packet(10, C, S, seq=101, ack=9101, length=50, tsval=1010)


def _later(us: int, row: Row = DATA, **columns: int) -> Row:
    return row | {"time_ns": row["time_ns"] + 1000 * us} | columns


def _routed(us: int, ip_id: int) -> list[Row]:
    """DATA that goes by the same interface twice, slowly."""
    return [_later(us + after, ttl=ttl, ip_id=ip_id) for after, ttl in ((0, 64), (400, 63))]


_SIX = DATA | {"ip_id": 0}  # as IPv6 has none
_ACCEPTED = packet(1, S, C, "SA", seq=9100, ack=101, ip_id=0)


AGAIN: tuple[tuple[str, list[Row], int], ...] = (
    ("nothing", [DATA], 0),
    ("the same bytes later", [DATA, DATA | {"time_ns": DATA["time_ns"] + 10**9, "tsval": 2010, "ip_id": 4242}], 1),
    ("a copy: the same packet captured twice", [_SIX, _later(10, _SIX)], 0),
    ("copies on their way through a node, slowly", [DATA, _later(30), _later(5_000)], 0),
    ("the same of what accepts a connection", [packet(0, C, S, "S", seq=100), _ACCEPTED, _later(90, _ACCEPTED)], 0),
    ("what accepts a connection, sent again at once", [packet(0, C, S, "S", seq=100), _ACCEPTED, _later(147, _ACCEPTED)], 1),
    ("routed out of the interface it came in by", _routed(0, 7), 0),
    ("the same, and sent again within one tick of the stamp", [*_routed(0, 7), *_routed(900, 8)], 1),
    ("sent again within one tick of the stamp", [DATA, _later(500, ip_id=4242)], 1),
    ("the same without IP IDs", [_SIX, _later(500, _SIX)], 1),
    ("a keepalive", [DATA, packet(9000, C, S, seq=150, ack=9101, length=1)], 0),
    ("new bytes", [DATA, packet(20, C, S, seq=151, ack=9101, length=50)], 0),
    ("three SYNs", [packet(ms, C, S, "S", seq=100) for ms in (0, 1000, 3000)], 2),
)


@pytest.mark.parametrize(("rows", "count"), [case[1:] for case in AGAIN], ids=[case[0] for case in AGAIN])
def test_what_was_sent_again(rows: list[Row], count: int) -> None:
    found = traced_rows(rows if rows[0]["tcp_flags"] & SYN else [*handshake(0), *rows])
    assert found.connections["retransmissions"].tolist() == [count]
    assert size(found.losses) == count


def test_the_point_that_first_missed_a_packet_is_named_and_only_if_it_saw_it_again() -> None:
    again = DATA | {"time_ns": DATA["time_ns"] + 10**9, "tsval": 2010, "ip_id": 4242}
    rows = [
        row | {"point": point, "time_ns": row["time_ns"] + point * 1000, "ttl": 64 - point} for row in handshake(0) for point in (0, 1, 2)
    ]
    rows += [
        DATA | {"point": 0},
        *(again | {"point": point, "time_ns": again["time_ns"] + point * 1000, "ttl": 64 - point} for point in (0, 1, 2)),
    ]
    found = traced_rows(rows, "node-a/veth1", "node-a/eth0", "node-b/eth0")
    assert [found.losses[name].tolist() for name in ("last_point", "missed_point", "again_ns", "seq")] == [[0], [1], [10**9], [101]]


def test_dnat_is_told_by_packets_alone() -> None:
    rows = [row | {"point": 0, "direction": IN} for row in handshake(0, dst=V)[:1]]
    rows += [row | {"point": 1, "time_ns": row["time_ns"] + 1000, "direction": OUT, "ttl": 63} for row in handshake(0)[:1]]
    rows += [handshake(0)[1] | {"point": 1, "direction": IN}, handshake(0, dst=V)[1] | {"point": 0, "direction": OUT, "ttl": 63}]
    rows[-1]["time_ns"] += 1000
    found = traced_rows(rows, "node-a/veth1", "node-a/eth0")
    assert [tuple_of(found, int(found.connections[name][0])) for name in ("original", "translated")] == [f"{C} > {V}", f"{C} > {S}"]
    assert size(found.translations) == 1
    assert found.connections["handshake_ns"].tolist() == [1_001_000]


def test_connections_that_only_look_alike_stay_apart() -> None:
    """The same packets but for the sequence number, the same addresses but for the port."""
    one, other = handshake(0), handshake(0, isn=101, src="10.0.0.1:40001")
    assert size(traced_rows([*one, *other]).connections) == 2


def test_nothing_gives_nothing() -> None:
    found = traced_rows([])
    assert [size(table) for table in (found.connections, found.hops, found.translations, found.losses)] == [0, 0, 0, 0]


def test_connections_that_are_alike_go_the_way_that_each_would_alone(traced: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, shared = traced.bundle, traced.tables
    told: list[int] = []
    monkeypatch.setattr(ways, "alike", lambda known, *_: np.arange(len(known.bits), dtype="u8"))
    monkeypatch.setattr(ways, "way", lambda *each, way=ways.way: told.append(each[1]) or way(*each))
    alone = reconstruct(bundle.observations, bundle.points, bundle.ledgers, bundle.sockets)
    assert told == list(range(size(shared.connections)))
    assert alone.problems == shared.problems
    for one, other in ((alone.connections, shared.connections), (alone.translations, shared.translations), (alone.hops, shared.hops)):
        assert {name: column.tolist() for name, column in one.items()} == {name: column.tolist() for name, column in other.items()}


@pytest.mark.parametrize(
    ("first", "client"),
    [
        pytest.param(("10.0.0.2:8080", "10.0.0.1:40000"), "10.0.0.1:40000", id="a-port-that-sockets-get-by-themselves"),
        pytest.param(("10.0.0.1:40000", "10.0.0.2:8080"), "10.0.0.1:40000", id="which-spoke-first"),
        pytest.param(("10.0.0.2:80", "10.0.0.1:2862"), "10.0.0.1:2862", id="a-well-known-port"),
        pytest.param(("10.0.0.1:2862", "10.0.0.2:8080"), "10.0.0.1:2862", id="a-masquerade-s-port"),
        pytest.param(("10.0.0.2:40001", "10.0.0.1:40000"), "10.0.0.2:40001", id="two-of-a-kind"),
    ],
)
def test_whose_connection_it_is_without_a_handshake(first: tuple[str, str], client: str) -> None:
    found = traced_rows([packet(0, *first, seq=100, ack=900, length=5), packet(1, *reversed(first), seq=900, ack=105, length=5)])
    (original,) = found.connections["original"].tolist()
    assert str(tuple_of(found, original)).partition(" > ")[0] == client
