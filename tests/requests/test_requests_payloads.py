"""The bytes of chosen frames, read a second time: every file format, several files, standard input, files that are gone."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import packets as p
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.capture import read_capture, read_payloads
from tracer.bundle import Bundle, read_bundle
from tracer.requests.payloads import open_again, payloads

SAID = [f"payload {number} ".encode() * (1 + number % 5) for number in range(23)]
FRAMES = [
    p.ethernet(p.ip4("10.0.0.1", "10.0.0.2", p.tcp(40000, 80, "A", text, seq=number * 100, options=p.timestamps(number))))
    if number % 3
    else p.ethernet(p.ip6("fd00::1", "fd00::2", p.udp(40000, 53, text), p.hop_by_hop()), vlans=[(0x8100, 7)])
    for number, text in enumerate(SAID)
]


def pcapng(*, big: bool = False) -> bytes:
    file = p.PcapNg().section(big=big).interface().interface(name="other")
    for number, frame in enumerate(FRAMES):
        file.packet(frame, interface=number % 2, comments=["a comment"] * (number % 4))
        if number == 11:
            file.section(big=not big).interface().interface(p.ETHERNET)
    return bytes(file)


FORMATS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "pcap": ("pcap", lambda: p.pcap(FRAMES)),
    "pcap, big-endian, µs": ("pcap", lambda: p.pcap(FRAMES, big=True, nano=False)),
    "pcapng": ("pcapng", pcapng),
    "pcapng, big-endian": ("pcapng", lambda: pcapng(big=True)),
    "gzip": ("pcap.gz", lambda: p.gzipped(p.pcap(FRAMES), members=3)),
    "gzip of pcapng": ("pcapng.gz", lambda: p.gzipped(pcapng())),
    "zstd": ("pcap.zst", lambda: p.zstd(p.pcap(FRAMES), frames=3)),
    "zstd of pcapng": ("pcapng.zst", lambda: p.zstd(pcapng())),
}


def all_payloads(bundle: Bundle) -> list[bytes]:
    length = bundle.observations["payload_bytes"].astype("i8")
    return payloads(bundle, np.arange(len(length)), np.zeros(len(length), "i8"), length)


@pytest.mark.parametrize("name", FORMATS)
def test_payloads_are_what_the_frames_carried(name: str, tmp_path: Path) -> None:
    ending, content = FORMATS[name]
    (tmp_path / f"node-a.{ending}").write_bytes(content())
    assert sorted(all_payloads(read_bundle([tmp_path]))) == sorted(SAID)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(FORMATS)), chance=st.randoms(use_true_random=False))
def test_any_part_of_any_frames(name: str, chance: object) -> None:
    content = FORMATS[name][1]()
    whole = read_capture(io.BytesIO(content), "file", "node").observations
    count = len(whole["frame"])
    chosen = np.array(sorted(chance.sample(range(count), chance.randrange(count + 1))), "i8")  # type: ignore[attr-defined]
    said = [FRAMES[frame - 1][at:] for frame, at in zip(whole["frame"][chosen].tolist(), whole["payload_at"][chosen].tolist(), strict=True)]
    skip = [chance.randrange(len(text) + 1) for text in said]  # type: ignore[attr-defined]
    size = [chance.randrange(len(text) - front + 1) for text, front in zip(said, skip, strict=True)]  # type: ignore[attr-defined]
    found = read_payloads(
        io.BytesIO(content),
        "file",
        whole["frame"][chosen],
        whole["payload_at"][chosen].astype("i8") + np.array(skip, "i8"),
        np.array(size, "i8"),
    )
    assert found.tobytes() == b"".join(text[front : front + length] for text, front, length in zip(said, skip, size, strict=True))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False))
def test_rows_may_come_in_any_order_and_from_several_files(chance: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("files")
    texts: dict[str, list[bytes]] = {}
    for number, node in enumerate(("node-a", "node-b", "node-c")):
        texts[node] = [f"{node} {frame}".encode() for frame in range(5 + number)]
        frames = [
            p.Record(p.ip4("10.0.0.1", "10.0.0.2", p.udp(1, 2, text)), p.START_NS + frame * 10) for frame, text in enumerate(texts[node])
        ]
        content = p.pcap(frames, p.RAW)
        (folder / f"{node}.pcap{'.gz' * (number == 1)}").write_bytes(p.gzipped(content) if number == 1 else content)
    bundle = read_bundle([folder])
    rows = np.array([chance.randrange(18) for _ in range(25)])  # type: ignore[attr-defined] # some several times
    skip, size = np.arange(25) % 4, np.arange(25) % 5
    expected = []
    for row, front, length in zip(rows.tolist(), skip.tolist(), size.tolist(), strict=True):
        node = bundle.points[int(bundle.observations["point"][row])].node
        expected.append(texts[node][int(bundle.observations["frame"][row]) - 1][front : front + length])
    ordered = np.argsort(rows, kind="stable")
    found = payloads(bundle, rows[ordered], skip[ordered], size[ordered])
    assert found == [expected[place] for place in ordered.tolist()]


def test_a_cut_frame_gives_what_it_has(tmp_path: Path) -> None:
    text = b"0123456789"
    frame = p.ip4("10.0.0.1", "10.0.0.2", p.tcp(1, 2, "A", text))
    (tmp_path / "node-a.pcap").write_bytes(p.pcap([p.Record(frame[:44], wire=len(frame)), p.Record(frame)], p.RAW))
    bundle = read_bundle([tmp_path])
    assert payloads(bundle, np.arange(2), np.array([1, 8]), np.array([3, 2])) == [b"123", b"89"]


@pytest.mark.parametrize("ending", ["pcap", "pcapng.gz"])
def test_standard_input_is_kept_for_a_second_look(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = p.pcap(FRAMES) if ending == "pcap" else p.gzipped(pcapng())
    for keep in (True, False):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        bundle = read_bundle([Path("-")], keep_input=keep)
        assert bundle.observations["frame"].tolist() == list(range(1, 24))
        for _ in range(2):  # and for a third
            assert sorted(all_payloads(bundle)) == (sorted(SAID) if keep else [b""] * 23)


def test_a_file_that_is_gone_gives_nothing_and_others_all(tmp_path: Path) -> None:
    for node in ("node-a", "node-b"):
        (tmp_path / f"{node}.pcap").write_bytes(p.pcap([p.ethernet(p.ip4("10.0.0.1", "10.0.0.2", p.udp(1, 2, node.encode())))]))
    bundle = read_bundle([tmp_path])
    (tmp_path / "node-a.pcap").unlink()
    assert all_payloads(bundle) == [b"", b"node-b"]
    with pytest.raises(OSError, match="No such file"), open_again(bundle, tmp_path / "node-a.pcap"):
        pass


def test_a_file_that_has_become_shorter_breaks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "node-a.pcap"
    path.write_bytes(p.pcap(FRAMES))
    bundle = read_bundle([tmp_path])
    for cut in (0, 10, 24, 30, 700):
        path.write_bytes(p.pcap(FRAMES)[:cut])
        found = all_payloads(bundle)
        assert [len(text) for text in found] == bundle.observations["payload_bytes"].tolist() or set(found) == {b""}
