"""What the benchmarks measure, held to ratios, bounds of memory and what was made: with the machine to themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from benched import TASKS, bench
from conftest import ROOT, SAMPLES
from kernel.lab import missing

from bench import join
from probes.live.refusals import lacking

needs_namespaces = pytest.mark.skipif(missing() is not None, reason=missing() or "")
needs_bpf = pytest.mark.skipif(bool(lacking(["CAP_BPF", "CAP_NET_ADMIN"])) or find_spec("bcc") is None, reason="needs root and bcc")


# A third of what was measured and less, by CPU time of one thread: loads and machines differ (docs/performance.md).
FLOORS = {"dpkt": 30, "tshark": 90, "libpcap": 0.3}


def test_decoding_is_far_from_what_others_take() -> None:
    wanted = ["alone", *(name for name in FLOORS if TASKS[name].lacking is None)]
    found = bench("reading", "--rounds", "1", "--frames", "500000", *(word for name in wanted for word in ("--only", name)))["results"]
    ratios = {name: found["alone"]["per_cpu_s"] / found[name]["per_cpu_s"] for name in wanted[1:]}
    assert {name: ratio for name, ratio in ratios.items() if ratio < FLOORS[name]} == {}


# By CPU time of all threads, of tables and a bundle that are small enough to be quick: what starts takes a larger share of it.
JOIN_FLOORS = {"pandas": 2.5, "polars": 1.2, "duckdb": 1.5}
TRACE_FLOOR = 1.5


def test_joining_is_far_from_what_others_take() -> None:
    """Also says that all of them find the same."""
    found = bench("join", "--rounds", "1", "--join-rows", "1000000")["ratios"]
    ratios = {each["than"]: each["cpu_seconds"] for each in found}
    assert ratios.keys() == {bar.than for bar in join.BARS if find_spec(bar.than)}
    assert {name: ratio for name, ratio in ratios.items() if ratio < JOIN_FLOORS[name]} == {}


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_a_whole_trace_is_far_from_what_tshark_and_pandas_take() -> None:
    (ratio,) = bench("trace", "--rounds", "1", "--packets", "100000")["ratios"]
    assert ratio["cpu_seconds"] > TRACE_FLOOR


def test_decoding_a_pipe_takes_its_columns_and_little_more() -> None:
    words = [sys.executable, "-m", "bench.memory", str(SAMPLES / "iptables" / "node-a.pcap"), "200000000"]
    found = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert found["input_bytes"] >= 200_000_000
    assert found["column_bytes"] > 127 * 1_000_000
    assert found["over_bytes"] < 64_000_000


def test_decoding_a_pipe_in_pieces_takes_one_of_them_and_little_more() -> None:
    words = [sys.executable, "-m", "bench.memory", str(SAMPLES / "iptables" / "node-a.pcap"), "200000000", "100000"]
    found = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert found["input_bytes"] >= 200_000_000
    assert 10_000_000 < found["column_bytes"] < 30_000_000
    assert found["over_bytes"] < 64_000_000


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
