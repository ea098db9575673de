"""The benchmarks' input is what it says, everything that is timed counts the same events, and whatever is measured adds up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from benched import TASKS, bench, needs
from conftest import ROOT, SAMPLES

from analysis.records import Recorder
from bench import requests, rounds, whole
from bench.growth import law
from bench.inputs import as_ethernet, content_of, padded, repeated, scaled
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
    assert b"".join(repeated(content, 1)) == content
    assert read_capture(BytesIO(b"".join(repeated(content, 2))), "x.pcap", "node").problems == []


def test_copies_are_cut_and_filled_up_to_a_size() -> None:
    content = content_of(SAMPLES / "iptables" / "node-a.pcap")
    whole = read_capture(BytesIO(content), "x.pcap", "node")
    cut = read_capture(BytesIO(b"".join(repeated(content, 3, 96))), "x.pcap", "node")
    filled = read_capture(BytesIO(b"".join(repeated(padded(content, 1514), 3))), "x.pcap", "node")
    frames = whole.statistics.frames
    assert cut.problems == filled.problems == []
    assert cut.statistics.frames == filled.statistics.frames == 3 * frames
    assert cut.observations["captured_bytes"].max() == 96
    assert cut.observations["wire_bytes"].tolist() == 3 * whole.observations["wire_bytes"].tolist()
    assert filled.observations["captured_bytes"].min() == 1514
    assert filled.observations["payload_bytes"].tolist() == 3 * whole.observations["payload_bytes"].tolist()


def test_frames_behind_other_headers_are_the_same_packets() -> None:
    content = content_of(SAMPLES / "iptables" / "node-a.pcap")
    one, other = (read_capture(BytesIO(each), "x.pcap", "node") for each in (content, as_ethernet(content)))
    assert other.problems == []
    for name in ("time_ns", "wire_bytes", "src_lo", "dst_lo", "sport", "dport", "seq", "ack", "tsval", "payload_bytes", "vni"):
        shorter = 6 if name == "wire_bytes" else 0
        assert other.observations[name].tolist() == (one.observations[name] - shorter).tolist(), name


@pytest.mark.parametrize(("a", "b"), [(0.8, 1.5e-6), (2e8, 700.0), (-0.5, 4e-6)])
def test_a_law_has_the_constants_of_what_grows_by_it(a: float, b: float) -> None:
    packets = [1_000_000, 3_000_000, 10_000_000, 30_000_000]
    exact = law(packets, [a + b * each for each in packets])
    assert exact is not None
    assert exact["a"] == pytest.approx([a] * 3, rel=1e-6)
    assert exact["b"] == pytest.approx([b] * 3, rel=1e-6)


def test_a_law_s_intervals_hold_the_constants_as_often_as_they_say() -> None:
    random = np.random.default_rng(7)
    packets = np.repeat([1e6, 3e6, 10e6, 30e6], 3)
    held = {"a": 0, "b": 0}
    for _ in range(997):
        found = law(packets, (0.8 + 1.5e-6 * packets) * random.normal(1, 0.05, len(packets)))
        assert found is not None
        held["a"] += found["a"][1] <= 0.8 <= found["a"][2]
        held["b"] += found["b"][1] <= 1.5e-6 <= found["b"][2]
    assert all(0.93 < each / 997 < 0.97 for each in held.values()), held


def test_two_sizes_tell_of_no_errors() -> None:
    assert law([1e6, 2e6], [1, 2]) is None
    assert law([1e6] * 3, [1, 2, 3]) is None


def test_growth_is_measured_at_each_size_in_each_round() -> None:
    found = bench("growth", "--sizes", "0.01,0.02", "--rounds", "2", "--spill")
    assert [run["packets"] for run in found["runs"]] == [10_000, 10_000, 20_000, 20_000]
    assert all(run["peak_bytes"] > 50e6 and run["cpu_seconds"] > 0 for run in found["runs"])
    assert found["laws"].keys() == set(rounds.MEASURED)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_what_tshark_is_given_of_requests_is_less_than_all(tmp_path: Path) -> None:
    found = bench("requests", "--requests-frames", "10000", "--rounds", "1")
    assert all(found["runs"][name][0]["cpu_seconds"] > 0 for name in ("hopline", "given", "all"))
    bundle, _ = scaled(SAMPLES / "iptables", tmp_path, 10_000)
    traced, packets = trace(read_bundle([bundle])), {}
    for every in (False, True):
        assert requests.messages(traced, tmp_path / "messages.pcap", every=every)[0].endswith("tshark")
        packets[every] = frames_of(tmp_path / "messages.pcap")
    assert 100 < packets[False] < packets[True]


TWO = """import subprocess, sys, time
from pathlib import Path
held = b"x" * 150_000_000
if sys.argv[1:]:
    print("there", flush=True)
    sys.stdin.read()
else:
    with subprocess.Popen([sys.executable, __file__, "child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        Path(__file__).with_name("there").touch()
        while not Path(__file__).with_name("looked").exists():
            time.sleep(0.01)
"""


def test_memory_is_of_all_processes_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two.py").write_text(TWO)
    look = rounds._held_bytes

    def until_looked_at(group: int) -> Iterator[int]:  # a busy machine may take seconds between two looks
        there = (tmp_path / "there").exists()
        yield from look(group)
        if there:
            (tmp_path / "looked").touch()

    monkeypatch.setattr(rounds, "_held_bytes", until_looked_at)
    mine = b"x" * 600_000_000  # which is not theirs
    assert len(mine) > 450e6
    assert 300e6 < rounds.run([sys.executable, tmp_path / "two.py"])["peak_bytes"] < 450e6


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_tshark_and_pandas_find_most_connections_that_hopline_finds(tmp_path: Path) -> None:
    bundle = whole.synthesised(tmp_path, 10_000)
    words = [sys.executable, "-m", "bench.tshark_pandas", bundle]
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    theirs = {tuple(line.split(",")[:2]) for line in printed.splitlines() if ">" in line}
    ours = {
        tuple(" > ".join((record[name]["src"], record[name]["dst"])) for name in TUPLES)
        for record in Recorder(trace(read_bundle([bundle])))
    }
    assert len(ours) > 100
    assert len(theirs & ours) > 0.85 * len(ours), "not those of nodes, which tuples alone do not tell"


TUPLES = ("original", "translated")


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in TASKS])
def test_every_task_counts_the_same_packets(name: str) -> None:
    path = SAMPLES / "iptables" / "node-a.pcap"
    words = [sys.executable, "-m", "bench.tasks", TASKS[name].task, str(path)]
    found = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert found["count"] == (path.stat().st_size if name == "readinto" else frames_of(path))
    assert found["peak_bytes"] > 1 << 20
