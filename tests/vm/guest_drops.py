"""Drops on a kernel with kprobes, IPVS and netem: a lossy link, told packet by packet."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from pathlib import Path

from probes.live.clock import Clock
from probes.live.drops import Drops

from .network import CLIENT, POD, network


def test_a_lossy_links_drops_are_each_told_with_their_flow(tmp_path: Path) -> None:
    with network("lossy") as net:
        net.rules("nftables")
        net.ask(0, socket.SOCK_STREAM, 1)
        drops = Drops(tmp_path / "n.drops.jsonl", Clock())
        assert drops.why_counted is None
        net.run("node", "tc", "qdisc", "add", "dev", "pod", "root", "netem", "loss", "20%")
        ports = net.ask(0, socket.SOCK_STREAM, 23)
        told = net.run("node", "tc", "-s", "qdisc", "show", "dev", "pod")
        drops.close()
    lost = int(re.search(r"dropped (\d+)", told)[1])  # type: ignore[index]
    lines = [json.loads(line) for line in (tmp_path / "n.drops.jsonl").read_text().splitlines()]
    here = [line for line in lines if (line["event"], line["dst"], line["dport"]) == ("drop", POD[0], 8080)]
    assert lost > 0
    assert len(here) == lost
    assert {line["reason"] for line in here} <= {"QDISC_DROP"}
    again = [line for line in lines if line["event"] == "retransmit" and line["src"] in (CLIENT[0], POD[0])]
    assert Counter(line["sport"] for line in again if line["src"] == CLIENT[0]).keys() <= set(ports)
    assert again
