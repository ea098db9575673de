"""A capture in pieces is the capture: the same rows, points, statistics and problems, however large the pieces are."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import SLL2, ip4, ip6, pcap, read, sll2, udp
from packets import fragment as extension
from test_capture_chunks import FILES, WHOLE, facts

from probes.capture import Capture, columns, lanes, read_pieces, records
from probes.decode import fragments
from probes.decode.numbers import MORE_FRAGMENTS, PORTS
from probes.pages import KeptPages, pages
from probes.schema import OBSERVATIONS, Table, size

A, B, A6, B6 = "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"


def together(file: bytes, frames: int) -> Capture:
    """The capture in `file`, read in pieces, all of which are checked where they end."""
    pieces = read_pieces(io.BytesIO(file), "file", "node", frames)
    tables: list[Table] = []
    rows = 0
    for table in pieces.tables:
        inner = table["outer"][table["outer"] >= 0]
        assert ((inner >= rows) & (inner < rows + size(table))).all()
        assert (table["point"] < len(pieces.points)).all()
        tables.append(table)
        rows += size(table)
    return Capture("file", "node", OBSERVATIONS.concat(tables), pieces.points, pieces.statistics, pieces.problems)


@settings(deadline=None)
@given(
    file=st.sampled_from((WHOLE, *FILES)), frames=st.integers(1, 50), chunk=st.integers(1, 20), threads=st.integers(1, 3),
    near=st.sampled_from((5, 1 << 16)),
)  # fmt: skip
def test_pieces_are_the_whole(file: bytes, frames: int, chunk: int, threads: int, near: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "FRAMES_PER_CHUNK", chunk)
        patched.setattr(lanes, "LANES", threads)
        patched.setattr(fragments, "NEAR", near)  # so far is looked ahead for a fragment's datagram
        assert facts(together(file, frames)) == facts(read(file))


@pytest.fixture
def kept_pages() -> Iterator[KeptPages]:
    """What is kept of tables, of which every column is."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns, "KEPT_BYTES", 1)
        patched.setattr(columns, "SMALL_BYTES", 0)
        patched.setattr(columns, "KEPT", kept := KeptPages(1 << 30))
        kept.expect()
        yield kept


def test_memory_of_earlier_tables_does_not_show(kept_pages: KeptPages) -> None:
    chance = np.random.default_rng(5)
    for number in chance.permutation(len(FILES))[:20].tolist():
        pieces = [together(file, int(chance.integers(5, 300))) for file in (FILES[number], WHOLE, FILES[number])]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(columns, "KEPT", KeptPages(0))
            expected = [facts(read(file)) for file in (FILES[number], WHOLE)]
        assert [facts(each) for each in pieces] == [*expected, expected[0]]
    assert kept_pages.take("time_ns")


def test_memory_is_kept_from_the_second_table_on(kept_pages: KeptPages) -> None:
    kept_pages.expected = False
    first = read(WHOLE).observations
    assert not kept_pages.expected
    del first
    assert kept_pages.take("time_ns") is None
    assert kept_pages.expected
    second = read(WHOLE).observations
    del second
    assert kept_pages.take("time_ns")


def test_a_table_is_where_the_one_before_was_but_only_once_nobody_refers_to_that(kept_pages: KeptPages) -> None:
    def place(table: Table, name: str) -> int:
        return int(table[name].ctypes.data)

    first = read(WHOLE).observations
    where, held = {name: place(first, name) for name in ("time_ns", "sport", "mss")}, first["sport"][1:]
    before = held.tolist()
    del first
    second = read(WHOLE).observations
    assert place(second, "time_ns") == where["time_ns"]
    assert place(second, "mss") == where["mss"]
    assert place(second, "sport") != where["sport"]
    second["sport"][:] = 0
    assert held.tolist() == before


def test_no_more_is_kept_than_was_said_and_nothing_of_a_parent_s() -> None:
    kept = KeptPages(2 * mmap.PAGESIZE)
    for name in ("a", "b", "c"):
        kept.keep(name, pages(mmap.PAGESIZE), mmap.PAGESIZE, os.getpid())
    kept.keep("d", pages(mmap.PAGESIZE), 0, os.getppid())
    assert (kept.take("c"), kept.take("d")) == (None, None)
    child = os.fork()
    if not child:
        os._exit(kept.take("a") is not None)
    assert os.waitpid(child, 0)[1] == 0
    assert kept.take("a")
    assert kept.take("a") is None


def test_pieces_are_about_as_large_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FRAMES_PER_CHUNK", 10)
    monkeypatch.setattr(fragments, "NEAR", 5)
    pieces = read_pieces(io.BytesIO(WHOLE), "file", "node", 50)
    ends = np.cumsum([len(np.unique(table["frame"])) for table in pieces.tables])
    assert ends[-1] == pieces.statistics.frames - pieces.statistics.other
    assert (np.abs(ends[:-1] - 50 * np.arange(1, len(ends))) <= 10).all()


def test_what_is_not_asked_for_is_not_read() -> None:
    stream = io.BytesIO(WHOLE)
    pieces = read_pieces(stream, "file", "node")
    assert stream.tell() < len(WHOLE)
    next(pieces.tables)
    assert stream.tell() == len(WHOLE)


def _piece(kind: tuple[int, int, bool, int]) -> bytes:
    """A frame of a fragment: (identification, offset, whether it is IPv6, interface)."""
    number, offset, six, ifindex = kind
    content = udp(1000 + number, 53, bytes(24)) if offset == 0 else bytes(16)
    if six:
        return sll2(ip6(A6, B6, content, extension(number, offset, more=True), protocol=17 if offset == 0 else 60), ifindex)
    return sll2(ip4(A, B, content, ip_id=number, offset=offset, more=True, protocol=17), ifindex)


KINDS = st.tuples(st.integers(0, 2), st.sampled_from((0, 3, 3, 5)), st.booleans(), st.integers(1, 2))


def _expected(kinds: list[tuple[int, int, bool, int]], near: int) -> list[int]:
    """The source port of each fragment: of the last first one before it, else the next one behind; 0 where none is near."""
    ports = []
    for row, (number, _, six, ifindex) in enumerate(kinds):
        ahead = range(row, max(row - near, 0) - 1, -1)
        behind = range(row, min(row + near + 1, len(kinds)))
        first = [other for other in (*ahead, *behind) if kinds[other] == (number, 0, six, ifindex)]
        ports.append(1000 + number if first else 0)
    return ports


@settings(deadline=None)
@given(st.lists(KINDS, max_size=60), st.integers(1, 9), st.integers(1, 12))
def test_fragments_find_the_first_of_their_datagram_across_pieces(kinds: list[Any], near: int, frames: int) -> None:
    file = pcap([_piece(kind) for kind in kinds], SLL2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "FRAMES_PER_CHUNK", 3)
        patched.setattr(fragments, "NEAR", near)
        whole, pieces = read(file), together(file, frames)
    assert facts(pieces) == facts(whole)
    table = whole.observations
    assert table["sport"].tolist() == _expected(kinds, near)
    tied = table["known"] & (PORTS | MORE_FRAGMENTS)
    assert tied.tolist() == [MORE_FRAGMENTS | PORTS * (port > 0) for port in table["sport"].tolist()]
    assert (table["proto"][table["sport"] > 0] == 17).all()


def test_an_identification_that_comes_again_is_another_datagram() -> None:
    later = sll2(ip4(A, B, bytes(16), ip_id=7, offset=3, protocol=17))
    first, second = (sll2(ip4(A, B, udp(port, 53, bytes(24)), ip_id=7, more=True)) for port in (1001, 1002))
    assert read(pcap([first, later, second, later], SLL2)).observations["sport"].tolist() == [1001, 1001, 1002, 1002]
