"""Damaged files: whatever was cut off or overwritten, nothing crashes or hangs, what is whole is used, and one line says what is not."""

from __future__ import annotations

import io
import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import ETHERNET, PcapNg, ethernet, gzipped, ip4, pcap, read, tcp, udp, vxlan, zstd

from probes.capture import Capture, lanes, read_capture, read_pieces, stream
from probes.capture.stream import PIECE_BYTES
from probes.schema import OBSERVATIONS, size

COUNT = 11
INNER = [ethernet(ip4("10.0.0.1", "10.0.0.2", tcp(1000, 80, seq=number, payload=b"p" * number))) for number in range(COUNT)]
FRAMES = [ethernet(ip4("1.1.1.1", "1.1.1.2", udp(5, 8472, vxlan(1, frame)))) if number % 3 else frame for number, frame in enumerate(INNER)]


def pcapng(big: bool = False) -> tuple[bytes, list[int]]:
    """A file with two sections, and where its packet blocks start."""
    file, places = PcapNg(), []
    for section in range(2):
        file.section(big=big).interface(ETHERNET, "a").interface(ETHERNET, "b")
        for number in range(section, COUNT, 2):
            places.append(len(bytes(file)))
            file.packet(FRAMES[number], interface=section, comments=("so",) if number % 4 == 1 else ())
        file.statistics(dropped=3)
    return bytes(file), places


def classic(big: bool = False) -> tuple[bytes, list[int]]:
    places = [24 + sum(16 + len(frame) for frame in FRAMES[:number]) for number in range(COUNT)]
    return pcap(FRAMES, big=big, nano=False), places


def sequence(capture: Capture) -> list[int]:
    """The frames found, by the sequence number that each has innermost."""
    OBSERVATIONS.check(capture.observations)
    return [int(seq) for seq, proto in zip(capture.observations["seq"], capture.observations["proto"], strict=True) if proto == 6]


@pytest.mark.parametrize("made", [classic, pcapng])
@pytest.mark.parametrize("big", [False, True])
def test_a_file_cut_anywhere_gives_the_frames_before_and_one_problem(made: Any, big: bool) -> None:
    file, _ = made(big)
    whole = read(file)
    assert whole.problems == []
    for end in range(len(file)):
        cut = read(file[:end])
        assert len(cut.problems) <= 1
        for name, column in cut.observations.items():
            assert column.tolist() == whole.observations[name].tolist()[: len(column)], (end, name)
        if cut.problems:
            [problem] = cut.problems
            assert problem.offset is not None
            assert problem.offset <= end
        kept = size(cut.observations)
        whole_frames = {int(frame) for frame in cut.observations["frame"]}
        assert whole_frames == {int(frame) for frame in whole.observations["frame"][:kept]}


@pytest.mark.parametrize("made", [classic, pcapng])
def test_a_cut_between_records_is_no_problem_and_within_one_is(made: Any) -> None:
    file, places = made()
    for number, place in enumerate(places):
        assert read(file[:place]).problems == []
        for end in (place + 1, place + 15, place + 30):
            [problem] = read(file[:end]).problems
            frames = f"after frame {number}" if number else "before the first frame"
            assert str(problem) == (
                f"file at {place}: the file ends in the middle of a record, {frames} "
                f"(all whole frames were used, the last {end - place} bytes were not; copy the file again if it should be longer)"
            )


def lying(file: bytes, place: int, lie: int, big: bool) -> bytes:
    """`file` with another number at `place`."""
    return file[:place] + struct.pack(">I" if big else "<I", lie) + file[place + 4 :]


LIES = (0, 1, 3, 4, 7, 16, 33, 100, 5000, 262_144, 262_145, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFFC)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_a_pcap_record_that_lies_about_its_length_costs_itself_alone(big: bool, lie: int) -> None:
    file, places = classic(big)
    for number, place in enumerate(places):
        capture = read(lying(file, place + 8, lie, big))
        assert [seq for seq in sequence(capture) if seq != number] == [seq for seq in range(COUNT) if seq != number], (number, lie)
        assert 1 <= len(capture.problems) <= 2


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("field", [4, 8, 20, -4])  # leading length, interface, captured length, closing length
@pytest.mark.parametrize("lie", LIES)
def test_a_pcapng_block_that_lies_costs_itself_alone(big: bool, field: int, lie: int) -> None:
    file, places = pcapng(big)
    order = [*range(0, COUNT, 2), *range(1, COUNT, 2)]
    for number, place in zip(order, places, strict=True):
        length = int.from_bytes(file[place + 4 : place + 8], "big" if big else "little")
        capture = read(lying(file, place + (field if field > 0 else length + field), lie, big))
        found = [seq for seq in sequence(capture) if seq != number]
        assert found == [seq for seq in order if seq != number], (number, lie)
        assert len(capture.problems) <= 1
        assert capture.statistics.dropped == 6


@pytest.mark.parametrize("made", [classic, pcapng])
@pytest.mark.parametrize("garbage", [b"\0" * 100, b"\xff" * 100, bytes(range(256)), b"\1\0\0\0" * 25, b"\x10\0\0\0" * 40])
def test_garbage_between_records_is_skipped(made: Any, garbage: bytes) -> None:
    file, places = made()
    for place in places:
        capture = read(file[:place] + garbage + file[place:])
        assert sorted(set(sequence(capture))) == list(range(COUNT))
        assert all("damaged record" in str(problem) or "the clock jumps" in str(problem) for problem in capture.problems)


def test_damage_says_where_it_is_and_how_much_was_skipped() -> None:
    file, places = classic()
    capture = read(file[: places[4]] + b"\xee" * 40 + file[places[4] :])
    [problem] = capture.problems
    assert str(problem) == (
        f"file at {places[4]}: damaged record after frame 4 (40 bytes were skipped and everything else was used; copy the file again)"
    )


def test_a_damaged_section_header_does_not_lend_its_interfaces() -> None:
    """What follows must not be read as being of the section before."""
    first = PcapNg().section().interface(ETHERNET, "right").packet(FRAMES[0])
    second = bytearray(bytes(PcapNg().section().interface(ETHERNET, "other").packet(FRAMES[3])))
    second[8:12] = b"what"
    capture = read(bytes(first) + bytes(second))
    names = [capture.points[point].interface for point in capture.observations["point"]]
    assert names[0] == "right"
    assert set(names[1:]) <= {"other"}
    assert len(capture.problems) == 1


def test_packets_of_interfaces_that_are_not_described_are_one_problem() -> None:
    file = PcapNg().section().interface()
    for frame in FRAMES:
        file.packet(frame, interface=5).packet(frame)
    capture = read(bytes(file))
    assert sequence(capture) == list(range(COUNT))
    assert len(capture.problems) == 1
    assert f"not described, or are shorter than their packet: {COUNT}, the first after frame 0" in str(capture.problems[0])


def blocks(kind: int, body: bytes) -> list[bytes]:
    """Files that end with a block of `kind`, its body cut at every length."""
    return [bytes(PcapNg().section().interface().packet(FRAMES[0]).block(kind, body[:length])) for length in range(0, len(body) + 1, 4)]


PACKET_BODY = struct.pack("<IIIII", 0, 395_812, 2**31, 52, 52) + FRAMES[0][:52] + struct.pack("<HHIHH", 2, 4, 1, 0, 0)


@pytest.mark.parametrize("kind", [2, 6])
def test_a_packet_longer_than_its_block_is_left_out(kind: int) -> None:
    for file in blocks(kind, PACKET_BODY)[:18]:  # those that end before the packet does
        capture = read(file)
        assert capture.statistics.frames == 1
        assert len(capture.problems) == 1
    directions = [read(file).observations["direction"].tolist() for file in blocks(kind, PACKET_BODY)[18:]]
    assert directions == [[0, 0], [0, 0], [0, 1], [0, 1]]


def test_problems_beyond_fifty_are_counted() -> None:
    file = b"".join(record + b"\xff" * 20 for record in [pcap([])] + [pcap(INNER * 3)[24:]] * 60)
    problems = read(file).problems
    assert len(problems) == 51
    assert "problems beyond the first 50: " in str(problems[-1])


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (b"", "file at 0: the file is empty (give pcap or pcapng, plain, gzip or zstd)"),
        (
            b"hello world, this is no capture",
            "file at 0: not a capture: it starts with 68 65 6c 6c (give pcap or pcapng, plain, gzip or zstd)",
        ),
        (b"\xd4", "file at 0: not a capture: it starts with d4 (give pcap or pcapng, plain, gzip or zstd)"),
        (pcap([])[:10], "file at 0: the file ends inside its header, after 10 of 24 bytes (give pcap or pcapng, plain, gzip or zstd)"),
        (gzipped(b"hello"), "file at 0: not a capture: it starts with 68 65 6c 6c (give pcap or pcapng, plain, gzip or zstd)"),
    ],
)
def test_what_is_no_capture_is_an_error(file: bytes, expected: str) -> None:
    capture = read(file)
    assert [str(problem) for problem in capture.problems] == [expected]
    assert capture.problems[0].severity == "error"
    assert size(capture.observations) == 0
    assert capture.points == []


@pytest.mark.parametrize("packed", [gzipped(classic()[0]), zstd(pcapng()[0]), gzipped(pcapng()[0], 3), zstd(classic()[0], 3)])
def test_a_compressed_file_cut_anywhere_gives_what_can_be_unpacked(packed: bytes) -> None:
    whole = sequence(read(packed))
    blocks = packed.startswith(b"\x28")  # Zstandard unpacks in blocks, and these files are of one or three
    assert sorted(whole) == list(range(COUNT))
    found = 0
    for end in range(4, len(packed)):
        capture = read(packed[:end])
        assert sequence(capture) == whole[: len(sequence(capture))]
        assert len(capture.problems) <= 1
        at_end_of_member = "ends in the middle of a record"  # that members are missing, only what they hold can tell
        assert all("stream ends before its end mark" in str(problem) or at_end_of_member in str(problem) for problem in capture.problems)
        assert len(sequence(capture)) >= found
        found = len(sequence(capture))
    assert found > COUNT // 2 - blocks * COUNT


def test_a_compressed_file_damaged_within_says_so() -> None:
    noise = random.Random(1)
    frames = [ethernet(ip4("10.0.0.1", "10.0.0.2", udp(1, 2, noise.randbytes(1000)))) for _ in range(101)]
    packed = bytearray(gzipped(pcap(frames)))
    packed[-4] ^= 0xFF  # of the length at the end
    capture = read(bytes(packed))
    assert [problem.what.partition(":")[0] for problem in capture.problems] == ["gzip stream is damaged"]
    assert 101 - PIECE_BYTES // 1000 - 1 <= size(capture.observations) <= 101


def test_what_follows_a_compressed_stream_is_reported() -> None:
    capture = read(gzipped(classic()[0]) + b"trailing garbage")
    assert sequence(capture) == list(range(COUNT))
    assert [problem.what for problem in capture.problems] == ["what follows the gzip stream is not gzip"]


class Failing(io.BytesIO):
    def readinto(self, buffer: Any, /) -> int:
        if self.tell() > 100:
            raise OSError(5, "Input/output error")
        return super().readinto(memoryview(buffer)[:500])


def test_a_file_that_cannot_be_read_on_gives_what_came_before() -> None:
    capture = read_capture(Failing(classic()[0]), "file", "node")
    assert 0 < len(sequence(capture)) < COUNT
    [problem] = capture.problems
    assert "file at 500: cannot be read on: Input/output error" in str(problem)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_on_disk_that_cannot_be_read_on_gives_what_came_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int
) -> None:
    path, preadv = tmp_path / "file", os.preadv
    path.write_bytes(classic()[0])

    def failing(descriptor: int, buffers: list[Any], offset: int) -> int:
        if offset + len(buffers[0]) > 512:
            raise OSError(5, "Input/output error")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(stream, "READ_BYTES", 128)
    monkeypatch.setattr(lanes, "LANES", threads)
    monkeypatch.setattr(os, "preadv", failing)
    with path.open("rb") as opened:
        capture = read_capture(opened, "file", "node")
    assert sequence(capture) == list(range(len(sequence(capture))))
    assert 0 < len(sequence(capture)) < COUNT
    [problem] = capture.problems
    assert "file at 512: cannot be read on: Input/output error" in str(problem)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_that_gets_shorter_or_longer_while_it_is_read_has_no_gap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int
) -> None:
    path, (content, places) = tmp_path / "file", classic()
    monkeypatch.setattr(stream, "READ_BYTES", 128)
    monkeypatch.setattr(lanes, "LANES", threads)
    for before, after in ((len(content), places[COUNT // 2] + 3), (places[COUNT // 2] + 3, len(content))):
        path.write_bytes(content[:before])
        with path.open("rb") as opened:
            pieces = read_pieces(opened, "file", "node", 1)
            tables = [next(pieces.tables)]
            path.write_bytes(content[:after])
            tables += pieces.tables
        numbers = sequence(Capture("file", "node", OBSERVATIONS.concat(tables), pieces.points, pieces.statistics, pieces.problems))
        assert numbers == list(range(len(numbers)))
        assert COUNT // 2 - 1 <= len(numbers) <= COUNT


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_overwritten_anywhere_never_crash_or_hang(data: st.DataObject) -> None:
    file, _ = data.draw(st.sampled_from((classic(), classic(big=True), pcapng(), pcapng(big=True))))
    damaged = bytearray(file)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged)))
        change = data.draw(st.binary(max_size=12))
        damaged[place : place + data.draw(st.integers(0, 12))] = change
    capture = read(bytes(damaged))
    OBSERVATIONS.check(capture.observations)
    outer = capture.observations["outer"]
    assert ((outer < 0) | (outer < range(len(outer)))).all()
    assert all("\n" not in str(problem) for problem in capture.problems)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from((pcap([]), bytes(PcapNg().section().interface()), b"")), st.binary(max_size=300), st.integers(1, 30))
def test_garbage_behind_a_header_never_crashes_or_hangs(start: bytes, garbage: bytes, times: int) -> None:
    OBSERVATIONS.check(read(start + garbage * times).observations)
