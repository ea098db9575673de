"""Made bundles: what hopline finds in them is their truth, and what they are made of is what networks send."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Hopline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.records import Record, Recorder
from analysis.requests import RequestRecorder
from analysis.synth import MODES, PROXIES, Amount, Options, synthesise
from analysis.synth.timeline import SEGMENT_BYTES
from probes.conntrack import read_ledger
from tracer.bundle import Bundle, read_bundle
from tracer.requests import trace_requests
from tracer.trace import trace

USAGE = 2
TINY = Options(nodes=2, services=2, pods=2)


def made(folder: Path, options: Options, requests: int = 101) -> Bundle:
    synthesise(options, Amount(requests=requests), folder)
    return read_bundle([folder], [])


def truth_of(folder: Path) -> list[Record]:
    return [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]


Key = tuple[str, str]


def expected(folder: Path, *, requests: bool) -> Counter[tuple[object, ...]]:
    """What there is to find: tuples, ends and Service of every leg, and with `requests`, its status and the tuple of its parent."""
    found: Counter[tuple[object, ...]] = Counter()
    for request in truth_of(folder):
        legs = {leg["leg"]: leg for leg in request["legs"]}
        for leg in request["legs"]:
            fact = (leg["src"], leg["dst"], leg["peer"], leg["local"], end(leg["from"]), end(leg["to"]), leg["service"])
            if requests:
                parent = legs.get(leg["parent"])
                fact += (str(request["status"]), request["path"], parent and (parent["src"], parent["dst"]))
                found[fact] += 1
            elif leg["conn_seq"] == 1:
                found[fact] += 1
    return found


def end(truth: Record) -> str:
    return str(truth.get("pod") or (f"node {truth['node']}" if "node" in truth else "external"))


def told(records: list[Record], *, requests: bool) -> Counter[tuple[object, ...]]:
    names = {record["id"]: record for record in records}
    found: Counter[tuple[object, ...]] = Counter()
    for record in records:
        service = record["service"]
        fact: tuple[object, ...] = (
            record["original"] and record["original"]["src"], record["original"] and record["original"]["dst"],
            record["translated"] and record["translated"]["src"], record["translated"] and record["translated"]["dst"],
            named(record["client"]), named(record["server"]),
            f"{service['namespace']}/{service['name']}" if service and service["name"] else None,
        )  # fmt: skip
        if requests:
            parent = names.get(record["parent"])
            fact += (
                record["status"],
                record["operation"].removeprefix("GET "),
                parent and (parent["original"]["src"], parent["original"]["dst"]),
            )
        found[fact] += 1
    return found


def named(owner: Record | None) -> str | None:
    if owner is None:
        return None
    if owner["kind"] == "pod":
        return f"{owner['namespace']}/{owner['name']}"
    return f"node {owner['name']}" if owner["kind"] == "node" else owner["kind"]


FEATURES = (
    *(Options(mode=mode, seed=number) for number, mode in enumerate(MODES)),
    Options(proxies="no-ids", seed=11, mode="nftables"), Options(skew_ms=40, seed=12), Options(loss=0.03, seed=13, mode="ipvs"),
    Options(gso=True, seed=14), Options(reuse=0.2, seed=15, mode="nftables"), Options(snaplen=128, seed=16),
    Options(nodes=1, services=1, pods=1, proxies="none", seed=17), Options(nodes=5, services=23, seed=18, mode="ipvs"),
    Options(loss=0.02, skew_ms=20, gso=True, reuse=0.1, seed=19),
)  # fmt: skip


@pytest.mark.parametrize("options", FEATURES, ids=repr)
def test_connections_are_the_truth(options: Options, tmp_path: Path) -> None:
    records = list(Recorder(trace(made(tmp_path, replace(options, l4_only=True), 211))))
    assert told(records, requests=False) == expected(tmp_path, requests=False)


@pytest.mark.parametrize("options", [FEATURES[0], FEATURES[3], FEATURES[6], FEATURES[11]], ids=repr)
def test_requests_and_their_parents_are_the_truth(options: Options, tmp_path: Path) -> None:
    recorder = RequestRecorder(trace_requests(trace(made(tmp_path, options, 211))), 0.9)
    assert told(list(recorder), requests=True) == expected(tmp_path, requests=True)
    assert any(leg["parent"] for request in truth_of(tmp_path) for leg in request["legs"])


# 8472 is flannel's port on Linux; Wireshark knows the IANA's.
DISSECT = ["-d", "udp.port==8472,vxlan", *(f"-o{protocol}.check_checksum:TRUE" for protocol in ("ip", "tcp", "udp"))]
WRONG = "_ws.malformed or ip.checksum.status==0 or tcp.checksum.status==0 or udp.checksum.status==0 or tcp.analysis.ack_lost_segment"


def tshark(path: Path, *arguments: str) -> list[str]:
    command = ["tshark", "-r", str(path), *DISSECT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("options", [Options(loss=0.05, reuse=0.1), Options(gso=True, mode="ipvs"), Options(l4_only=True)], ids=repr)
def test_wireshark_has_nothing_to_say_against_it(options: Options, tmp_path: Path) -> None:
    made(tmp_path, options)
    # A segment that one place saw and the next did not is, for one who takes all places for one stream, an overlap: not put together then.
    apart = ["-o", f"tcp.desegment_tcp_streams:{not options.loss}"]
    for capture in sorted(tmp_path.glob("*.pcap")):
        assert tshark(capture, "-Y", WRONG, *apart) == []
    some = tshark(tmp_path / "node-a.pcap", "-T", "fields", "-e", "frame.protocols")
    assert any("vxlan" in line for line in some)
    assert any("http" in line for line in some) != options.l4_only


def test_large_answers_look_otherwise_beyond_the_wire(tmp_path: Path) -> None:
    observations = made(tmp_path, replace(TINY, gso=True), 211).observations
    large = observations["payload_bytes"] > SEGMENT_BYTES
    streams = observations["seq"].astype("u8") << np.uint64(32) | observations["ack"]
    lengths = {
        (stream, length) for stream, length in zip(streams[large].tolist(), observations["payload_bytes"][large].tolist(), strict=True)
    }
    assert len(lengths) > len({stream for stream, _ in lengths}) > 0
    assert observations["payload_bytes"].max() > 30_000


@pytest.mark.parametrize("options", [Options(), Options(skew_ms=30, loss=0.05, reuse=0.2, rate_hz=50)], ids=repr)
def test_times_are_sane(options: Options, tmp_path: Path) -> None:
    bundle = made(tmp_path, options, 211)
    times, point = bundle.observations["time_ns"], bundle.observations["point"]
    files = np.array([each.file for each in bundle.points])[point]
    for file in np.unique(files):
        assert (np.diff(times[files == file]) >= 0).all()
    span_s = (times.max() - times.min()) / 1e9
    assert 211 / options.rate_hz * 0.5 < span_s < 211 / options.rate_hz * 2 + 10
    for table in bundle.ledgers.values():
        assert (np.diff(table["time_ns"]) >= 0).all()
        assert times.min() < table["time_ns"].min()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    options = Options(loss=0.02, reuse=0.1, skew_ms=5, gso=True)
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        synthesise(replace(options, seed=seed), Amount(requests=101), tmp_path / name)
    one, two, three = (content(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert all(one[name] != three[name] for name in one if name.endswith((".pcap", ".txt", ".jsonl")) and "links" not in name)
    assert one["cluster.json"] == three["cluster.json"]


def test_slices_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on when a slice of time ends is written in its turn, once."""
    monkeypatch.setattr("analysis.synth.run.SLICE_REQUESTS", 23)
    options = Options(loss=0.05, reuse=0.2, skew_ms=5, l4_only=True, rate_hz=2000)
    bundle = made(tmp_path, options, 211)
    for table in [bundle.observations, *bundle.ledgers.values()]:
        assert len(table["time_ns"]) > 0
    for capture in sorted(tmp_path.glob("*.pcap")):
        assert tshark(capture, "-Y", WRONG) == []
    records = list(Recorder(trace(bundle)))
    assert told(records, requests=False) == expected(tmp_path, requests=False)
    files = np.array([each.file for each in bundle.points])[bundle.observations["point"]]
    assert all((np.diff(bundle.observations["time_ns"][files == file]) >= 0).all() for file in np.unique(files))


@pytest.mark.parametrize(("amount", "low", "high"), [(Amount(packets=20_011), 19_500, 20_500), (Amount(packets=7), 1, 400)])
def test_so_many_packets(amount: Amount, low: int, high: int, tmp_path: Path) -> None:
    written = synthesise(replace(TINY, l4_only=True), amount, tmp_path)
    assert low <= written.packets <= high
    assert written.packets == sum(each.frames for each in read_bundle([tmp_path], []).captures.values())


def test_so_long(tmp_path: Path) -> None:
    written = synthesise(TINY, Amount(duration_s=0.5), tmp_path)
    assert 0.8 < written.requests / (0.5 * TINY.rate_hz) < 1.3


def test_an_address_used_again_has_a_new_entry(tmp_path: Path) -> None:
    bundle = made(tmp_path, Options(reuse=0.3, seed=3), 211)
    tuples = [request["legs"][0] for request in truth_of(tmp_path)]
    again = Counter((leg["src"], leg["dst"]) for leg in tuples if leg["conn_seq"] == 1)
    assert sum(count > 1 for count in again.values()) > 23
    for node, table in bundle.ledgers.items():
        text = (tmp_path / f"{node}.conntrack-events.txt").read_bytes()
        assert text.count(b"[DESTROY]") > 0
        assert read_ledger(text, "x")[1] == [], "every line is one that conntrack's readers know"
        assert len(np.unique(table["id"])) > 1


@settings(max_examples=11, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    options=st.builds(
        Options, seed=st.integers(0, 99), nodes=st.integers(1, 4), services=st.integers(1, 5), pods=st.integers(1, 3),
        mode=st.sampled_from(MODES), proxies=st.sampled_from(PROXIES), rate_hz=st.floats(10, 3000), skew_ms=st.floats(0, 50),
        loss=st.floats(0, 0.1), gso=st.booleans(), reuse=st.floats(0, 0.5), snaplen=st.integers(128, 400), l4_only=st.booleans(),
    ),
    requests=st.integers(1, 37),
)  # fmt: skip
def test_any_options_make_a_bundle_whose_truth_is_found(options: Options, requests: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("made")
    bundle = made(folder, options, requests)
    assert [problem for problem in bundle.problems if problem.severity != "note"] == []
    assert len(truth_of(folder)) == requests
    assert told(list(Recorder(trace(bundle))), requests=False) == expected(folder, requests=False)


BAD = (
    (["--mode", "userspace"], "iptables, nftables, ipvs"), (["--proxies", "some"], "no-ids"), (["--nodes", "0"], "nodes"),
    (["--loss", "0.9"], "0.5"), (["--reuse", "2"], "0.5"), (["--rate", "0"], "more than 0"), (["--skew", "-1"], "give 0 to"),
    (["--snaplen", "14"], "60"), (["--snaplen", "5000000000"], "60"), (["--rate", "nan"], "requests a second"),
    (["--rate", "inf"], "at most"), (["--skew", "nan"], "skew"), (["--duration", "nan"], "more than 0 seconds"),
    (["--duration", "inf"], "more than 0 seconds"),
    (["--services", "2000", "--pods", "9"], "more nodes"), (["--services", "0"], "Services"),
    (["--pods", "0"], "pods"), (["--packets", "3", "--requests", "3"], "one of them"), (["--duration", "0"], "more than 0"),
)  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), BAD)
def test_what_cannot_be_made_is_refused(arguments: list[str], says: str, hopline: Hopline, tmp_path: Path) -> None:
    run = hopline("synth", "-o", tmp_path / "new", *arguments)
    assert run.code == USAGE
    assert says in run.err
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_in_it_is_left_alone(hopline: Hopline, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    for folder in (tmp_path, tmp_path / "kept"):
        assert hopline("synth", "-o", folder, "--requests", "3").code == USAGE
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_command_line_makes_what_it_traces(hopline: Hopline, tmp_path: Path) -> None:
    run = hopline("synth", "-o", tmp_path / "made", "--requests", "23", "--mode", "nftables", "--l4-only", "-s", "96")
    assert run.code == 0, run.err
    assert "23 requests" in run.err
    run = hopline("trace", tmp_path / "made", "--l4-only", "--json")
    assert told([json.loads(line) for line in run.out.splitlines()], requests=False) == expected(tmp_path / "made", requests=False)
