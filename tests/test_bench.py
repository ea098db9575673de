"""The benchmarks' input is what it says, everything that is timed counts the same events, and whatever is measured adds up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SAMPLES
from kernel.lab import missing

from analysis.records import Recorder
from bench.inputs import content_of, repeated, scaled
from probes.capture import read_capture
from probes.live.refusals import lacking
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


needs_namespaces = pytest.mark.skipif(missing() is not None, reason=missing() or "")
needs_bpf = pytest.mark.skipif(bool(lacking(["CAP_BPF", "CAP_NET_ADMIN"])) or find_spec("bcc") is None, reason="needs root and bcc")


def bench(*words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "bench", *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_bpf
@pytest.mark.parametrize("reader", ["bulk", "bcc", "file", "bcc-file"])
def test_every_reader_of_a_ring_reads_what_was_made(reader: str) -> None:
    words = [sys.executable, "-m", "bench.drained", reader, "23000", "0.5", "0.02"]
    found = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert found["made"] == 11_500
    assert found["read"] + found["lost"] == found["made"]


@needs_namespaces
@needs_bpf
@pytest.mark.skipif(not all(map(shutil.which, ("nginx", "wrk", "tcpdump"))), reason="needs nginx, wrk and tcpdump")
def test_overhead_is_measured_on_requests_that_were_answered_and_recorded() -> None:
    recorders = ["record, both, headers only", "tcpdump -s 128"]
    found = bench("overhead", "--rounds", "1", "--load-seconds", "1", *(word for name in recorders for word in ("--recorder", name)))
    for name in recorders:
        (pair,) = found["pairs"][name]
        for run in (*pair["off"].values(), *pair["on"].values()):
            assert run["errors"] == 0
        assert pair["seen"] > 4 * sum(run["requests_per_s"] for run in pair["on"].values()), "request and answer, at both ends of the node"


@needs_namespaces
@needs_bpf
def test_new_connections_are_all_seen() -> None:
    found = bench("ledger", "--rounds", "1", "--rate", "5000", "--connections", "2003")
    for probes, (run,) in found["runs"].items():
        assert run["seen"] == run["written"] + run["dropped"]
        assert run["seen"] >= 2003 * {"ledger": 1, "packets": 2, "packets,ledger": 3}[probes]
