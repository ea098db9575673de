"""What is written as pcapng is what our own reader, tshark and capinfos read: names, times, directions, counters, comments."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import ETHERNET, RAW, START_NS, ethernet, ip4, read, tcp

from probes.live.pcapng import (
    InterfaceCounters,
    InterfaceDescription,
    interface_description,
    interface_statistics,
    packet_blocks,
    section_header,
    whole_blocks,
)
from probes.schema import Array

Row = tuple[int, int, int, bytes]  # interface, ns after START_NS, direction, frame
FRAMES = [ethernet(ip4("10.0.0.1", "10.0.0.2", tcp(1000 + number, 80, payload=b"x" * number))) for number in range(23)]
NAMES = ("eth0", "cni-3/eth0")
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def blocks(rows: list[Row], *, cut: int = 1 << 16, gap: int = 3) -> Array:
    """The blocks of `rows`, whose frames stand `gap` bytes apart and are captured up to `cut` bytes."""
    frames = [frame[:cut] for *_, frame in rows]
    ends = np.cumsum([len(frame) + gap for frame in frames], dtype="i8")
    return packet_blocks(
        np.array([row[0] for row in rows], "u4"), np.array([START_NS + row[1] for row in rows], "i8"),
        np.array([len(row[3]) for row in rows], "u4"), np.array([row[2] for row in rows], "u1"),
        ends - [len(frame) + gap for frame in frames] if frames else ends, np.array([len(frame) for frame in frames], "u4"),
        np.frombuffer(b"".join(frame + b"\xff" * gap for frame in frames), "u1"),
    )  # fmt: skip


def head(*comments: str) -> bytes:
    interfaces = [InterfaceDescription(name, ETHERNET, 128, f"number {at}", "tcp port 80", "seen") for at, name in enumerate(NAMES)]
    section = section_header(hardware="x86_64", system="Linux 6.18", application="hopline", comments=comments)
    return section + b"".join(interface_description(each) for each in interfaces)


ROWS: list[Row] = [(number % 2, 7 * number, number % 3, frame) for number, frame in enumerate(FRAMES)]


def test_our_reader_reads_what_was_written() -> None:
    statistics = [
        interface_statistics(0, InterfaceCounters(20, 1, 19, 2, 12), start_ns=START_NS, end_ns=START_NS + 1000),
        interface_statistics(1, InterfaceCounters(dropped_by_system=4), start_ns=START_NS, end_ns=START_NS + 1000),
    ]
    capture = read(head("the first", "the second") + blocks(ROWS, cut=60).tobytes() + b"".join(statistics))
    table, names = capture.observations, [point.interface for point in capture.points]
    assert capture.problems == []
    assert [names[point] for point in table["point"]] == [NAMES[row[0]] for row in ROWS]
    assert table["time_ns"].tolist() == [START_NS + row[1] for row in ROWS]
    assert table["direction"].tolist() == [row[2] for row in ROWS]
    assert table["wire_bytes"].tolist() == [len(frame) for frame in FRAMES]
    assert table["captured_bytes"].tolist() == [min(len(frame), 60) for frame in FRAMES]
    assert table["sport"].tolist() == [1000 + number for number in range(23)]
    assert {point.resolution_ns for point in capture.points} == {1}
    assert capture.statistics.dropped == 1 + 2 + 4
    assert capture.statistics.comments == [(None, text) for text in ("the first", "the second", "seen", "seen")]


@settings(deadline=None)  # the first example may compile
@given(st.lists(st.tuples(st.just(0), st.integers(0, 2**62), st.integers(0, 2), st.binary(max_size=70)), max_size=23), st.integers(0, 5))
def test_any_frames_are_read_again(rows: list[Row], gap: int) -> None:
    """Whatever their lengths: the padding is zero, and blocks follow one another without holes."""
    written = blocks(rows, gap=gap).tobytes()
    at = 0
    for interface, after_ns, direction, frame in rows:
        size = int.from_bytes(written[at + 4 : at + 8], "little")
        block = written[at : at + size]
        time_ns = (START_NS + after_ns).to_bytes(8, "little")
        padded = frame + bytes(-len(frame) % 4)
        expected = [
            6,
            size,
            interface,
            int.from_bytes(time_ns[4:], "little"),
            int.from_bytes(time_ns[:4], "little"),
            len(frame),
            len(frame),
        ]
        assert block[:28] == b"".join(number.to_bytes(4, "little") for number in expected)
        options = b"\x02\0\x04\0" + bytes([direction, 0, 0, 0]) + bytes(4) if direction else b""
        assert block[28:] == padded + options + size.to_bytes(4, "little")
        at += size
    assert at == len(written)


def test_a_frame_outside_the_data_is_an_error() -> None:
    one = np.ones(1, "u4")
    for offset, captured in ((0, 5), (-1, 2), (4, 1), (2**40, 0)):
        with pytest.raises(ValueError, match="not in the data"):
            packet_blocks(one, one.astype("i8"), one, one.astype("u1"), np.array([offset]), one * np.uint32(captured), np.zeros(4, "u1"))


def test_blocks_are_counted_up_to_where_there_is_room() -> None:
    rows: list[Row] = [(0, 0, 1, frame) for frame in FRAMES]
    written = blocks(rows)
    ends = np.cumsum([len(blocks([row])) for row in rows]).tolist()
    assert whole_blocks(written, 0, len(written)) == (len(written), 23)
    for number, end in enumerate(ends):
        assert whole_blocks(written, 0, end) == (end, number + 1)
        assert whole_blocks(written, 0, end - 1) == (ends[number - 1] if number else 0, number)
        assert whole_blocks(written, end, 1 << 40) == (len(written), 22 - number)


def tshark(file: Path, *arguments: str) -> list[list[str]]:
    done = subprocess.run(["tshark", "-r", file, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.replace('Running as user "root" and group "root". This could be dangerous.', "").strip() == ""
    return [line.split("\t") for line in done.stdout.splitlines()]


@needs_tshark
def test_tshark_reads_names_times_and_directions(tmp_path: Path) -> None:
    file = tmp_path / "one.pcapng"
    file.write_bytes(head() + blocks(ROWS, cut=60).tobytes())
    fields = (
        "frame.interface_name", "frame.interface_description", "frame.time_epoch", "frame.packet_flags_direction", "frame.len",
        "frame.cap_len", "tcp.srcport",
    )  # fmt: skip
    found = tshark(file, "-T", "fields", *(word for field in fields for word in ("-e", field)))
    assert found == [
        [
            NAMES[interface], f"number {interface}", f"{(START_NS + after) // 10**9}.{(START_NS + after) % 10**9:09}",
            f"0x{direction:08x}" if direction else "", str(len(frame)), str(min(len(frame), 60)), str(1000 + number),
        ]
        for number, (interface, after, direction, frame) in enumerate(ROWS)
    ]  # fmt: skip


@needs_tshark
def test_capinfos_reads_what_a_file_says_of_itself(tmp_path: Path) -> None:
    file = tmp_path / "one.pcapng"
    file.write_bytes(head("a gap") + blocks(ROWS).tobytes())
    told = subprocess.run(["capinfos", file], capture_output=True, text=True, check=True).stdout
    for line in (
        "Capture hardware:    x86_64", "Capture oper-sys:    Linux 6.18", "Capture application: hopline", "Capture comment:     a gap",
        "Name = cni-3/eth0", "Description = number 1", "Filter string = tcp port 80", "Time precision = nanoseconds (9)",
        "Number of packets:   23", "Strict time order:   True", "Capture length = 128",
    ):  # fmt: skip
        assert line in told, told


@needs_tshark
def test_wireshark_dissects_the_statistics(tmp_path: Path) -> None:
    """Wireshark reads the file as a file, block by block."""
    file = tmp_path / "one.pcapng"
    counters = InterfaceCounters(received=101, dropped=2, accepted=99, dropped_by_system=3, delivered=96)
    file.write_bytes(head() + interface_statistics(1, counters, start_ns=START_NS, end_ns=START_NS + 10**9, comments=["why"]))
    told = "\n".join(line for (line,) in tshark(file, "-X", "read_format:MIME Files Format", "-V"))
    for words in (
        "Interface: 1", "Number of Received Packets = 101", "Number of Dropped Packets = 2", "Number of Accepted Packets = 99",
        "Number of Packets Dropped by OS = 3", "Number of Packets Delivered to the User = 96", "Comment = why",
        "Nov 14, 2023 22:13:21.123456789 UTC", "Option: Start Time", "Option: End Time",
    ):  # fmt: skip
        assert words in told, told
    assert "Malformed" not in told


def test_other_link_types_are_kept() -> None:
    file = section_header() + interface_description(InterfaceDescription("tun0", RAW)) + blocks([(0, 0, 1, FRAMES[0][14:])]).tobytes()
    assert [(point.interface, point.link_type) for point in read(file).points] == [("tun0", RAW)]
