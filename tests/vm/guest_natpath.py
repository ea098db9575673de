"""The time that NAT takes of a connection's first packet, measured in the functions that take it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from probes.live.clock import Clock
from probes.live.natpath import NatPath

from .network import CLIENT, FLAVOURS, PORT, VIP, Network, network

Call = dict[str, Any]
# flavour: what evaluates its rules at which hook, with what the file says of the rules
RULES = {
    "iptables-legacy": (("ipt_do_table", "prerouting", "nat", "nat", None), ("ipt_do_table", "postrouting", "nat", "nat", None)),
    "iptables-nft": (
        ("nft_do_chain", "prerouting", "nat", "nat", "PREROUTING"),
        ("nft_do_chain", "postrouting", "nat", "nat", "POSTROUTING"),
    ),
    "nftables": (
        ("nft_do_chain", "prerouting", "nat", "kube-proxy", "nat-prerouting"),
        ("nft_do_chain", "postrouting", "nat", "kube-proxy", "nat-postrouting"),
    ),
    "ipvs": (("ip_vs_in_hook", "input", None, None, None), ("ip_vs_schedule", None, None, None, None)),
}  # fmt: skip
KEYS = ("function", "hook", "type", "table", "chain")


def recorded(net: Network, path: Path, count: int, **options: float) -> tuple[dict[int, list[Call]], NatPath]:
    """The calls for `count` connections to the Service, by the client's port."""
    probe = NatPath(path, Clock(), netns=net.path("node"), **options)  # type: ignore[arg-type]
    ports = net.ask(0, socket.SOCK_STREAM, count)
    probe.close()
    calls: dict[int, list[Call]] = defaultdict(list)
    for call in map(json.loads, path.read_text().splitlines()):
        if (call["src"], call["dst"], call["dport"], call["proto"]) == (CLIENT[0], VIP[0], PORT, 6):
            calls[call["sport"]].append(call)
    assert set(calls) <= set(ports)
    return calls, probe


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_first_packet_has_the_time_of_each_function_and_rule_set(flavour: str, tmp_path: Path) -> None:
    with network("natpath") as net:
        net.rules(flavour)
        net.ask(0, socket.SOCK_STREAM, 1)
        calls, probe = recorded(net, tmp_path / "n.natpath.jsonl", 23)
    assert len(calls) == 23
    for each in calls.values():
        named = [tuple(call[key] for key in KEYS) for call in each]
        for expected in RULES[flavour]:
            assert named.count(expected) == 1, (expected, named)
        assert all(call["inside_ns"] > 0 for call in each)
        outer = {(call["hook"], call["depth"]): call for call in each if call["function"] in ("nf_nat_inet_fn", "ip_vs_in_hook")}
        for call in each:
            around = outer.get((call["hook"], call["depth"] - 1))
            if around:
                assert around["time_ns"] <= call["time_ns"]
                assert call["time_ns"] + call["inside_ns"] <= around["time_ns"] + around["inside_ns"]
    counters = probe.counters()
    assert counters["seen"] == counters["written"] + counters["dropped"]
    assert counters["dropped"] == 0


def test_more_rules_take_more_time(tmp_path: Path) -> None:
    def evaluation_ns(name: str) -> float:
        calls, _ = recorded(net, tmp_path / name, 23)
        rules = [call for each in calls.values() for call in each if call["function"] == "ipt_do_table" and call["hook"] == "prerouting"]
        return median(call["inside_ns"] for call in rules)

    with network("rules") as net:
        net.rules("iptables-legacy")
        net.ask(0, socket.SOCK_STREAM, 1)
        few = evaluation_ns("few")
        rules = [f"-I SERVICES -d 10.97.{number // 250}.{number % 250}/32 -p tcp --dport 80 -j RETURN" for number in range(4999)]
        net.run("node", "iptables-legacy-restore", "--noflush", stdin="\n".join(["*nat", *rules, "COMMIT", ""]))
        many = evaluation_ns("many")
    assert many > 2 * few


def kept(isn: int, seed: int, sample: float) -> bool:
    """MurmurHash3 of protocol and initial sequence number, as sample.h has it."""
    h = seed
    for word in (6, isn):
        mixed = word * 0xCC9E2D51 & 0xFFFFFFFF
        h ^= (mixed << 15 | mixed >> 17) * 0x1B873593 & 0xFFFFFFFF
        h = ((h << 13 | h >> 19) * 5 + 0xE6546B64) & 0xFFFFFFFF
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return (h ^ h >> 16) < sample * (1 << 32)


def test_a_sample_is_of_whole_connections_that_every_node_would_choose(tmp_path: Path) -> None:
    with network("sample") as net:
        net.rules("nftables")
        net.ask(0, socket.SOCK_STREAM, 1)
        file = tmp_path / "client.pcap"
        command = ["ip", "netns", "exec", net.path("client").name, "tcpdump", "-i", "eth0", "-U", "-w", str(file)]
        capture = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(4)
        calls, _ = recorded(net, tmp_path / "n.natpath.jsonl", 101, sample=0.5, seed=7)
        time.sleep(4)
        capture.terminate()
        capture.wait()
        syns = net.run("client", "tcpdump", "-nn", "-S", "-r", str(file), "tcp[tcpflags] == tcp-syn")
    isns = {int(port): int(isn) for port, isn in re.findall(r"10\.1\.0\.2\.(\d+) > .* seq (\d+)", syns)}
    assert len(isns) == 101
    assert set(calls) == {port for port, isn in isns.items() if kept(isn, 7, 0.5)}
    assert 25 < len(calls) < 76
    assert {len(each) for each in calls.values()} == {len(next(iter(calls.values())))}
