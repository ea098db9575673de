"""What the probes of a node write is a bundle: traced, each connection has its ledger, what its rules took, and why its packets died."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from analysis.records import Recorder
from probes.live.clock import Clock
from probes.live.confirm import Confirmed
from probes.live.drops import Drops
from probes.live.natpath import NatPath
from tracer.bundle import read_bundle
from tracer.trace import trace

from .network import CLIENT, POD, TARGET_PORT, VIP, network


@pytest.mark.parametrize("flavour", ["nftables", "ipvs"])
def test_a_trace_has_what_the_kernel_told(flavour: str, tmp_path: Path) -> None:
    with network("trace") as net:
        net.rules(flavour)
        net.ask(0, socket.SOCK_STREAM, 1)
        node = net.path("node")
        clock = Clock()
        probes = [
            Confirmed(tmp_path / "node.conntrack.jsonl", clock, netns=node), NatPath(tmp_path / "node.natpath.jsonl", clock, netns=node),
            Drops(tmp_path / "node.drops.jsonl", clock),
        ]  # fmt: skip
        command = ["ip", "netns", "exec", node.name, "tcpdump", "-i", "any", "-U", "-w", str(tmp_path / "node.pcap")]
        capture = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(4)
        ports = net.ask(0, socket.SOCK_STREAM, 23)
        # one more cannot get through: the node drops what it has translated
        drop = f"table ip t {{ chain c {{ type filter hook forward priority 10; tcp dport {TARGET_PORT} drop; }}; }}"
        if flavour == "ipvs":  # which sends from the input hook, so that nothing is forwarded
            drop = drop.replace("forward", "output")
        net.run("node", "nft", "-f", "-", stdin=drop)
        with pytest.raises(TimeoutError):
            net.ask(0, socket.SOCK_STREAM, 1, patience_seconds=4)
        time.sleep(4)
        capture.terminate()
        capture.wait()
        for probe in probes:
            probe.close()
    records = list(Recorder(trace(read_bundle([tmp_path]))))
    found = {int(r["original"]["src"].rpartition(":")[2]): r for r in records if r["original"] and r["original"]["dst"] == f"{VIP[0]}:80"}
    for port in ports:
        (translation,) = found[port]["translations"]
        assert translation["before"] == f"{CLIENT[0]}:{port} > {VIP[0]}:80"
        assert translation["after"].endswith(f" > {POD[0]}:{TARGET_PORT}")
        assert "conntrack" in translation["evidence"]
        assert translation["evaluation_ns"] > 0
    (lost,) = (record for port, record in found.items() if port not in ports)
    assert lost["status"] == "timeout"
    (told,) = (problem for problem in lost["problems"] if "dropped" in problem)
    assert told.startswith("node dropped its SYN ")
    assert told.endswith((": NETFILTER_DROP in nf_hook_slow", ": NETFILTER_DROP in nft_do_chain"))  # newer kernels
