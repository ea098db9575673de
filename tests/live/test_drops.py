"""Why packets die, told by the running kernel: real drops in a network namespace of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.live.bpf import BpfError
from probes.live.clock import Clock
from probes.live.drops import Drops
from probes.live.symbols import Symbols

Lines = list[dict[str, Any]]
SENDER = """
import socket, sys
family, address, port, count = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sender = socket.socket(family, socket.SOCK_DGRAM)
sender.bind(("", 40007))
for _ in range(count):
    sender.sendto(b"hello", (address, port))
"""


@pytest.fixture
def place() -> Iterator[Callable[..., str]]:
    """A network namespace: runs a command in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces and eBPF")
    name = f"hop{os.getpid()}-drops"
    subprocess.run(["ip", "netns", "add", name], check=True)

    def run(*words: str, stdin: str | None = None) -> str:
        command = ["ip", "netns", "exec", name, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout

    run("ip", "link", "set", "lo", "up")
    yield run
    subprocess.run(["ip", "netns", "delete", name], check=True)


def probe(path: Path, *, details: bool) -> Drops:
    try:
        found = Drops(path, Clock(), details=details)
    except BpfError as error:
        pytest.skip(str(error))
    if details and found.why_counted is not None:
        found.close()
        pytest.skip(found.why_counted)
    return found


def send(place: Callable[..., str], address: str, port: int, count: int) -> None:
    place("python3", "-c", SENDER, address, str(port), str(count))


def recorded(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


def balanced(counters: dict[str, int]) -> bool:
    return counters["seen"] == counters["filtered"] + counters["written"] + counters["dropped"]


def test_each_drop_has_its_flow_its_reason_and_who_did_it(place: Callable[..., str], tmp_path: Path) -> None:
    place("nft", "-f", "-", stdin="table inet t { chain c { type filter hook input priority 0; udp dport 7001 drop; }; }")
    drops = probe(tmp_path / "n.drops.jsonl", details=True)
    send(place, "127.0.0.1", 7001, 23)
    send(place, "::1", 7002, 7)
    drops.close()
    lines = recorded(tmp_path / "n.drops.jsonl")
    netns = int(place("stat", "-L", "-c", "%i", "/proc/self/ns/net"))
    here = [line for line in lines if line["netns"] == netns]
    told = Counter((line["event"], line["reason"], str(line["location"]).partition("+")[0], line["dst"], line["dport"]) for line in here)
    # nft_do_chain frees by itself since it knows the reason (kernel commit e0d4593140b0), before that its caller
    assert sum(told["drop", "NETFILTER_DROP", function, "127.0.0.1", 7001] for function in ("nf_hook_slow", "nft_do_chain")) == 23
    assert told["drop", "NO_SOCKET", "__udp6_lib_rcv", "::1", 7002] == 7
    assert {(line["proto"], line["sport"], line["ifindex"], line["seq"], line["tcp_flags"]) for line in here} >= {
        (17, 40007, 1, None, None)
    }
    times = [line["time_ns"] for line in here]
    assert times == sorted(times)


def test_without_kernel_memory_drops_are_counted_by_reason_and_place(place: Callable[..., str], tmp_path: Path) -> None:
    drops = probe(tmp_path / "n.drops.jsonl", details=False)
    send(place, "127.0.0.1", 7001, 101)
    drops.close()
    lines = recorded(tmp_path / "n.drops.jsonl")
    assert all("src" not in line and line["since_ns"] < line["time_ns"] for line in lines)
    found = sum(
        line["count"] for line in lines if (line["reason"], str(line["location"]).partition("+")[0]) == ("NO_SOCKET", "__udp4_lib_rcv")
    )
    assert found >= 101  # the whole machine is counted, not one namespace


@pytest.mark.parametrize("details", [True, False])
def test_every_event_is_written_or_counted_as_dropped(place: Callable[..., str], tmp_path: Path, *, details: bool) -> None:
    drops = probe(tmp_path / "n.drops.jsonl", details=details)
    send(place, "127.0.0.1", 7001, 4999)  # more than the ring holds
    drops.drain()
    send(place, "127.0.0.1", 7001, 23)
    drops.close()
    counters = drops.counters()
    lines = recorded(tmp_path / "n.drops.jsonl")
    assert balanced(counters)
    assert counters["seen"] >= 5022
    assert counters["written"] == sum(line.get("count", 1) for line in lines)
    assert (counters["dropped"] > 0) == details


def test_a_full_disk_is_counted_and_leaves_whole_lines(place: Callable[..., str], tmp_path: Path) -> None:
    drops = probe(Path("/dev/full"), details=True)
    send(place, "127.0.0.1", 7001, 23)
    drops.drain()
    counters = drops.counters()
    drops.close()
    assert counters["written"] == 0
    assert counters["dropped"] >= 23


def test_addresses_between_functions_are_named_after_the_one_before(tmp_path: Path) -> None:
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(
        "ffffffff81000000 T first\nffffffff81000100 d table\nffffffff81000200 t second\nffffffffc0000000 t third\t[module]\n"
    )
    names = Symbols(kallsyms).names(
        [0xFFFFFFFF81000000, 0xFFFFFFFF810001FF, 0xFFFFFFFF81000201, 0xFFFFFFFFC0000010, 0xFFFFFFFFC1000000, 16]
    )
    assert names == {
        0xFFFFFFFF81000000: "first+0x0", 0xFFFFFFFF810001FF: "first+0x1ff", 0xFFFFFFFF81000201: "second+0x1",
        0xFFFFFFFFC0000010: "third+0x10", 0xFFFFFFFFC1000000: None, 16: None,
    }  # fmt: skip
