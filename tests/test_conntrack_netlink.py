"""ctnetlink messages to rows of the ledger: attribute by attribute, damaged, and as fast as a busy node writes them."""

from __future__ import annotations

import io
import ipaddress
import re
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLES
from hypothesis import given
from hypothesis import strategies as st
from pace import ratio
from test_conntrack import row

from analysis.records import Recorder
from probes import addresses
from probes.conntrack import read_ledger
from probes.conntrack.messages import ENTRY, LINK_TYPE
from probes.conntrack.netlink import read_netlink, remark
from probes.live.pcapng import InterfaceDescription, interface_description, packet_blocks, section_header
from probes.schema import LEDGER, Table, size
from tracer.bundle import read_bundle
from tracer.trace import trace

REQUEST, MULTI, CREATED = 0x1, 0x2, 0x600
NEW, GET, DELETE = 0x100, 0x101, 0x102
SEEN_REPLY, IS_ASSURED = 2, 4
AT_NS = 1_795_411_480_104_989_001
V4, V6 = ("10.244.0.5", "10.96.0.1"), ("fd00:10::5", "fd00:20::a")


def attribute(kind: int, *content: bytes, order: str = "<") -> bytes:
    body = b"".join(content)
    return struct.pack(f"{order}HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)


def nested(kind: int, *content: bytes, order: str = "<") -> bytes:
    return attribute(kind | 0x8000, *content, order=order)


def tuple_of(kind: int, ends: tuple[str, str], ports: tuple[int, int], proto: int = 6, order: str = "<") -> bytes:
    src, dst = (ipaddress.ip_address(end) for end in ends)
    first = 1 if src.version == 4 else 3
    ip = nested(1, attribute(first, src.packed, order=order), attribute(first + 1, dst.packed, order=order), order=order)
    numbers = [attribute(2 + at, struct.pack(">H", port), order=order) for at, port in enumerate(ports)]
    if proto in (1, 58):
        base = 4 if proto == 1 else 7
        numbers = [
            attribute(base, struct.pack(">H", ports[0]), order=order),
            attribute(base + 1, bytes([8]), order=order),
            attribute(base + 2, bytes([0]), order=order),
        ]
    return nested(kind, ip, nested(2, attribute(1, bytes([proto]), order=order), *numbers, order=order), order=order)


def message(*attributes: bytes, kind: int = NEW, flags: int = CREATED, order: str = "<") -> bytes:
    body = bytes([2, 0, 0, 0]) + b"".join(attributes)
    return struct.pack(f"{order}IHHII", 16 + len(body), kind, flags, 0, 0) + body


def entry(*more: bytes, ends: tuple[str, str] = V4, proto: int = 6, order: str = "<", **of_message: Any) -> bytes:
    ports = (40001, 443) if proto not in (1, 58) else (77, 77)
    tuples = tuple_of(1, ends, ports, proto, order), tuple_of(2, ends[::-1], ports[::-1], proto, order)
    return message(*tuples, *more, order=order, **of_message)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def moment(kind: int, time_ns: int) -> bytes:
    return attribute(kind, struct.pack(">Q", time_ns))


def capture(
    *datagrams: bytes, family: int = 12, link_type: int = LINK_TYPE, comment: str | None = None, cut: int = 0, time_ns: Any = AT_NS
) -> bytes:
    """A file of datagrams, each of one or more messages, `cut` bytes shorter than they were."""
    frames = [struct.pack(">HH10xH", 0, 824, family) + datagram for datagram in datagrams]
    sizes = np.array([len(frame) for frame in frames], "u4")
    file = section_header(comments=[comment] if comment else []) + interface_description(InterfaceDescription("conntrack", link_type))
    columns = (np.zeros(len(frames), "u4"), np.full(len(frames), time_ns, "i8"), sizes, np.zeros(len(frames), "u1"))
    offset = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype("i8") if frames else np.zeros(0, "i8")
    return file + packet_blocks(*columns, offset, sizes - np.uint32(cut), np.frombuffer(b"".join(frames), "u1")).tobytes()


def read(content: bytes) -> tuple[dict[str, Any], list[Any]]:
    return read_netlink(io.BytesIO(content), "node-a.conntrack.pcapng")


STATUS = number(3, SEEN_REPLY | IS_ASSURED | 0x188)
CASES: list[tuple[str, bytes, dict[str, Any]]] = [
    ("new", entry(number(12, 4_000_000_001)), {"event": 1, "id": 4_000_000_001, "flags": 1, "time_ns": AT_NS, "start_ns": -1}),
    ("update", entry(STATUS, flags=0), {"event": 2, "flags": 3}),
    ("destroy", entry(number(3, 8), kind=DELETE, flags=0), {"event": 3, "flags": 0}),
    ("an entry of a dump", entry(STATUS, flags=MULTI), {"event": 0, "flags": 3, "proto": 6}),
    ("IPv4", entry(), {"original": "10.244.0.5:40001 > 10.96.0.1:443", "reply": "10.96.0.1:443 > 10.244.0.5:40001"}),
    ("IPv6", entry(ends=V6), {"original": "[fd00:10::5]:40001 > [fd00:20::a]:443", "reply": "[fd00:20::a]:443 > [fd00:10::5]:40001"}),
    ("UDP", entry(proto=17), {"proto": 17, "original_sport": 40001, "original_dport": 443}),
    ("SCTP", entry(proto=132), {"proto": 132, "reply_sport": 443, "reply_dport": 40001}),
    ("ICMP's identifier stands for the ports", entry(proto=1), {"proto": 1, "original_sport": 77, "original_dport": 77, "reply_sport": 77}),
    ("ICMPv6's too", entry(proto=58, ends=V6), {"proto": 58, "original_sport": 77, "original_dport": 77, "reply_dport": 77}),
    ("GRE's keys are no ports", entry(proto=47), {"proto": 47, "original_sport": 0, "reply_dport": 0}),
    ("conntrack's start", entry(nested(20, moment(1, 77)), flags=MULTI), {"start_ns": 77, "time_ns": AT_NS}),
    ("conntrack's end", entry(nested(20, moment(1, 77), moment(2, 99)), kind=DELETE, flags=0), {"start_ns": 77, "time_ns": 99}),
    ("the event's own time", entry(moment(27, 88)), {"time_ns": 88}),
    ("attributes that nobody needs", entry(number(7, 120), nested(4, nested(1, attribute(1, b"\1"))), number(12, 5)), {"id": 5}),
    ("the other byte order", entry(ends=V6, order=">"), {"event": 1, "original": "[fd00:10::5]:40001 > [fd00:20::a]:443", "proto": 6}),
]


@pytest.mark.parametrize(("content", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_message_becomes_a_row(content: bytes, expected: dict[str, Any]) -> None:
    table, problems = read(capture(content))
    assert not problems
    assert size(table) == 1
    assert {name: row(table)[name] for name in expected} == expected


def test_rows_lie_in_memory_as_the_ledger_has_them() -> None:
    rows = np.zeros(1, ENTRY)
    rows["halves"], rows["ports"] = np.arange(8), np.arange(10, 14)
    rows["time_ns"], rows["start_ns"], rows["id"], rows["proto"], rows["event"], rows["flags"] = range(20, 26)
    names = [column.name for column in LEDGER.columns]
    seen = rows.view(LEDGER.dtype)[0]
    assert [seen[name] for name in names] == [20, 21, 22, *range(8), *range(10, 14), 23, 24, 25]


def test_messages_share_a_datagram_and_others_are_passed_over() -> None:
    done = struct.pack("<IHHIIi", 20, 3, MULTI, 0, 0, 0)
    expectation = message(tuple_of(1, V4, (1, 2)), kind=0x200)
    request = entry(flags=CREATED | REQUEST)
    table, problems = read(capture(entry(number(12, 1)) + expectation + entry(number(12, 2)) + done, request, entry(number(12, 3)), b""))
    assert not problems
    assert table["id"].tolist() == [1, 2, 3]


def test_other_families_and_packets_are_no_ledger() -> None:
    assert size(read(capture(entry(), family=0))[0]) == 0
    table, problems = read(capture(entry(), link_type=1))
    assert size(table) == 0
    assert ["no netlink messages" in problem.what for problem in problems] == [True]


BROKEN: list[tuple[str, bytes]] = [
    ("no reply tuple", message(tuple_of(1, V4, (1, 2)))),
    ("no original tuple", message(tuple_of(2, V4, (1, 2)))),
    ("a tuple without a protocol", message(nested(1, nested(1)), tuple_of(2, V4, (1, 2)))),
    ("an attribute longer than its message", entry(number(7, 5))[:-8] + struct.pack("<HHI", 80, 7, 5)),
    ("an attribute shorter than its header", entry(number(7, 5))[:-8] + struct.pack("<HHI", 3, 7, 5)),
    ("a message longer than its datagram", entry()[:-8]),
    ("a message shorter than its header", struct.pack("<IHHII", 12, NEW, CREATED, 0, 0)),
    ("less than a header", b"\x60\0\0\0\0"),
]  # fmt: skip


@pytest.mark.parametrize("content", [case[1] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_said_once_and_the_rest_is_used(content: bytes) -> None:
    table, problems = read(capture(entry(number(12, 1)), content, content, entry(number(12, 2))))
    assert table["id"].tolist() == [1, 2]
    assert len(problems) == 1
    assert problems[0].what.startswith("2 messages are damaged or cut; the first is in frame 2")


def test_a_cut_capture_gives_no_half_entries() -> None:
    table, problems = read(capture(entry(number(12, 1)), cut=4))
    assert size(table) == 0
    assert problems


@given(st.binary(max_size=300), st.integers(0, 200))
def test_noise_never_raises(noise: bytes, at: int) -> None:
    whole = bytearray(entry(STATUS, number(12, 9)))
    whole[at : at + len(noise)] = noise
    table, _ = read(capture(bytes(whole), entry(number(12, 2))))
    assert table["id"].tolist()[-1:] == [2]


def test_zones_are_named() -> None:
    zone = attribute(18, struct.pack(">H", 7))
    table, problems = read(capture(entry(zone)))
    assert size(table) == 1
    assert "zones (7)" in problems[0].what


def test_the_recorders_remarks_are_problems_and_other_comments_are_not() -> None:
    told = remark("5 events are missing (between a and b)", "look at it")
    _, problems = read(capture(entry(), comment=told))
    assert [(problem.what, problem.remedy) for problem in problems] == [("5 events are missing (between a and b)", "look at it")]
    assert not read(capture(entry(), comment="hello"))[1]


def test_reading_takes_hardly_longer_than_stepping_from_message_to_message() -> None:
    content = capture(*[entry(STATUS, number(12, 9), ends=V6)] * 200_000)

    def step() -> None:
        at = 0
        while at < len(content):
            at += struct.unpack_from("I", content, at + 4)[0]

    assert size(read(content)[0]) == 200_000
    assert ratio(lambda: read(content), step) < 3


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed (apt-get install tshark)")
def test_wireshark_reads_the_same_ends(tmp_path: Path) -> None:
    path = tmp_path / "node-a.conntrack.pcapng"
    path.write_bytes(capture(entry(STATUS), entry(ends=V6, proto=17), comment=remark("5 events are missing", "look at it")))
    names = ("nfct_tuple.ip.ip_addr", "nfct_tuple.ip.ip6_addr", "nfct_tuple.proto.src_port", "nfct_tuple.proto.dst_port")
    fields = [word for name in names for word in ("-e", f"netlink-netfilter.{name}")]
    done = subprocess.run(["tshark", "-r", path, "-T", "fields", *fields], capture_output=True, text=True, check=True)
    table, _ = read(path.read_bytes())
    told = []
    for at in range(size(table)):
        texts = [
            addresses.text(table[f"{end}_hi"][at].item(), table[f"{end}_lo"][at].item())
            for end in ("original_src", "original_dst", "reply_src", "reply_dst")
        ]
        both = [",".join(str(table[f"{side}_{port}"][at]) for side in ("original", "reply")) for port in ("sport", "dport")]
        told.append("\t".join([",".join(texts), "", *both] if at == 0 else ["", ",".join(texts), *both]))
    assert done.stdout.splitlines() == told


def as_netlink(table: Table) -> bytes:
    """A file of messages that say what a ledger says."""
    kinds = {0: (NEW, MULTI), 1: (NEW, CREATED), 2: (NEW, 0), 3: (DELETE, 0)}
    datagrams = []
    for at in range(size(table)):
        of = {name: column[at].item() for name, column in table.items()}
        tuples = []
        for kind, side in ((1, "original"), (2, "reply")):
            src, dst = (addresses.text(of[f"{side}_{end}_hi"], of[f"{side}_{end}_lo"]) for end in ("src", "dst"))
            tuples.append(tuple_of(kind, (src, dst), (of[f"{side}_sport"], of[f"{side}_dport"]), of["proto"]))
        status = number(3, SEEN_REPLY * (of["flags"] & 1) + IS_ASSURED * (of["flags"] >> 1))
        kind, flags = kinds[of["event"]]
        datagrams.append(message(*tuples, status, number(12, of["id"]), kind=kind, flags=flags))
    return capture(*datagrams, time_ns=np.maximum(table["time_ns"], 0))


@cache
def told_by(*forms: str) -> list[Any]:
    """The records of a sample, whose ledgers are there in these forms."""
    sample = SAMPLES / "iptables"
    with tempfile.TemporaryDirectory() as folder:
        for path in sample.iterdir():
            node, _, rest = path.name.partition(".")
            if not rest.startswith("conntrack-"):
                shutil.copy(path, folder)
                continue
            text = path.read_bytes()
            table, _ = read_ledger(text, path.name)
            content = {"text": text, "text without ids": re.sub(rb" id=\d+$", b"", text, flags=re.MULTILINE), "netlink": as_netlink(table)}
            for form in forms:
                name = f"{path.stem}.pcapng" if form == "netlink" else f"{path.stem}-{form.replace(' ', '-')}.txt"
                (Path(folder) / name).write_bytes(content[form])
            again, problems = read_netlink(io.BytesIO(content["netlink"]), node)
            assert not problems
            assert all(np.array_equal(again[column], table[column]) for column in table if column not in {"time_ns", "start_ns"})
        return list(Recorder(trace(read_bundle([Path(folder)]))))


@pytest.mark.parametrize(
    "forms", [("netlink",), ("text", "netlink"), ("text without ids", "netlink")], ids=["instead", "beside", "beside without ids"]
)
def test_a_ledger_says_the_same_as_text_as_netlink_and_twice(forms: tuple[str, ...]) -> None:
    assert told_by(*forms) == told_by("text")
    assert any("conntrack" in record["evidence"] for record in told_by("text"))
