"""The packets of a request, dissected by a real tshark, with the numbers they have in the original captures."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from conftest import SAMPLES, Hopline
from explained import CLIENT, SERVER, conversation, encrypted, recorder_of
from packets import PcapNg, Record, echo, ethernet, ip4, ip6, pcap, sctp, sctp_init, udp, zstd

from analysis.dissected import look
from probes import deep
from tracer.bundle import read_bundle
from tracer.requests import trace_requests
from tracer.requests.carried import Connection, FrameError, read_frames
from tracer.trace import trace

pytestmark = pytest.mark.skipif(
    which("tshark") is None or importlib.util.find_spec("pyshark") is None, reason="tshark or pyshark is not installed (make test does)"
)
BUNDLE = SAMPLES / "iptables"
REQUEST = b"GET /items?id=7 HTTP/1.1\r\nHost: shop.example\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK, PROBLEMS, USAGE, INPUT = range(4)


def told(hopline: Hopline, *arguments: str | Path) -> dict[str, Any]:
    run = hopline("explain", *arguments, "--json")
    assert run.code == OK, run.err
    found: dict[str, Any] = json.loads(run.out)
    return found


def values(fields: list[dict[str, Any]], name: str) -> Iterator[str]:
    for field in fields:
        if field["name"] == name:
            yield field["value"]
        yield from values(field["fields"], name)


def first(protocol: str) -> str:
    """The first request in the sample that speaks it, was made for another one, and passed several interfaces."""
    recorder = recorder_of(BUNDLE)
    records = (recorder.record(request) for request in recorder.order if request in recorder.parent)
    return next(record["id"] for record in records if record["protocol"] == protocol and len(record["hops"]) > 2)


def test_http_requests_say_what_the_record_says(hopline: Hopline) -> None:
    """At the client's door every request of a sample is dissected, also where others came before on its connection."""
    recorder = recorder_of(BUNDLE)
    asked = [request for request in recorder.order if recorder.record(request)["protocol"] == "http"]
    reused = [request for request in asked if recorder.found.requests.table["number"][request] > 0]
    assert reused
    for request in {*asked[:5], *reused[:3]}:
        record = recorder.record(request)
        packets = told(hopline, BUNDLE, record["id"])["packets"]
        layers = [layer for packet in packets for layer in packet["layers"]]
        assert next(values(layers, "http.host")) == record["host"]
        assert [f"{next(values(layers, 'http.request.method'))} {next(values(layers, 'http.request.uri'))}"] == [record["operation"]]
        assert record["status"] in values(layers, "http.response.code")
        hops = record["hops"]
        assert packets[0]["frame"] == hops[0]["frame"]  # the first byte at the client's door
        assert {packet["file"] for packet in packets} == {hops[0]["file"]}


def test_frame_numbers_are_those_of_the_original_file(hopline: Hopline) -> None:
    """Everywhere a request passed: tshark shows the same sequence numbers for these frames of the original, and refers to its frames."""
    recorder = recorder_of(BUNDLE)
    records = (recorder.record(request) for request in recorder.order)
    tunnelled = next(each for each in records if each["protocol"] == "http" and any(hop["tunnel"] for hop in each["hops"]))
    packets = told(hopline, BUNDLE, tunnelled["id"], "--everywhere", "--limit", "0")["packets"]
    assert any("vxlan" in [layer["name"] for layer in packet["layers"]] for packet in packets)
    assert all("http" in [layer["name"] for layer in packet["layers"]] for packet in packets)
    for packet in packets:
        command = ["tshark", "-n", "-d", "udp.port==8472,vxlan", "-r", BUNDLE / packet["file"], "-Y", f"frame.number == {packet['frame']}"]
        fields = ["tcp.seq_raw", "ip.id", "frame.len", "tcp.srcport"]
        asked = [*command, "-T", "fields", *(word for field in fields for word in ("-e", field))]
        seq, ip_id, size, port = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
        assert list(values(packet["layers"], "tcp.seq_raw")) == [seq]
        assert ",".join(values(packet["layers"], "ip.id")) == ip_id
        assert list(values(packet["layers"], "tcp.srcport")) == [port]
        assert packet["wire_bytes"] == int(size)
    answers = [packet for packet in packets if packet["reply"]]
    requests = {packet["frame"] for packet in packets if not packet["reply"]}
    assert {int(frame) for packet in answers for frame in values(packet["layers"], "http.request_in")} <= requests


@pytest.mark.parametrize(
    ("protocol", "layer", "field"), [("dns", "dns", "dns.qry.name"), ("mysql", "mysql", "mysql.query"), ("http", "http", "http.host")]
)
def test_each_protocol_is_dissected(protocol: str, layer: str, field: str, hopline: Hopline) -> None:
    found = told(hopline, BUNDLE, first(protocol), "--layers", layer)
    packets, record = found["packets"], found["stories"][0]["record"]
    assert {each["name"] for packet in packets for each in packet["layers"]} == {layer}
    said = next(values([each for packet in packets for each in packet["layers"]], field))
    assert said in (record["operation"], record["host"]) or record["operation"].endswith(said)


def test_every_request_of_every_sample_has_frames_at_each_of_its_places(sample: Path) -> None:
    """What is read again is what was seen: gzip, tunnels, IPv6, several interfaces; and only the request's own bytes."""
    recorder = recorder_of(sample)
    found, tables = recorder.found, recorder.trace.tables
    for request in recorder.order:
        whole = Connection(found, int(found.requests.table["connection"][request]))
        rows = {int(row) for row in found.requests.hops["row"][found.requests.hops["request"] == request]}
        seen: set[int] = set()
        for place in whole.places(request):
            for carried in whole.carried(place, request):
                frames = read_frames(found.trace.bundle, carried)
                assert [frame.number for frame in frames] == tables.observations["frame"][carried.rows].tolist()
                seen |= set(carried.rows[carried.wanted].tolist())
        assert rows <= seen  # every hop's frame is among them


def test_a_connection_has_all_its_packets(hopline: Hopline) -> None:
    recorder = recorder_of(BUNDLE)
    whole = told(hopline, BUNDLE, "c6", "--limit", "0")
    record = whole["stories"][0]["record"]
    both = [sum(packet["reply"] == reply for packet in whole["packets"]) for reply in (False, True)]
    assert both == [record["packets"]["original"], record["packets"]["reply"]]
    some = hopline("explain", BUNDLE, "c6", "--limit", "3")
    assert some.out.count(f"{recorder.trace.tables.points[0].file}#") >= 3
    assert f"note: {sum(both) - 3} more packets (--limit 0 dissects all)" in some.err


def test_one_point_all_points_and_a_chosen_one(hopline: Hopline) -> None:
    recorder = recorder_of(BUNDLE)
    record = next(record for record in map(recorder.record, recorder.order) if record["id"] == first("http"))
    places = list(dict.fromkeys(f"{hop['node']}/{hop['interface']}" for hop in record["hops"]))
    assert len(places) > 1

    def seen(*options: str) -> list[str]:
        packets = told(hopline, BUNDLE, record["id"], *options)["packets"]
        return list(dict.fromkeys(f"{packet['node']}/{packet['interface']}" for packet in packets))

    assert seen() == places[:1]
    assert seen("--at", places[1]) == places[1:2]
    assert set(seen("--everywhere")) == set(places)
    assert seen("--no-packets") == []


def test_short_long_and_chosen_layers(hopline: Hopline) -> None:
    short = hopline("explain", BUNDLE, first("http")).out
    assert "Transmission Control Protocol, Src Port" in short
    assert "├── Host: shop.example.test" in short
    assert "Window: " not in short
    long = hopline("explain", BUNDLE, first("http"), "--fields", "long").out
    assert "Host: shop.example.test\\r\\n  http.host" in long
    assert "tcp.window_size_value" in long
    chosen = hopline("explain", BUNDLE, first("http"), "--layers", "TCP, nonsense")
    assert "Window: " in chosen.out
    assert "Hypertext" not in chosen.out
    assert "note: no layer nonsense in these packets (there are sll, ip, tcp, http" in chosen.err


def capture(folder: Path, content: bytes, name: str = "node-a.eth0.pcap") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


FRAMES = conversation([(True, REQUEST), (False, RESPONSE)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("node-a.pcap.gz", gzip.compress(pcap(FRAMES), mtime=0)),
        ("node-a.pcap.zst", zstd(pcap(FRAMES))),
        ("node-a.pcap", pcap(FRAMES, big=True)),
        ("node-a.pcap", pcap(FRAMES, nano=False)),
    ],
    ids=["gzip", "zstd", "big-endian", "microseconds"],
)
def test_kinds_of_files(name: str, content: bytes, hopline: Hopline, tmp_path: Path) -> None:
    packets = told(hopline, capture(tmp_path / "bundle", content, name), "r1")["packets"]
    assert [(packet["frame"], packet["reply"]) for packet in packets] == [(4, False), (5, True)]
    assert list(values(packets[0]["layers"], "http.host")) == ["shop.example"]


def test_a_pcapng_of_several_interfaces_where_one_packet_shows_twice(hopline: Hopline, tmp_path: Path) -> None:
    """Wireshark takes the second sighting for a retransmission; by itself it is dissected as the first one is."""
    file = PcapNg().section().interface(name="eth0").interface(name="eth1")
    for place, frame in enumerate(FRAMES):
        file.packet(frame, interface=0, time_ns=1_700_000_000_000_000_000 + place * 1_000_000)
        file.packet(frame, interface=1, time_ns=1_700_000_000_000_040_000 + place * 1_000_000)
    packets = told(hopline, capture(tmp_path / "bundle", bytes(file), "node-a.pcapng"), "r1", "--everywhere")["packets"]
    assert {(packet["interface"], packet["frame"]) for packet in packets} == {("eth0", 7), ("eth0", 9), ("eth1", 8), ("eth1", 10)}
    for packet in packets:
        assert "http" in [layer["name"] for layer in packet["layers"]]
        if packet["reply"]:
            assert list(values(packet["layers"], "http.request_in")) == [str(packet["frame"] - 2)]


def test_a_message_in_many_segments_has_them_all(hopline: Hopline, tmp_path: Path) -> None:
    body = b"x" * 5000
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\n"
    said = [
        (True, REQUEST),
        (False, head),
        *((False, body[at : at + 1000]) for at in range(0, 5000, 1000)),
        (True, REQUEST),
        (False, RESPONSE),
    ]
    bundle = capture(tmp_path / "bundle", pcap(conversation(said)))
    frames = [[packet["frame"] for packet in told(hopline, bundle, which)["packets"]] for which in ("r1", "r2")]
    assert frames == [[4, 5, 6, 7, 8, 9, 10], [11, 12]]
    layers = told(hopline, bundle, "r1")["packets"][-1]["layers"]
    assert "5000" in values(layers, "http.content_length")


HOSTILE = "shop\N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m.test"
HOSTILE_REQUEST = (
    b"GET /a\x1b]0;owned\x07\xe2\x80\xaeb HTTP/1.1\r\nHost: " + HOSTILE.encode() + b"\r\nX-Odd: a\x00\x9b31mb\xff\r\n"
    b"X-Markup: [bold]</packet></pdml>&#27;\r\n\r\n"
)
HOSTILE_BODY = b"\x1b[2J\x9b31mhi\xe2\x80\xae\xe2\x80\x8b\x00"
HOSTILE_RESPONSE = b"HTTP/1.1 200 \x1b[5mOK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(HOSTILE_BODY) + HOSTILE_BODY


@pytest.mark.parametrize("options", [[], ["--fields", "long"], ["--json"]], ids=["short", "long", "json"])
def test_what_packets_say_cannot_steer_a_terminal(options: list[str], hopline: Hopline, tmp_path: Path) -> None:
    bundle = capture(tmp_path / "bundle", pcap(conversation([(True, HOSTILE_REQUEST), (False, HOSTILE_RESPONSE)])))
    run = hopline("explain", bundle, "r1", *options)
    assert run.code == OK
    assert "owned" in run.out
    assert "[bold]</packet></pdml>&#27;" in run.out
    odd = {character for character in run.out + run.err if unicodedata.category(character)[0] == "C"} - {"\n"}
    assert odd == set()


def test_a_capture_that_changed_meanwhile_is_not_taken_for_what_was_read(tmp_path: Path) -> None:
    other = conversation([(True, REQUEST.replace(b"=7", b"=8")), (False, RESPONSE)], first_id=99)
    bundle = capture(tmp_path / "bundle", pcap(FRAMES))
    found = trace_requests(trace(read_bundle([bundle])))
    places = Connection(found, 0).places(0)
    assert len(look(found, 0, 0, places)[0]) == 2
    for content in (pcap(other), pcap(FRAMES[1:]), pcap(FRAMES[:2]), b""):
        capture(bundle, content)
        with pytest.raises(FrameError, match=r"node-a.eth0.pcap has changed since it was read: frame \d is another packet now"):
            look(found, 0, 0, places)
    shutil.rmtree(bundle)
    with pytest.raises(FrameError, match="cannot be read again: No such file or directory"):
        look(found, 0, 0, places)


def test_a_capture_that_grew_is_still_the_same(tmp_path: Path) -> None:
    bundle = capture(tmp_path / "bundle", pcap(FRAMES))
    found = trace_requests(trace(read_bundle([bundle])))
    capture(bundle, pcap([*FRAMES, *FRAMES]))
    assert len(look(found, 0, 0, Connection(found, 0).places(0))[0]) == 2


def test_without_tshark_the_story_is_told_and_the_remedy_said(hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    run = hopline("explain", BUNDLE, "c6")
    assert run.code == OK
    assert "DNAT+SNAT on node-a" in run.out
    assert "requests could not be read, every connection counts as one: tshark is not installed" in run.err
    assert "packets are not dissected: tshark is not installed (apt install tshark)" in run.err


def test_without_pyshark_the_story_is_told_and_the_remedy_said(hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(deep, "find_spec", lambda name: None if name == "pyshark" else find(name))
    run = hopline("explain", BUNDLE, first("http"))
    assert run.code == OK
    assert "http GET " in run.out
    assert run.err == "note: packets are not dissected: pyshark is not installed (pip install 'hopline[explain]')\n"


def test_a_tshark_that_fails_says_so(hopline: Hopline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works for the requests, and breaks on what is looked at in depth."""
    fake, real = tmp_path / "tshark", which("tshark")
    fake.write_text(f'#!/bin/sh\ncase "$*" in *frame.number*) echo "tshark: out of order" >&2; exit 3;; esac\nexec {real} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    run = hopline("explain", BUNDLE, first("http"))
    assert run.code == PROBLEMS
    assert "end       200" in run.out
    assert "hopline: tshark failed: tshark: out of order (try hopline doctor)" in run.err


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """No process, no file, no warning; and a config.ini in the folder, which pyshark would obey, changes nothing."""
    folder, temporary = tmp_path / "elsewhere", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    (folder / "config.ini").write_text("[other]\n")
    program = "import sys; from analysis.commands import main; sys.argv[0] = 'hopline'; main(); "
    python = [sys.executable, "-W", "error", "-X", "dev", "-c", program, "explain", BUNDLE, first("http"), "--everywhere"]
    environment = os.environ | {"PYTHONPATH": str(SAMPLES.parent), "TMPDIR": str(temporary), "COLUMNS": "200"}
    with subprocess.Popen(
        python, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:  # fmt: skip
        out, err = process.communicate()
    assert (process.returncode, err) == (OK, "")
    assert "Host: shop.example.test" in out
    assert list(temporary.glob("hopline-*")) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody of its group is left


def test_keys_open_what_was_encrypted(hopline: Hopline, tmp_path: Path) -> None:
    """A real TLS conversation: a connection that cannot be read without its keys is a request with them."""
    bundle = capture(tmp_path / "bundle", pcap(conversation(encrypted(tmp_path, REQUEST, RESPONSE), port=443)))
    closed = told(hopline, bundle, "r1")
    assert closed["stories"][0]["record"]["unread"] == "encrypted"
    assert {"tls"} == {layer["name"] for packet in closed["packets"] for layer in packet["layers"][3:]}
    opened = told(hopline, bundle, "r1", "--keys", tmp_path / "keys.txt")
    assert opened["stories"][0]["record"]["operation"] == "GET /items?id=7"
    layers = [layer for packet in opened["packets"] for layer in packet["layers"]]
    assert next(values(layers, "http.host")) == "shop.example"
    assert next(values(layers, "http.response.code")) == "200"


def test_numbers_of_frames_as_a_filter() -> None:
    assert deep._numbers([3]) == "frame.number in {3}"
    assert deep._numbers([1, 2, 3, 7, 9, 10]) == "frame.number in {1..3, 7, 9..10}"


def test_standard_input(hopline: Hopline) -> None:
    run = hopline("explain", "-", "r1", "--json", stdin=pcap(FRAMES))
    assert run.code == OK, run.err
    packets = json.loads(run.out)["packets"]
    assert [(packet["file"], packet["frame"]) for packet in packets] == [("standard input", 4), ("standard input", 5)]


MIXED = [
    ethernet(ip4(CLIENT, SERVER, echo(7, 1, b"hello"))), ethernet(ip4(SERVER, CLIENT, echo(7, 1, b"hello", answer=True))),
    ethernet(ip4(CLIENT, SERVER, sctp(5000, 6000, 0, sctp_init(9)))),
    ethernet(ip4(SERVER, CLIENT, sctp(6000, 5000, 9, sctp_init(8, answer=True)))),
    ethernet(ip6("fd00::1", "fd00::2", udp(5001, 6001, b"hello"))), ethernet(ip6("fd00::2", "fd00::1", udp(6001, 5001, b"hi"))),
]  # fmt: skip


@pytest.mark.parametrize(("which", "layer", "frames"), [("c1", "icmp", [1, 2]), ("c2", "sctp", [3, 4]), ("c3", "udp", [5, 6])])
def test_other_transports(which: str, layer: str, frames: list[int], hopline: Hopline, tmp_path: Path) -> None:
    packets = told(hopline, capture(tmp_path / "bundle", pcap(MIXED)), which)["packets"]
    assert [packet["frame"] for packet in packets] == frames
    assert all(layer in [each["name"] for each in packet["layers"]] for packet in packets)


def test_doctor_says_how_to_get_pyshark(hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyshark" else find(name))
    (row,) = [each for each in json.loads(hopline("doctor", "--json").out) if each["feature"] == "deep look at packets"]
    assert (row["ok"], row["fix"]) == (False, "pip install 'hopline[explain]'")
    assert row["why"].startswith("pyshark cannot be imported")


def test_a_cut_packet_says_how_much_of_it_there_is(hopline: Hopline, tmp_path: Path) -> None:
    cut = [Record(frame[:100], 1_700_000_000_000_000_000 + place * 1_000_000, len(frame)) for place, frame in enumerate(FRAMES)]
    run = hopline("explain", capture(tmp_path / "bundle", pcap(cut)), "c1", columns=200)
    assert run.code == OK
    assert f"{len(FRAMES[3])} bytes, 100 captured" in run.out
    assert f"{CLIENT}:40000 > {SERVER}:8081" in run.out
