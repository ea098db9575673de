"""An older kernel's verifier accepts the programs that need no kprobes, in every form, and they see what they are to see."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from probes.live.bpf import Program
from probes.live.clock import Clock
from probes.live.ledger.datagrams import COOKED
from probes.live.ledger.tap import SOURCE as TAP
from probes.live.packets.probe import SOURCE as PACKETS
from probes.live.sockets import SocketProbe, ThreadProbe

BY_NET, BY_PORT, BY_ENDPOINT, TRACK = 1, 2, 4, 8  # in packets.c
CONNECTIONS = 23


@pytest.mark.parametrize("conditions", [0, TRACK, BY_NET | BY_PORT | BY_ENDPOINT | TRACK])
def test_packets(conditions: int) -> None:
    with Program(PACKETS, {"RINGS": 2, "CONDITIONS": conditions, "FLOWS": 1024, "TC": 1}) as program:
        program.load("see_packet", "socket_filter")
        program.load("see_ingress", "sched_cls")
        program.load("see_egress", "sched_cls")


def test_the_ledger_s_short_way() -> None:
    with Program(TAP, {"RING_BYTES": 1 << 16, "COOKED_0": COOKED[0], "COOKED_3": COOKED[3]}) as program:
        program.load("tap", "socket_filter")


def connect() -> set[int]:
    """The clients' ports of connections over loopback, each with an answer."""
    ports = set()
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(CONNECTIONS):
            with socket.create_connection(server.getsockname()) as asking:
                answering, _ = server.accept()
                with answering:
                    asking.sendall(b"hello")
                    answering.sendall(answering.recv(5))
                    assert asking.recv(5) == b"hello"
                ports.add(asking.getsockname()[1])
    return ports


def test_sockets(tmp_path: Path) -> None:
    path = tmp_path / "n.sockets.jsonl"
    probe = SocketProbe(path, Clock())
    ports = connect()
    probe.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["local"].rpartition(":")[2] for line in lines if "local" in line} >= set(map(str, ports)), lines
    assert probe.counters()["seen"] == probe.counters()["written"]


def test_threads(tmp_path: Path) -> None:
    path = tmp_path / "n.threads.jsonl"
    probe = ThreadProbe(path, Clock())
    connect()
    probe.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(line["way"] == "read" and line["bytes"] == 5 for line in lines) == 2 * CONNECTIONS
    assert probe.counters()["seen"] == probe.counters()["written"]
