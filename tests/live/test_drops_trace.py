"""A node's drops beside its packets: the trace says whose SYN died, where and why."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from vm.network import POD, TARGET_PORT, VIP, network

from analysis.records import Recorder
from probes.live.bpf import BpfError
from probes.live.clock import Clock
from probes.live.drops import Drops
from tracer.bundle import read_bundle
from tracer.trace import trace


@pytest.mark.parametrize("family", [0, 1])
def test_a_connection_says_which_node_dropped_its_syn_and_why(family: int, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not (shutil.which("tcpdump") and shutil.which("nft")):
        pytest.skip("needs root, tcpdump and nft")
    with network("dead") as net:
        net.rules("nftables")
        net.run(
            "node",
            "nft",
            "-f",
            "-",
            stdin=f"""table inet t {{
  chain c {{
    type filter hook forward priority 10;
    tcp dport {TARGET_PORT} meta mark != 0x7 numgen inc mod 2 == 0 drop
  }}
}}
""",
        )
        try:
            drops = Drops(tmp_path / "node.drops.jsonl", Clock())
        except BpfError as error:
            pytest.skip(str(error))
        if drops.why_counted is not None:
            drops.close()
            pytest.skip(drops.why_counted)
        command = ["ip", "netns", "exec", net.path("node").name, "tcpdump", "-i", "any", "-U", "-w", str(tmp_path / "node.pcap")]
        capture = subprocess.Popen(command, stderr=subprocess.PIPE)
        assert capture.stderr is not None
        assert b"listening" in capture.stderr.readline() + capture.stderr.readline()
        ports = net.ask(family, socket.SOCK_STREAM, 7)
        time.sleep(1.5)
        capture.terminate()
        capture.wait()
        drops.close()
    records = [r for r in Recorder(trace(read_bundle([tmp_path]))) if r["original"] and VIP[family] in r["original"]["dst"]]
    assert sorted(int(record["original"]["src"].rpartition(":")[2]) for record in records) == sorted(ports)
    told = [problem for record in records for problem in record["problems"] if "dropped" in problem]
    packets = r"(SYN|packet)( \d+ times| \(\d+ of them\))?"
    assert all(re.fullmatch(rf"node dropped its {packets}: NETFILTER_DROP in (nf_hook_slow|nft_do_chain)", each) for each in told), told
    lost = [record for record in records if any("its SYN" in problem for problem in record["problems"])]
    # every other packet to the pod is dropped: where the SYN came twice, one has died
    assert lost
    assert all(record["retransmissions"] >= 1 for record in lost)
    assert all(POD[family] in record["translated"]["dst"] for record in records)
