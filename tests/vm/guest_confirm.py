"""What __nf_conntrack_confirm tells is what conntrack's own events tell, whoever translates."""

from __future__ import annotations

import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from probes.conntrack import read_ledger
from probes.live.clock import Clock
from probes.live.confirm import CONFIRMED, Confirmed
from probes.schema import LEDGER, Table, size

from .network import FLAVOURS, network


def tuples(table: Table) -> Counter[tuple[int, ...]]:
    """How often each pair of tuples was told of as new."""
    names = [column.name for column in LEDGER.columns if column.name.startswith(("original_", "reply_")) or column.name == "proto"]
    new = table["event"] == 1
    return Counter(zip(*(table[name][new].tolist() for name in names), strict=True))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_confirmed_connections_are_those_that_conntrack_reports(flavour: str, tmp_path: Path) -> None:
    with network("confirm") as net:
        net.rules(flavour)
        net.ask(0, socket.SOCK_STREAM, 1)  # modules are loaded
        told = tmp_path / "events.txt"
        with told.open("wb") as out:
            command = ["ip", "netns", "exec", net.path("node").name, "conntrack", "-E", "-b", "8388608", "-o", "timestamp,id"]
            listener = subprocess.Popen(command, stdout=out)
        time.sleep(3)
        probe = Confirmed(tmp_path / "n.conntrack.jsonl", Clock(), netns=net.path("node"))
        began_ns = time.time_ns()
        for family in (0, 1):
            net.ask(family, socket.SOCK_STREAM, 23)
            net.ask(family, socket.SOCK_DGRAM, 7)
        net.run("client", "ping", "-c", "3", "-i", "0.2", "10.2.0.2")
        ended_ns = time.time_ns()
        probe.close()
        time.sleep(3)
        listener.terminate()
        listener.wait()
    expected, problems = read_ledger(told.read_bytes(), "events")
    found, more = read_ledger((tmp_path / "n.conntrack.jsonl").read_bytes(), "confirmed")
    assert not problems
    assert not more
    assert tuples(found) == tuples(expected)
    assert size(found) >= 61
    assert ((found["time_ns"] >= began_ns) & (found["time_ns"] <= ended_ns)).all()
    assert probe.counters() == {"seen": size(found), "written": size(found), "dropped": 0}
    assert CONFIRMED.itemsize == 88
