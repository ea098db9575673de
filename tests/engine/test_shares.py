"""Shares of captures, read apart, give what the captures do, and as much to do for each worker."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from analysis.engine import spill
from analysis.engine.shares import BEFORE, Share, in_order, shares
from probes.capture import columns, records
from probes.decode.numbers import PACKET, TCP, UDP
from probes.pages import KeptPages
from probes.schema import Array, Table
from tracer.bundle import open_bundle
from tracer.bundle_files import CaptureFile
from tracer.partitions import Deal, deal


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=5), st.integers(1, 9), st.floats(0, 1), st.integers(0, 10**6))
def test_everything_is_in_one_share(sizes: list[int], workers: int, before: float, block: int) -> None:
    found = in_order(shares(sizes, workers, before))
    for capture, of in enumerate(sizes):
        mine = [each for each in found if each.capture == capture]
        assert (mine[0].first, mine[-1].end, {each.of for each in mine}) == (0, of, {of})
        assert all(before.end == after.first for before, after in pairwise(mine))
        assert sum(each.has(block) for each in mine) == (of > 0)


@pytest.mark.parametrize(
    ("sizes", "workers", "expected"),
    [
        ([100, 100, 100], 1, [100, 100, 100]),
        ([100, 100, 100], 2, [100, 100, 50, 50]),
        ([100, 102, 99], 3, [102, 100, 99]),
        ([80], 4, [20, 20, 20, 20]),
        ([1000, 10, 10], 2, [510, 490, 10, 10]),
        ([], 2, []),
    ],
)
def test_workers_have_as_much_to_read(sizes: list[int], workers: int, expected: list[int]) -> None:
    assert [each.end - each.first for each in shares(sizes, workers)] == expected


@given(st.integers(10**3, 10**10), st.integers(1, 9), st.floats(0, 1 / 3))
def test_what_is_before_a_share_takes_time_too(size: int, workers: int, before: float) -> None:
    takes = [share.end - share.first + before * share.first for share in shares([size], workers, before)]
    assert max(takes) - min(takes) <= 3 + 1e-8 * size or len(takes) < workers


def scanned(files: list[CaptureFile], cut: list[Share]) -> list[spill.Scan]:
    found: list[list[spill.Scan]] = [[] for _ in files]
    for share in cut:
        with files[share.capture].open() as stream:
            found[share.capture].append(spill.scan(files[share.capture], stream, share=share))
    return [spill.put_together(each) for each in found]


def dealt_out(files: list[CaptureFile], cut: list[Share], dealt: Deal, folder: Path) -> None:
    folder.mkdir()
    for share in cut:
        file = files[share.capture]
        with file.open() as stream, file.open() as again:
            spill.deal_out(file, stream, share, dealt, folder, again=again)


@pytest.mark.parametrize("name", ["dual-stack", "nftables"])
def test_shares_are_the_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "PIECE_FRAMES", 211)
    monkeypatch.setattr(spill, "BLOCK_FRAMES", 101)
    files = open_bundle([SAMPLES / name]).captures
    told, packets, payloads = [], [], []
    for workers in (1, 5):
        scans = scanned(files, shares([file.path.stat().st_size for file in files], workers))
        dealt = deal([links for each in scans for links in each.links], 2)
        cut, folder = shares([each.statistics.frames for each in scans], workers, BEFORE), tmp_path / str(workers)
        assert len(cut) >= workers
        dealt_out(files, cut, dealt, folder)
        points = np.cumsum([0, *(len(each.points) for each in scans)]).tolist()[:-1]
        tables = [spill.packets_of(folder, cut, points, part) for part in range(2)]
        told.append([(each.points, each.statistics, each.problems, each.rows, each.seen.mss.tolist()) for each in scans])
        packets.append(
            [{name: column.tolist() for name, column in table.items()} for table in [*tables, *(each.seen.senders for each in scans)]]
        )
        payloads.append([spill.content_of(folder, cut, part)(*_captured(table)) for part, table in enumerate(tables)])
    assert told[0] == told[1]
    assert packets[0] == packets[1]
    assert payloads[0] == payloads[1]
    assert all(any(each) for each in payloads[0])


def test_a_piece_has_the_memory_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FRAMES_PER_CHUNK", 20)
    monkeypatch.setattr(spill, "PIECE_FRAMES", 100)
    for name, value in {"KEPT_BYTES": 1, "SMALL_BYTES": 0, "KEPT": (kept := KeptPages(1 << 30))}.items():
        monkeypatch.setattr(columns, name, value)
    (file, *_) = open_bundle([SAMPLES / "nftables"]).captures
    with file.open() as stream:
        scan = spill.scan(file, stream)
    dealt, cut = deal(scan.links, 7), shares([scan.statistics.frames], 1)
    assert scan.statistics.frames > 7 * 100
    dealt_out([file], cut, dealt, tmp_path / "dealt")
    for part in range(7):
        assert spill.packets_of(tmp_path / "dealt", cut, [0], part)["time_ns"].any()
    assert kept.take("time_ns")
    assert kept.take("time_ns") is None


def _captured(table: Table) -> tuple[Array, Array, Array]:
    """The rows whose payloads are kept, and from where to where."""
    wanted = np.minimum(table["payload_bytes"], table["captured_bytes"].astype("i8") - table["payload_at"])
    rows = np.flatnonzero((table["view"] == PACKET) & np.isin(table["proto"], (TCP, UDP)) & (table["payload_at"] > 0) & (wanted > 0))
    return rows, np.zeros_like(rows), wanted[rows]
