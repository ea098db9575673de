"""conntrack's formats, line by line and as properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes import addresses
from probes.conntrack import read_ip_vs_conn, read_ledger, write_jsonl
from probes.schema import LEDGER, Table, size, take


def row(table: Table, number: int = 0) -> dict[str, Any]:
    """A row with its tuples as people write them."""
    values = {name: array[number].item() for name, array in table.items()}
    for side in ("original", "reply"):
        src, dst = (
            addresses.endpoint(values[f"{side}_{end}_hi"], values[f"{side}_{end}_lo"], values[f"{side}_{port}"])
            for end, port in (("src", "sport"), ("dst", "dport"))
        )
        values[side] = f"{src} > {dst}"
    return values


TCP = b"src=10.244.2.0 dst=10.96.0.1 sport=16527 dport=443 src=172.30.0.2 dst=10.244.2.0 sport=6443 dport=16527"
TCP_ROW = {"proto": 6, "original": "10.244.2.0:16527 > 10.96.0.1:443", "reply": "172.30.0.2:6443 > 10.244.2.0:16527"}
UDP6 = b"src=fd00:10::5 dst=fd00:20::a sport=5353 dport=53 [UNREPLIED] src=fd00:10::9 dst=fd00:10::5 sport=53 dport=5353"
UDP6_ROW = {"proto": 17, "flags": 0, "original": "[fd00:10::5]:5353 > [fd00:20::a]:53", "reply": "[fd00:10::9]:53 > [fd00:10::5]:5353"}

CASES: list[tuple[str, bytes, dict[str, Any]]] = [
    (
        "-L",
        b"tcp      6 431999 ESTABLISHED " + TCP + b" [ASSURED] mark=0 use=1",
        {**TCP_ROW, "flags": 3, "event": 0, "time_ns": -1, "id": -1},
    ),
    (
        "-L -o extended,id",
        b"ipv4     2 tcp      6 9 LAST_ACK " + TCP + b" mark=0 use=1 id=2466103934",
        {**TCP_ROW, "flags": 1, "id": 2466103934},
    ),
    ("-E NEW", b"    [NEW] tcp      6 120 SYN_SENT " + TCP, {**TCP_ROW, "event": 1}),
    ("-E UPDATE", b" [UPDATE] tcp      6 120 FIN_WAIT " + TCP + b" [ASSURED]", {**TCP_ROW, "event": 2, "flags": 3}),
    ("-E DESTROY without timeout", b"[DESTROY] tcp      6 TIME_WAIT " + TCP + b" [ASSURED]", {**TCP_ROW, "event": 3, "flags": 3}),
    (
        "-E -o timestamp,id,extended",
        b"[1795411480.104989]\t    [NEW] ipv6     10 udp      17 30 " + UDP6 + b" id=2971075834",
        {**UDP6_ROW, "event": 1, "time_ns": 1795411480_104989_000, "id": 2971075834},
    ),
    (
        "microseconds padded with blanks (%-6ld)",
        b"[1795411480.5054  ]\t[DESTROY] udp      17 " + UDP6,
        {**UDP6_ROW, "event": 3, "time_ns": 1795411480_005054_000},
    ),
    ("nanoseconds", b"[1795411480.005054001]\t[DESTROY] udp      17 " + UDP6, {"time_ns": 1795411480_005054_001}),
    (
        "accounting in both directions",
        (
            b"tcp      6 9 ESTABLISHED src=1.2.3.4 dst=5.6.7.8 sport=1 dport=2 packets=12 bytes=9 src=5.6.7.8 dst=1.2.3.4 sport=2 dport=1 "
            b"packets=0 bytes=0 [ASSURED] mark=16384 secctx=system_u:object_r:unlabeled_t:s0 zone=3 delta-time=17 use=2 id=7 labels=a,b"
        ),
        {"proto": 6, "flags": 3, "id": 7, "original": "1.2.3.4:1 > 5.6.7.8:2", "reply": "5.6.7.8:2 > 1.2.3.4:1", "start_ns": -1},
    ),
    (
        "unreplied with accounting and zones",
        (
            b"udp 17 29 src=1.2.3.4 dst=5.6.7.8 sport=1 dport=2 zone-orig=1 packets=1 bytes=2 [UNREPLIED] "
            b"src=5.6.7.8 dst=1.2.3.4 sport=2 dport=1 zone-reply=2 packets=0 bytes=0 mark=0 helper=tftp use=1 id=8"
        ),
        {"flags": 0, "id": 8},
    ),
    (
        "ICMP: the identifier stands for the ports, the other id is conntrack's",
        b"icmp     1 29 src=1.1.1.1 dst=2.2.2.2 type=8 code=0 id=4242 src=2.2.2.2 dst=1.1.1.1 type=0 code=0 id=4242 mark=0 use=1 id=99",
        {"proto": 1, "id": 99, "original": "1.1.1.1:4242 > 2.2.2.2:4242", "reply": "2.2.2.2:4242 > 1.1.1.1:4242"},
    ),
    (
        "ICMP without conntrack's id",
        b"icmp 1 9 src=1.1.1.1 dst=2.2.2.2 type=8 code=0 id=4242 [UNREPLIED] src=2.2.2.2 dst=1.1.1.1 type=0 code=0 id=4242 mark=0 use=1",
        {"proto": 1, "id": -1, "flags": 0, "reply_sport": 4242},
    ),
    (
        "ICMPv6",
        b"ipv6     10 icmpv6 58 29 src=fe80::1 dst=fe80::2 type=128 code=0 id=1 src=fe80::2 dst=fe80::1 type=129 code=0 id=1 use=1",
        {"proto": 58, "original": "[fe80::1]:1 > [fe80::2]:1"},
    ),
    (
        "protocols without ports",
        b"ipv4     2 unknown 2 577 src=10.244.0.1 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=10.244.0.1 use=1 id=1724938687",
        {"proto": 2, "original": "10.244.0.1:0 > 224.0.0.22:0", "id": 1724938687, "flags": 0},
    ),
    (
        "GRE's keys are no ports",
        b"gre      47 29 src=1.1.1.1 dst=2.2.2.2 srckey=0x0 dstkey=0x10 src=2.2.2.2 dst=1.1.1.1 srckey=0x10 dstkey=0x0 mark=0 use=1",
        {"proto": 47, "original": "1.1.1.1:0 > 2.2.2.2:0"},
    ),
    (
        "SCTP",
        b"sctp 132 9 CLOSED src=1.1.1.1 dst=2.2.2.2 sport=3641 dport=3868 src=2.2.2.2 dst=1.1.1.1 sport=3868 dport=3641 [ASSURED] use=1",
        {"proto": 132, "original": "1.1.1.1:3641 > 2.2.2.2:3868", "flags": 3},
    ),
    (
        "/proc/net/nf_conntrack, IPv6 written out, offloaded",
        (
            b"ipv6 10 tcp 6 src=fd00:0000:0000:0000:0000:0000:0000:0001 dst=0000:0000:0000:0000:0000:ffff:0a00:0001 sport=1 dport=2 "
            b"src=fd00:0010:0000:0000:0000:0000:0000:0009 dst=fd00:0000:0000:0000:0000:0000:0000:0001 sport=2 dport=1 [OFFLOAD] use=2"
        ),
        {"proto": 6, "original": "[fd00::1]:1 > 10.0.0.1:2", "reply": "[fd00:10::9]:2 > [fd00::1]:1", "flags": 1},
    ),
    ("a DOS line end", b"tcp      6 9 CLOSE " + TCP + b" mark=0 use=1 id=5\r", {**TCP_ROW, "id": 5}),
    ("-o userspace", b"    [NEW] tcp      6 120 SYN_SENT " + TCP + b" id=5 portid=123 [USERSPACE]", {**TCP_ROW, "id": 5}),
]


@pytest.mark.parametrize(("line", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_line_of_every_form_is_read(line: bytes, expected: dict[str, Any]) -> None:
    table, problems = read_ledger(line + b"\n", "f")
    assert problems == []
    assert size(table) == 1
    values = row(table)
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"tcp      6 9 CLOSE",
        b"tcp      six 9 CLOSE " + TCP,
        b"tcp      256 9 CLOSE " + TCP,
        b"tcp      6 9 CLOSE " + TCP.replace(b"16527", b"65536"),
        b"tcp      6 9 CLOSE " + TCP.replace(b"10.96.0.1", b"10.96.0.256"),
        b"tcp      6 9 CLOSE " + TCP.replace(b"10.96.0.1", b"10.96.0"),
        b"tcp      6 9 CLOSE " + TCP.replace(b"10.96.0.1", b"10.96..1"),
        b"tcp      6 9 CLOSE " + TCP.replace(b"dport=16527", b""),
        b"tcp      6 9 CLOSE " + TCP.replace(b"sport=6443 dport=16527", b""),
        b"tcp      6 9 CLOSE " + TCP.replace(b"dport=443", b"dport=443 dport=443"),
        b"tcp      6 9 CLOSE " + TCP + b" id=1 id=2",
        b"tcp      6 9 CLOSE " + TCP + b" src=1.1.1.1 dst=2.2.2.2",
        b"tcp      6 9 CLOSE dst=1.1.1.1 " + TCP,
        b"udp      17 9 " + UDP6.replace(b"fd00:20::a", b"fd00::20::a"),
        b"udp      17 9 " + UDP6.replace(b"fd00:20::a", b"fd00:20"),
        b"udp      17 9 " + UDP6.replace(b"fd00:20::a", b"1:2:3:4:5:6:7:8:9"),
        b"udp      17 9 " + UDP6.replace(b"fd00:20::a", b":"),
        b"[FLUSH] tcp      6 9 CLOSE " + TCP,
        b"[99999999999.1]\ttcp      6 9 CLOSE " + TCP,
        b"[1.1 tcp      6 9 CLOSE " + TCP,
    ],
)
def test_a_bad_line_is_counted_and_the_others_are_used(line: bytes) -> None:
    good = b"tcp      6 9 CLOSE " + TCP + b"\n"
    table, problems = read_ledger(good + b"\n# a comment\n" + line + b"\n" + good + line + b"\n", "f")
    assert size(table) == 2
    assert [(problem.offset, problem.severity) for problem in problems] == [(4, "warning")]
    assert "2 lines are not" in problems[0].what


def test_what_conntrack_itself_says_is_no_bad_line_but_lost_events_are_told() -> None:
    good = b"tcp      6 9 CLOSE " + TCP + b"\n"
    trailer = b"conntrack v1.4.8 (conntrack-tools): 1 flow entries have been shown.\n"
    assert read_ledger(good + trailer, "f")[1] == []
    assert read_ledger(good + trailer.rstrip(), "f")[1] == []
    lost = b"WARNING: We have hit ENOBUFS! We are losing events.\nThis message means that the current netlink socket buffer size is too "
    table, problems = read_ledger(good + lost + b"small.\nPlease, check --buffer-size in conntrack(8) manpage.\n" + good, "f")
    assert size(table) == 2
    assert [problem.offset for problem in problems] == [2]
    assert "lost events" in problems[0].what


@pytest.mark.parametrize("content", [b"", b"\n", b"   \n\n", b"\0\0\0", b"\xff" * 101, b"{", b"{}\n"])
def test_nothing_readable_is_an_empty_table(content: bytes) -> None:
    table, problems = read_ledger(content, "f")
    assert size(table) == 0
    assert (problems == []) == (not content.strip())


START = b"[start=Sun Nov 22 14:04:36 2026] use=1"
START_UTC_S = 1795356276


@pytest.mark.parametrize(
    ("line", "hours_ahead", "noted"),
    [
        (b"[1795356286.000001]\t[DESTROY] tcp      6 " + TCP + b" delta-time=10 " + START, 0, False),
        (b"[1795348986.900001]\t[DESTROY] tcp      6 " + TCP + b" delta-time=9910 " + START, 4.75, False),
        (b"tcp      6 9 CLOSE " + TCP + b" delta-time=9910 " + START, 0, True),
    ],
    ids=["UTC", "a node elsewhere", "unknown zone"],
)
def test_a_start_time_in_local_time_is_set_right_where_the_line_tells_the_zone(line: bytes, hours_ahead: float, noted: bool) -> None:
    table, problems = read_ledger(line + b"\n", "f")
    assert row(table)["start_ns"] == (START_UTC_S - hours_ahead * 3600) * 1_000_000_000
    assert [problem.severity for problem in problems] == ["note"] * noted


texts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
port = st.integers(0, 0xFFFF)
instant = st.one_of(st.just(-1), st.integers(0, (1 << 63) - 1))


@st.composite
def ledgers(draw: st.DrawFn) -> Table:
    count = draw(st.integers(0, 7))
    table: Table = {}
    for column in LEDGER.columns:
        largest = {"u8": (1 << 64) - 1, "u2": 0xFFFF}.get(column.dtype, 255)
        one = {"time_ns": instant, "start_ns": instant, "id": st.integers(-1, (1 << 32) - 1)}.get(column.name, st.integers(0, largest))
        one = {"event": st.integers(0, 3), "flags": st.integers(0, 3)}.get(column.name, one)
        table[column.name] = np.array(draw(st.lists(one, min_size=count, max_size=count)), column.dtype)
    return LEDGER.check(table)


@given(ledgers())
def test_json_lines_come_back_as_they_were(table: Table) -> None:
    back, problems = read_ledger("".join(write_jsonl(table)).encode(), "f")
    assert problems == []
    assert same(back, table)


def same(one: Table, other: Table) -> bool:
    return all(np.array_equal(one[column.name], other[column.name]) for column in LEDGER.columns)


@pytest.mark.parametrize(
    "line",
    [
        b'{"proto": 6}',
        b'{"proto": "carrier-pigeon", "original": {"src": "::", "dst": "::"}, "reply": {"src": "::", "dst": "::"}}',
        b'{"proto": 6, "original": {"src": "::", "dst": "::", "sport": 65536}, "reply": {"src": "::", "dst": "::"}}',
        b'{"proto": 6, "original": {"src": "::", "dst": "::", "sport": true}, "reply": {"src": "::", "dst": "::"}}',
        b'{"proto": 6, "original": [], "reply": null}',
        b"[1, 2]",
        b"\xff",
    ],
)
def test_a_json_line_that_is_no_entry_is_counted(line: bytes) -> None:
    good = b'{"proto": "udp", "original": {"src": "::", "dst": "::1"}, "reply": {"src": "::1", "dst": "::"}}'
    table, problems = read_ledger(good + b"\n" + line + b"\n" + good + b"\n", "f")
    assert size(table) == 2
    assert table["proto"].tolist() == [17, 17]
    assert [problem.offset for problem in problems] == [2]


WHOLE = b"".join(case[1] + b"\n" for case in CASES)


@settings(max_examples=300)
@given(st.integers(0, len(WHOLE)))
def test_a_file_cut_anywhere_gives_no_false_row(at: int) -> None:
    table, problems = read_ledger(WHOLE[:at], "f")
    whole = read_ledger(WHOLE, "f")[0]
    rows = size(table)
    assert rows <= size(whole)
    complete = WHOLE[:at].count(b"\n")
    assert complete <= rows <= complete + 1
    expected = take(whole, np.arange(rows))
    # Of a last line without its end, the id may be missing: it cannot be told from a cut one.
    if rows > complete and table["id"][-1] == -1:
        expected["id"][-1] = -1
    assert same(table, expected)
    assert [problem.severity for problem in problems] == ["note"] * bool(WHOLE[:at].rpartition(b"\n")[2].strip())


@given(st.binary(max_size=300), st.integers(0, len(WHOLE)))
def test_garbage_in_a_file_never_raises(garbage: bytes, at: int) -> None:
    for content in (garbage, WHOLE[:at] + garbage + WHOLE[at:], b'{"' + garbage):
        LEDGER.check(read_ledger(content, "f")[0])
        LEDGER.check(read_ip_vs_conn(content, "f")[0])


@given(texts, texts, port, port)
def test_addresses_are_read_as_the_standard_library_reads_them(one: str, other: str, sport: int, dport: int) -> None:
    line = f"tcp 6 src={one} dst={other} sport={sport} dport={dport} src={other} dst={one} sport={dport} dport={sport}\n"
    values = row(read_ledger(line.encode(), "f")[0])
    source, target = addresses.endpoint(*addresses.parse(one), sport), addresses.endpoint(*addresses.parse(other), dport)
    assert (values["original"], values["reply"]) == (f"{source} > {target}", f"{target} > {source}")


IP_VS_CONN = b"""# 1795411518.505739
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0AF40002 D2FC 0A600A01 0050 0AF40102 1F90 TIME_WAIT        25
UDP 0AF40004 CD7A 0A60000A 0035 0AF40204 0035 UDP             138
TCP 0AF40002 0000 0A600A01 0050 0AF40102 1F90 ASSURED          10
# 1795411529.042439
TCP fd00:0000:0000:0000:0000:0000:0000:0001 D2FC fd00::0002 0050 fd00:0000:0000:0000:0000:0000:0000:0003 1F90 NONE 25
"""


def test_ip_vs_conn_gives_client_virtual_address_and_backend_and_no_templates() -> None:
    table, problems = read_ip_vs_conn(IP_VS_CONN, "f")
    assert problems == []
    keys = ("time_ns", "proto", "flags", "original", "reply", "event")
    assert [tuple(row(table, number)[key] for key in keys) for number in range(size(table))] == [
        (1795411518_505739_000, 6, 1, "10.244.0.2:54012 > 10.96.10.1:80", "10.244.1.2:8080 > 10.244.0.2:54012", 0),
        (1795411518_505739_000, 17, 0, "10.244.0.4:52602 > 10.96.0.10:53", "10.244.2.4:53 > 10.244.0.4:52602", 0),
        (1795411529_042439_000, 6, 0, "[fd00::1]:54012 > [fd00::2]:80", "[fd00::3]:8080 > [fd00::1]:54012", 0),
    ]


def test_a_bad_or_cut_line_of_ip_vs_conn_is_told() -> None:
    table, problems = read_ip_vs_conn(IP_VS_CONN[:-30] + b"\nTCP 0AF40002 what\n", "f")
    assert size(table) == 2
    assert [(problem.offset, problem.severity) for problem in problems] == [(7, "warning")]
    table, problems = read_ip_vs_conn(IP_VS_CONN[:-30], "f")
    assert size(table) == 2
    assert [problem.severity for problem in problems] == ["note"]
