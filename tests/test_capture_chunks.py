"""A file is read in chunks; where they end must not show, in sound files or in damaged ones."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packets import Record, ethernet, gzipped, pcap, read, sll2, zstd
from packets_damaged import damaged_files, sample_frames
from test_decode_layers import PACKETS, TUNNELLED

from probes.capture import Capture, columns, lanes, read_capture, records, spans, stream
from probes.capture import pcap as pcap_module
from probes.capture.points import PointNumbers
from probes.decode import empty_rows
from probes.schema import OBSERVATIONS

ALL = [packet for packet, _ in (*PACKETS.values(), *TUNNELLED.values())]
FILES = damaged_files(sample_frames(ALL, [ethernet(packet) for packet in ALL], [sll2(packet, 3) for packet in ALL]), 201)
WHOLE = pcap([sll2(packet, number % 7) for number, packet in enumerate(ALL * 5)], 276)


def facts(capture: Capture) -> dict[str, Any]:
    columns = {name: column.tolist() for name, column in capture.observations.items()}
    return {**columns, "points": capture.points, "statistics": capture.statistics, "problems": [str(each) for each in capture.problems]}


class _TakenAtOnce:
    """A span's `filling` that is waited for: whoever gets the span has looked at it, and begins to fill it again."""

    def __init__(self, span: spans.Span) -> None:
        self._span = span

    def release(self) -> None:
        self._span.size = 0


def test_the_end_of_a_file_is_told_of_what_was_read_even_if_the_span_is_used_again_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bytes"
    file.write_bytes(bytes(30))
    with file.open("rb") as opened:
        ended = []
        for offset in (0, 16):
            span = spans.Spans(16, many=False).empty()
            span.offset, span.filling = offset, _TakenAtOnce(span)  # type: ignore[assignment]
            ended.append(span.fill(opened.fileno()))
    assert ended == [False, True]


@pytest.fixture(
    params=[(1, 1, 1), (3, 1, 2), (7, 2, 1), (16, 3, 3), (61, 5, 2), (1000, 4, 1), (1000, 4, 7), (1 << 20, 2, 2)],
    ids=lambda sizes: f"{sizes[0]} bytes, {sizes[1]} frames, {sizes[2]} threads",
)
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    read_bytes, frames, threads = request.param
    monkeypatch.setattr(stream, "READ_BYTES", read_bytes)
    monkeypatch.setattr(stream, "PIECE_BYTES", max(read_bytes, 4))
    monkeypatch.setattr(records, "FRAMES_PER_CHUNK", frames)
    monkeypatch.setattr(lanes, "LANES", threads)
    monkeypatch.setattr(pcap_module, "USUAL_SNAPLEN", 1000)  # so that records in doubt are decided before the file ends
    return int(read_bytes)


@pytest.fixture(scope="module")
def at_once() -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pcap_module, "USUAL_SNAPLEN", 1000)
        return [facts(read(file)) for file in (WHOLE, *FILES)]


def test_the_size_of_chunks_does_not_show(chunked: int, at_once: list[dict[str, Any]]) -> None:
    files = (WHOLE, *FILES)[:: 9 if chunked < 10 else 1]  # a byte at a time takes its time
    for number, (file, expected) in enumerate(zip(files, at_once[:: 9 if chunked < 10 else 1], strict=True)):
        assert facts(read(file)) == expected, number


def test_the_size_of_chunks_does_not_show_in_files_on_disk(chunked: int, at_once: list[dict[str, Any]], tmp_path: Path) -> None:
    """Their chunks are read side by side, in any order."""
    step = 29 if chunked < 10 else 3
    for number, (file, expected) in enumerate(zip((WHOLE, *FILES)[::step], at_once[::step], strict=True)):
        (tmp_path / "file").write_bytes(file)
        with (tmp_path / "file").open("rb") as opened:
            assert facts(read_capture(opened, "file", "node")) == expected, number


def test_a_file_is_read_from_where_it_stands(at_once: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else" + WHOLE)
    with (tmp_path / "file").open("rb") as opened:
        opened.read(len(b"something else"))
        assert facts(read_capture(opened, "file", "node")) == at_once[0]


@pytest.mark.parametrize("moves_pages", [True, False])
def test_columns_keep_their_rows_however_they_grow(monkeypatch: pytest.MonkeyPatch, moves_pages: bool) -> None:
    monkeypatch.setattr(columns, "MOVES_PAGES", moves_pages)
    chance = np.random.default_rng(7)
    grown, rows = columns.Columns(OBSERVATIONS), empty_rows(20_011)
    expected: dict[str, list[Any]] = {name: [] for name in OBSERVATIONS.empty()}
    for share in (0.0, 0.3, 0.5, 0.0, 0.9, 1.0):
        count = int(chance.integers(1, 20_011))
        for number, (name, column) in enumerate(zip(expected, rows, strict=True)):
            if number % 3:  # the others are zero, and not written
                column[:count] = chance.integers(0, 100, count)
            expected[name] += column[:count].tolist()
        grown.move(columns.by_size(rows), count, grown.reserve(count, share), share)
        assert not any(column.any() for column in rows)
    table = OBSERVATIONS.check(grown.table(grown.size))
    assert {name: column.tolist() for name, column in table.items()} == expected


def test_rows_refer_to_their_outer_ones_across_chunks(chunked: int, at_once: list[dict[str, Any]]) -> None:
    table = read(WHOLE).observations
    inner = table["outer"] >= 0
    assert inner.sum() > 100
    assert (table["frame"][table["outer"][inner]] == table["frame"][inner]).all()
    assert table["outer"].tolist() == at_once[0]["outer"]


@pytest.mark.parametrize("pack", [gzipped, zstd])
def test_the_size_of_chunks_does_not_show_in_compressed_files(chunked: int, at_once: list[dict[str, Any]], pack: Any) -> None:
    assert facts(read(pack(WHOLE, 3))) == at_once[0]


def test_a_record_larger_than_a_chunk_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "READ_BYTES", 4096)
    frame = ethernet(ALL[0])
    capture = read(pcap([frame, frame + bytes(200_000), frame]))
    assert capture.problems == []
    assert capture.observations["captured_bytes"].tolist() == [len(frame), len(frame) + 200_000, len(frame)]


def test_clocks_are_watched_across_chunks(chunked: int) -> None:
    assert chunked
    capture = read(pcap([Record(ethernet(ALL[0]), time_ns * 10**9) for time_ns in (50, 60, 40, 41, 42)]))
    assert [problem.what for problem in capture.problems] == ["the clock jumps back by 20.000 s at frame 3"]


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "READ_BYTES", 1000)
    seen: list[int] = []
    read_capture(io.BytesIO(WHOLE), "file", "node", seen.append)
    assert seen == sorted(seen)
    assert len(WHOLE) - 3000 < seen[-1] <= len(WHOLE)


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_what_goes_wrong_in_any_thread_ends_the_others_and_is_raised(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(stream, "READ_BYTES", 1000)
    monkeypatch.setattr(lanes, "LANES", threads)
    before = threading.active_count()
    seen: list[int] = []

    def progress(position: int) -> None:
        seen.append(position)
        if len(seen) == 11:
            raise _EnoughError

    with pytest.raises(_EnoughError):
        read_capture(io.BytesIO(WHOLE), "file", "node", progress)
    assert 11 <= len(seen) < 11 + threads  # others may be about to take a chunk
    assert threading.active_count() == before


def test_more_points_than_are_kept_at_hand_are_numbered_too() -> None:
    points = PointNumbers()
    ifindexes = np.arange(10_000, dtype="i8") * 7919 % 9_973
    interfaces = np.arange(10_000, dtype="u4") % 3
    first, again = interfaces.copy(), interfaces.copy()
    points.number(first[:5000], ifindexes[:5000])
    points.number(first[5000:], ifindexes[5000:])
    points.number(again, ifindexes)
    assert again.tolist() == first.tolist()
    pairs = points.pairs()
    expected = list(zip(interfaces.tolist(), ifindexes.tolist(), strict=True))
    assert [pairs[number] for number in first] == expected
    assert pairs == list(dict.fromkeys(expected))
