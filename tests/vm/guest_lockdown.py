"""A kernel under lockdown: what can still be told is, and what cannot says why. Skipped on others."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from probes.live.bpf import BpfError
from probes.live.clock import Clock
from probes.live.confirm import Confirmed
from probes.live.drops import Drops
from probes.live.natpath import NatPath
from probes.live.refusals import lockdown

pytestmark = pytest.mark.skipif(lockdown() != "confidentiality", reason="needs lockdown=confidentiality")


def test_lockdown_leaves_reasons_and_places(tmp_path: Path) -> None:
    drops = Drops(tmp_path / "n.drops.jsonl", Clock())
    assert drops.why_counted is not None
    assert "lockdown" in drops.why_counted
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(23):
            sender.sendto(b"hello", ("127.0.0.1", 7001))
    drops.close()
    lines = [json.loads(line) for line in (tmp_path / "n.drops.jsonl").read_text().splitlines()]
    told = {(line["reason"], line["location"].partition("+")[0]): line["count"] for line in lines}
    assert told["NO_SOCKET", "__udp4_lib_rcv"] == 23
    counters = drops.counters()
    assert counters["seen"] == counters["filtered"] + counters["written"]


@pytest.mark.parametrize("probe", [Confirmed, NatPath])
def test_lockdown_is_named_by_probes_that_need_kernel_memory(probe: type[Confirmed | NatPath], tmp_path: Path) -> None:
    subprocess.run(["modprobe", "-a", "nf_nat", "nf_tables"], check=True)
    with pytest.raises(BpfError, match="lockdown"):
        probe(tmp_path / "n.jsonl", Clock())
