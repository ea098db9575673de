"""The benchmark's input is what it says, and every task counts the same packets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES

from analysis.records import Recorder
from bench.inputs import content_of, repeated, scaled
from probes.capture import read_capture
from tracer.bundle import read_bundle
from tracer.trace import trace


def test_copies_are_other_connections_of_the_same_kind(tmp_path: Path) -> None:
    bundle, whole = scaled(SAMPLES / "nftables", tmp_path, 6000)
    once = read_bundle([SAMPLES / "nftables"], use_ledger=False)
    several = read_bundle([bundle])
    copies = len(several.observations["frame"]) // len(once.observations["frame"])
    assert copies == 3
    assert several.problems == []
    found, expected = (list(Recorder(trace(each))) for each in (several, once))
    tcp = [[record["translated"] for record in records if record["protocol"] == "tcp"] for records in (found, expected)]
    assert len(tcp[0]) == copies * len(tcp[1])
    assert sum(each.frames for each in several.captures.values()) == frames_of(whole)


def frames_of(path: Path) -> int:
    with path.open("rb") as stream:
        return read_capture(stream, path.name, "node").statistics.frames


def test_one_copy_is_the_capture_itself() -> None:
    content = content_of(SAMPLES / "ipvs" / "node-a.pcap.gz")
    assert repeated(content, 1) == content
    assert read_capture(BytesIO(repeated(content, 2)), "x.pcap", "node").problems == []


@pytest.mark.parametrize("task", ["decode", "trace", "tshark", "dpkt"])
def test_every_task_counts_the_same_packets(task: str) -> None:
    if task == "tshark" and shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    path = SAMPLES / "iptables" / "node-a.pcap"
    done = subprocess.run([sys.executable, "-m", "bench.tasks", task, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["packets"] == frames_of(path)
    assert found["peak_bytes"] > 1 << 20
