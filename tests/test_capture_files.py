"""Both file formats in every variant: the frames that were written are read, and what the file says of itself is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import (
    ETHERNET,
    RAW,
    SLL2,
    START_NS,
    STEP_NS,
    PcapNg,
    Record,
    ethernet,
    gzipped,
    ip4,
    ip6,
    pcap,
    read,
    sll2,
    tcp,
    udp,
    zstd,
)
from packets_random import FRAMES

from probes import pages
from probes.capture import columns, line_up
from probes.capture.reader import merge_captures
from probes.schema import OBSERVATIONS, size

PACKETS = [ip4("10.0.0.1", "10.0.0.2", tcp(1000 + number, 80, seq=number)) for number in range(23)]
ETHERNET_FRAMES = [ethernet(packet) for packet in PACKETS]
SEQUENCE = list(range(23))
TIMES = [START_NS + number * STEP_NS for number in range(23)]


def sections(*big: bool) -> bytes:
    """A section in each byte order, two interfaces each, the frames dealt out between all of them."""
    file = PcapNg()
    for number, order in enumerate(big):
        file.section(big=order).interface(ETHERNET, f"eth{number}").interface(RAW, f"tun{number}")
        for place in range(number, 23, len(big)):
            frame, interface = ((ETHERNET_FRAMES, 0), (PACKETS, 1))[place % 3 == 0]
            file.packet(frame[place], TIMES[place], interface=interface)
    return bytes(file)


FILES: dict[str, bytes] = {
    "pcap, µs": pcap(ETHERNET_FRAMES, nano=False),
    "pcap, µs, big-endian": pcap(ETHERNET_FRAMES, nano=False, big=True),
    "pcap, ns": pcap(ETHERNET_FRAMES),
    "pcap, ns, big-endian": pcap(ETHERNET_FRAMES, big=True),
    "pcap without a snaplen": pcap(ETHERNET_FRAMES, snaplen=0),
    "pcap longer than its snaplen": pcap(ETHERNET_FRAMES, snaplen=20),
    "pcapng": sections(False),
    "pcapng, big-endian": sections(True),
    "pcapng, sections of both orders": sections(False, True, False),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzipped,
    "gzip, several members": lambda file: gzipped(file, 3),
    "gzip, padded": lambda file: gzipped(file) + bytes(512),
    "zstd": zstd,
    "zstd, several frames": lambda file: zstd(file, 3),
    "zstd behind a skippable frame": lambda file: b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstd(file),
}


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_read(name: str, packing: str) -> None:
    capture = read(PACKED[packing](FILES[name]))
    assert capture.problems == []
    assert sorted(capture.observations["seq"].tolist()) == SEQUENCE
    unit = 1000 if "µs" in name else 1
    assert sorted(capture.observations["time_ns"].tolist()) == [time // unit * unit for time in TIMES]
    assert capture.observations["frame"].tolist() == list(range(1, 24))
    assert {point.resolution_ns for point in capture.points} == {unit}
    assert capture.statistics.frames == 23
    OBSERVATIONS.check(capture.observations)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_written_is_read(data: st.DataObject) -> None:
    """The same frames in every format give the same table."""
    link_type = data.draw(st.sampled_from(sorted(FRAMES)))
    frames = data.draw(st.lists(FRAMES[link_type], max_size=12))
    file = PcapNg().section(big=data.draw(st.booleans())).interface(link_type)
    for frame in frames:
        file.packet(frame)
    one = read(pcap(frames, link_type, big=data.draw(st.booleans())))
    other = read(bytes(file))
    assert one.problems == other.problems == []
    assert one.statistics.frames == len(frames)
    for column, values in one.observations.items():
        assert values.tolist() == other.observations[column].tolist(), column


def test_interfaces_have_names_directions_and_clocks() -> None:
    file = PcapNg().section()
    file.interface(ETHERNET, "veth1a", resolution=None).interface(SLL2, "any", resolution=9).interface(RAW, offset_s=-3600, resolution=-20)
    file.packet(ETHERNET_FRAMES[0], 1_000_000_001_999, direction=1)
    file.packet(sll2(PACKETS[1], ifindex=7, kind=4), 1_000_000_001_999, interface=1)
    file.packet(PACKETS[2], 1_000_500_000_000, interface=2, direction=2)
    file.old_packet(ETHERNET_FRAMES[3], 1_000_000_003_000, direction=2)
    file.packet(ETHERNET_FRAMES[4], 1_000_000_004_000, direction=3)
    capture = read(bytes(file))
    assert capture.problems == []
    assert [(point.interface, point.ifindex, point.resolution_ns) for point in capture.points] == [
        ("veth1a", -1, 1000), ("if7", 7, 1), ("interface 2", -1, 954),
    ]  # fmt: skip
    table = capture.observations
    assert table["point"].tolist() == [0, 1, 2, 0, 0]
    assert table["direction"].tolist() == [1, 2, 2, 2, 0]
    assert table["time_ns"].tolist() == [1_000_000_001_000, 1_000_000_001_999, 1_000_500_000_000, 1_000_000_003_000, 1_000_000_004_000]


@pytest.mark.parametrize(
    ("resolution", "offset_s", "time_ns", "expected"),
    [
        (0, None, 7_999_999_999, 7_000_000_000),
        (3, 5, 7_123_456_789, 7_123_000_000),
        (9, None, START_NS, START_NS),
        (12, 1_699_999_000, START_NS, START_NS),
        (18, 1_699_999_999, START_NS, START_NS),
        (-1, None, 7_750_000_000, 7_500_000_000),
        (-30, None, START_NS, START_NS - 1),
        (-40, 1_699_999_000, START_NS, START_NS - 1),
        (-63, 1_700_000_000, START_NS, START_NS - 1),
    ],
)
def test_time_in_any_unit(resolution: int, offset_s: int | None, time_ns: int, expected: int) -> None:
    file = PcapNg().section().interface(resolution=resolution, offset_s=offset_s).packet(ETHERNET_FRAMES[0], time_ns)
    capture = read(bytes(file))
    assert capture.problems == []
    assert capture.observations["time_ns"].tolist() == [expected]


@pytest.mark.parametrize("resolution", [19, 127, -64, -127])
def test_units_too_fine_for_their_timestamps_are_reported(resolution: int) -> None:
    file = PcapNg().section().interface(ETHERNET, "eth0", resolution=resolution).packet(ETHERNET_FRAMES[0], 0)
    capture = read(bytes(file))
    problem, *_ = capture.problems
    assert f"interface eth0 counts time in units of {'10' if resolution > 0 else '2'}^-{abs(resolution)} s" in str(problem)
    assert size(capture.observations) == 1


def test_drops_are_those_of_the_last_statistics_of_each_interface() -> None:
    file = PcapNg().section().interface(name="a").interface(name="b")
    file.statistics(0, dropped=5).statistics(1).statistics(0, dropped=7, dropped_by_os=1).statistics(1, dropped_by_os=100)
    file.section().interface(name="c").statistics(0, dropped=1000)
    assert read(bytes(file)).statistics.dropped == 1108


def test_a_file_that_counts_no_drops_says_so() -> None:
    assert read(pcap([])).statistics.dropped is None
    assert read(bytes(PcapNg().section().interface().statistics())).statistics.dropped is None
    assert read(bytes(PcapNg().section().interface().statistics(dropped=0))).statistics.dropped == 0


def test_comments_are_kept() -> None:
    file = PcapNg().section(comment="of the section").interface(comment="of the interface").packet(ETHERNET_FRAMES[0])
    file.packet(ETHERNET_FRAMES[1], comments=("first ✓", "second"), direction=1).section(big=True).interface()
    file.packet(ETHERNET_FRAMES[2], comments=("third",))
    capture = read(bytes(file))
    assert capture.statistics.comments == [
        (None, "of the section"), (None, "of the interface"), (2, "first ✓"), (2, "second"), (3, "third"),
    ]  # fmt: skip
    assert capture.observations["direction"].tolist() == [0, 1, 0]


def test_a_thousand_comments_are_enough() -> None:
    file = PcapNg().section().interface()
    for number in range(1003):
        file.packet(ETHERNET_FRAMES[0], comments=(str(number),))
    capture = read(bytes(file))
    assert len(capture.statistics.comments) == 1000
    assert [str(problem) for problem in capture.problems] == ["file: comments beyond the first 1000: 3 (they were left out)"]


def test_simple_packets_are_of_the_first_interface_and_have_no_time() -> None:
    file = PcapNg().section().interface(ETHERNET, "eth0", snaplen=60).packet(ETHERNET_FRAMES[0])
    file.simple_packet(ETHERNET_FRAMES[1]).simple_packet((ETHERNET_FRAMES[2] + b"x" * 30)[:60], wire=84).packet(ETHERNET_FRAMES[3])
    capture = read(bytes(file))
    assert capture.observations["seq"].tolist() == [0, 1, 2, 3]
    assert capture.observations["time_ns"].tolist()[1:3] == [0, 0]
    assert capture.observations["captured_bytes"].tolist() == [54, 54, 60, 54]
    assert capture.observations["wire_bytes"].tolist() == [54, 54, 84, 54]
    assert [problem.what for problem in capture.problems] == ["frames without a time: 2"]


def test_unknown_blocks_are_passed_over() -> None:
    file = PcapNg().section().block(0x0BAD, b"custom").interface().block(4, bytes(8)).packet(ETHERNET_FRAMES[0]).block(9, b"journal")
    capture = read(bytes(file.block(77, b"").packet(ETHERNET_FRAMES[1]).block(10, bytes(400))))
    assert capture.problems == []
    assert capture.observations["seq"].tolist() == [0, 1]


def test_an_unknown_link_type_is_one_problem_and_the_rest_is_used() -> None:
    file = PcapNg().section().interface(147, "usb0").interface(ETHERNET, "eth0")
    for number in range(5):
        file.packet(b"what", interface=0).packet(ETHERNET_FRAMES[number], interface=1)
    capture = read(bytes(file))
    [problem] = capture.problems
    assert "unknown link type 147 on interface usb0" in str(problem)
    assert capture.observations["seq"].tolist() == [0, 1, 2, 3, 4]
    assert [point.interface for point in capture.points] == ["eth0"]
    assert capture.statistics.other == 5


def test_flags_in_the_link_type_are_no_part_of_it() -> None:
    """The upper bits tell of a frame check sequence (4 of 2 bytes here)."""
    capture = read(pcap(ETHERNET_FRAMES, ETHERNET | 0x2400_0000 << 2))
    assert [point.link_type for point in capture.points] == [ETHERNET]


def test_statistics_count_frames_and_bytes() -> None:
    records = [Record(ETHERNET_FRAMES[0], 5_000), Record(ETHERNET_FRAMES[1][:40], 7_000, wire=54), Record(b"\0" * 14, 9_000)]
    statistics = read(pcap(records)).statistics
    assert (statistics.frames, statistics.bytes, statistics.truncated, statistics.other) == (3, 54 + 40 + 14, 1, 1)
    assert (statistics.first_ns, statistics.last_ns) == (5_000, 9_000)


def test_segmentation_offload_beyond_64_kib_is_counted_from_the_wire() -> None:
    """BIG TCP leaves the IP length at zero; a cut frame still tells how long it was."""
    four = ethernet(ip4("10.0.0.1", "10.0.0.2", tcp(1, 2, payload=bytes(60)), total=0))
    six = ethernet(ip6("fd00::1", "fd00::2", udp(1, 2, bytes(60)), length=0))
    table = read(pcap([Record(four, wire=100_014), Record(six, wire=100_014)])).observations
    assert table["payload_bytes"].tolist() == [100_000 - 40, 100_000 - 48]


JUMP = 2_000_000_000


def test_a_clock_set_back_is_reported_once_for_each_interface() -> None:
    file = PcapNg().section().interface(ETHERNET, "eth0").interface(ETHERNET, "eth1").interface(ETHERNET, "eth2")
    for time_ns, interface in ((0, 0), (10, 1), (5, 0), (0, 0), (3, 1), (0, 1), (7, 2), (1, 0), (8, 2)):
        file.packet(ETHERNET_FRAMES[0], START_NS + time_ns * JUMP, interface=interface)
    assert [str(problem).partition(" (")[0] for problem in read(bytes(file)).problems] == [
        "file: the clock jumps back by 10.000 s at frame 4 on eth0",
        "file: the clock jumps back by 14.000 s at frame 5 on eth1; 2 jumps in all",
    ]


def test_packets_slightly_out_of_order_are_no_jump() -> None:
    assert read(pcap([Record(ETHERNET_FRAMES[0], START_NS + at) for at in (0, 90_000_000, 0, 5)])).problems == []


def test_merged_captures_count_points_and_outer_rows_through() -> None:
    captures = [read(FILES["pcapng, sections of both orders"]), read(FILES["pcap, ns"])]
    points = [point for capture in captures for point in capture.points]
    seqs = [seq for capture in captures for seq in capture.observations["seq"].tolist()]
    table, merged = merge_captures(captures)
    assert merged == points
    assert table["seq"].tolist() == seqs
    assert table["point"].max() == len(points) - 1
    assert size(merge_captures([])[0]) == 0


@pytest.mark.parametrize("small_bytes", [0, 1 << 16])  # columns that are no larger are ordinary arrays
@pytest.mark.parametrize("moves", [True, False])
def test_captures_in_one_table_are_what_they_were(moves: bool, small_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SMALL_BYTES", small_bytes)
    if not moves:
        monkeypatch.setattr(pages, "_calls", lambda: None)
    long = pcap([sll2(ip4("10.0.0.1", "10.0.0.2", udp(4789, 4789, b"\x08" + bytes(7) + frame))) for frame in ETHERNET_FRAMES * 100], SLL2)
    for files in ([], [long], [long, FILES["pcapng, sections of both orders"], pcap([]), long]):
        table, ranges = line_up([read(file) for file in files])
        assert list(table) == [column.name for column in OBSERVATIONS.columns]
        points = 0
        for file, rows in zip(files, ranges, strict=True):
            before = read(file)
            assert len(rows) == size(before.observations)
            for name, column in before.observations.items():
                shift = {"point": points, "outer": np.where(column >= 0, rows.start, 0)}.get(name, 0)
                assert (table[name][rows.start : rows.stop] == column + shift).all()
            points += len(before.points)
