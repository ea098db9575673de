"""What kernels told of drops and of time inside NAT, tied to the connections of a sample."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import SAMPLES, Hopline, traced_sample

from analysis.contract import SCHEMA
from analysis.records import Record, Recorder
from probes.drops import Place, read_drops
from probes.natpath import Step, read_natpath
from probes.schema import size
from tracer.bundle import read_bundle
from tracer.trace import trace

SAMPLE = SAMPLES / "iptables"
SECOND_NS = 1_000_000_000
Bundle = Callable[..., list[Record]]


@pytest.fixture
def traced_with(tmp_path: Path) -> Bundle:
    """The sample's records where `told` lies beside it: file name, then its lines."""

    def run(**told: list[dict[str, Any]]) -> list[Record]:
        folder = tmp_path / "bundle"
        shutil.copytree(SAMPLE, folder)
        for kind, lines in told.items():
            (folder / f"node-a.{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return list(Recorder(trace(read_bundle([folder]))))

    return run


@cache
def translated_record() -> tuple[int, Record]:
    """The first connection that node-a translates both ways, and its place."""
    records = list(Recorder(traced_sample(SAMPLE)))
    return next((at, r) for at, r in enumerate(records) if [t["node"] for t in r["translations"]] == ["node-a"] and r["protocol"] == "tcp"
                and r["translations"][0]["kinds"] == ["dnat", "snat"])  # fmt: skip


def isn_of(place: int) -> int:
    tables = traced_sample(SAMPLE).tables
    row = next(
        row for row, connection in zip(tables.hops["row"].tolist(), tables.hops["connection"].tolist(), strict=True) if connection == place
    )
    return int(tables.observations["seq"][row])


def ends(text: str) -> dict[str, Any]:
    (src, sport), (dst, dport) = (end.rsplit(":", 1) for end in text.split(" > "))
    return {"proto": 6, "src": src, "sport": int(sport), "dst": dst, "dport": int(dport)}


def turned(text: str) -> str:
    return " > ".join(reversed(text.split(" > ")))


def drop(time_ns: int, tuple_: str, reason: str = "NETFILTER_DROP", **more: Any) -> dict[str, Any]:
    return {"time_ns": time_ns, "event": "drop", "reason": reason, "location": "nf_hook_slow+0xb6", **ends(tuple_), **more}


UNSEEN = "172.30.0.100:9 > 10.244.9.9:99"  # nobody's tuple
OTHERS = "172.30.0.100:9 > 172.30.0.11:30080"
# name: lines (made of the record, its first time and its ISN), and what its record says then
DROP_CASES: dict[str, tuple[Callable[[Record, int, int], list[dict[str, Any]]], list[str]]] = {
    "before NAT": (
        lambda r, t, isn: [drop(t + 5000, r["translations"][0]["before"], tcp_flags=2)],
        ["node-a dropped its SYN: NETFILTER_DROP in nf_hook_slow"],
    ),
    "after NAT, three times": (
        lambda r, t, isn: [drop(t + n, r["translations"][0]["after"], tcp_flags=2) for n in (1, 2, 3)],
        ["node-a dropped its SYN 3 times: NETFILTER_DROP in nf_hook_slow"],
    ),
    "answer": (
        lambda r, t, isn: [drop(t + 9000, turned(r["translations"][0]["before"]), "QDISC_DROP", tcp_flags=18)],
        ["node-a dropped its SYN-ACK: QDISC_DROP in nf_hook_slow"],
    ),
    "packets": (
        lambda r, t, isn: [drop(t + n, turned(r["translations"][0]["after"]), tcp_flags=16) for n in (1, 2)],
        ["node-a dropped its answer's packet (2 of them): NETFILTER_DROP in nf_hook_slow"],
    ),
    "SYN between translation and the next interface": (
        lambda r, t, isn: [drop(t + 50_000, UNSEEN, tcp_flags=2, seq=isn)],
        ["node-a dropped its SYN: NETFILTER_DROP in nf_hook_slow"],
    ),
    "another SYN of an unseen tuple": (lambda r, t, isn: [drop(t + 50_000, UNSEEN, tcp_flags=2, seq=isn ^ 1)], []),
    "no SYN": (lambda r, t, isn: [drop(t + 50_000, UNSEEN, tcp_flags=16, seq=isn)], []),
    "another time": (lambda r, t, isn: [drop(t - 5 * SECOND_NS, r["translations"][0]["before"], tcp_flags=2)], []),
    "a copy for somebody else": (lambda r, t, isn: [drop(t, r["translations"][0]["before"], "PACKET_SOCK_ERROR")], []),
    "an ACK that was overtaken": (lambda r, t, isn: [drop(t, r["translations"][0]["before"], "TCP_RFC7323_PAWS_ACK", tcp_flags=16)], []),
    "sent again": (lambda r, t, isn: [drop(t, r["translations"][0]["before"]) | {"event": "retransmit", "reason": None}], []),
    "nobody's": (lambda r, t, isn: [drop(t, OTHERS, tcp_flags=2)], []),
}  # fmt: skip


@pytest.mark.parametrize("case", DROP_CASES)
def test_a_drop_is_told_by_the_record_of_its_connection_alone(case: str, traced_with: Bundle) -> None:
    lines, expected = DROP_CASES[case]
    place, before = translated_record()
    records = traced_with(drops=lines(before, before["hops"][0]["time_ns"], isn_of(place)))
    plain = list(Recorder(traced_sample(SAMPLE)))
    assert records[place]["problems"] == [*before["problems"], *expected]
    assert [r for at, r in enumerate(records) if at != place] == [r for at, r in enumerate(plain) if at != place]


def test_drops_that_were_only_counted_are_a_note(tmp_path: Path, hopline: Hopline) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(SAMPLE, folder)
    lines = [{"time_ns": n, "since_ns": 0, "event": "drop", "reason": "NO_SOCKET", "location": "udp_rcv+0x1", "count": 23} for n in (1, 2)]
    (folder / "node-a.drops.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    bundle = read_bundle([folder])
    assert [(p.what, p.severity) for p in bundle.problems if "drops" in p.file] == [
        ("46 packets of flows not told were dropped there: NO_SOCKET in udp_rcv", "note")
    ]


def call(time_ns: int, function: str, hook: str | None, inside_ns: int, depth: int, *rules: str | None) -> dict[str, Any]:
    type_, table, chain = rules or (None, None, None)
    return {
        "time_ns": time_ns, "inside_ns": inside_ns, "function": function, "hook": hook, "depth": depth, "type": type_, "table": table,
        "chain": chain,
    }  # fmt: skip


def test_a_translation_has_what_its_rules_took(traced_with: Bundle) -> None:
    place, before = translated_record()
    time_ns, original = before["hops"][0]["time_ns"], ends(before["translations"][0]["before"])
    packet = [
        call(time_ns + 100, "nf_nat_inet_fn", "prerouting", 90_000, 0),
        call(time_ns + 200, "ipt_do_table", "prerouting", 84_000, 1, "nat", "nat", None),
        call(time_ns + 99_000, "ipt_do_table", "forward", 3_000, 0, "filter", "filter", None),
        call(time_ns + 110_000, "ipt_do_table", "postrouting", 2_000, 1, "nat", "nat", None),
    ]  # fmt: skip
    again = [each | {"time_ns": each["time_ns"] + 300_000, "inside_ns": 1} for each in packet]  # the SYN came twice
    elsewhen = [each | {"time_ns": each["time_ns"] - 60 * SECOND_NS} for each in packet]
    told = [each | original for each in (*elsewhen, packet[1], packet[0], *packet[2:], *again)]
    record = traced_with(natpath=told)[place]
    (translation,) = record["translations"]
    assert translation["evaluation_ns"] == 86_000
    assert translation["calls"] == packet
    jsonschema.validate(record, SCHEMA)
    assert {key: value for key, value in translation.items() if key not in ("evaluation_ns", "calls")} == before["translations"][0]


def test_explain_says_what_the_rules_took(tmp_path: Path, hopline: Hopline) -> None:
    _, before = translated_record()
    folder = tmp_path / "bundle"
    shutil.copytree(SAMPLE, folder)
    line = call(before["hops"][0]["time_ns"], "nft_do_chain", "prerouting", 84_000, 0, "nat", "kube-proxy", "nat-prerouting")
    (folder / "node-a.natpath.jsonl").write_text(json.dumps(line | ends(before["translations"][0]["before"])) + "\n")
    told = hopline("explain", folder, before["id"], "--no-packets", columns=None).out
    assert "rule evaluation 84.0 µs (nft_do_chain kube-proxy nat-prerouting 84.0 µs)" in told


READERS = {"drops": (read_drops, drop(7, OTHERS, seq=1)), "natpath": (read_natpath, call(7, "nft_do_chain", None, 1, 0) | ends(OTHERS))}
BAD: tuple[dict[str, Any], ...] = (
    {"time_ns": -1}, {"time_ns": 1.5}, {"time_ns": True}, {"src": "nowhere"}, {"sport": 65536}, {"proto": 256}, {"dst": None},
    {"sport": "x"},
)  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_lines_that_are_none_are_one_problem_and_cost_no_other_line(kind: str, wrong: dict[str, Any]) -> None:
    read, good = READERS[kind]
    lines = [json.dumps(line) for line in (good, good | wrong, good)]
    found, problems = read("\n".join([*lines, ""]).encode(), f"n.{kind}.jsonl")
    assert size(found.table) == 2
    assert [problem.offset for problem in problems] == [2]
    cut, problems = read("\n".join([*lines[:1], lines[2][:-9]]).encode(), f"n.{kind}.jsonl")
    assert size(cut.table) == 1
    assert [problem.severity for problem in problems] == ["note"]


def test_what_is_read_is_what_was_written() -> None:
    found, _ = read_drops(json.dumps(drop(7, OTHERS, seq=1, tcp_flags=2)).encode(), "f")
    assert found.places == [Place("NETFILTER_DROP", "nf_hook_slow")]
    assert {name: column.tolist() for name, column in found.table.items()} | {"src_hi": 0, "dst_hi": 0} == {
        "time_ns": [7], "count": [1], "src_hi": 0, "src_lo": [0xFFFFAC1E0064], "dst_hi": 0, "dst_lo": [0xFFFFAC1E000B], "seq": [1],
        "place": [0], "sport": [9], "dport": [30080], "proto": [6], "tcp_flags": [2], "event": [0],
    }  # fmt: skip
    path, _ = read_natpath(json.dumps(call(7, "ip_vs_schedule", None, 5, 2) | ends(OTHERS)).encode(), "f")
    assert path.steps == [Step("ip_vs_schedule", None, None, None, None)]
    assert [path.table[name].tolist() for name in ("time_ns", "inside_ns", "depth")] == [[7], [5], [2]]
