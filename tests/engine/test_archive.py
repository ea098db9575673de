"""A bundle's packets as Parquet: nothing is missing, hopline's answers are the same, other tools read it, nothing half-written is used."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import CAPTURES, SAMPLES, Hopline
from distributed import LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import pcap
from packets_random import FRAMES

from analysis.engine import archive as archiving
from analysis.engine.archive import Layout, write_archive
from analysis.engine.errors import ArchiveError, SpillError
from analysis.engine.local import Local
from analysis.engine.run import DASK, Asked, trace_connections
from analysis.summary import Summary, told
from analysis.synth import Amount, Options, synthesise
from probes.decode import VIEWS_PER_FRAME
from probes.decode.numbers import TUNNELS
from probes.schema import OBSERVATIONS, ObservationPoint, Table, take
from tracer.archive import COLUMNS, DEAL_FILE, Contents, depths, write_packets
from tracer.archive.packets import read_packets
from tracer.bundle import BundleError, open_bundle, read_bundle
from tracer.bundle_files import ARCHIVE_FILE, UNFINISHED_FILE, folders_of, unpack

SAMPLE = SAMPLES / "iptables"
PROBLEMS, USAGE, NO_INPUT = 1, 2, 3
FINE = Layout(1, 3)  # more of all than anybody wants


def quiet(*_: object) -> None:
    """Nobody looks."""


def archived(bundle: Path, folder: Path, layout: Layout = FINE, working: Any = quiet) -> Contents:
    opened = open_bundle([bundle])
    return write_archive(opened, folders_of([bundle]), folder, layout, Local(opened, 1, quiet, quiet), working)


def answers(folder: Path, **asked: Any) -> tuple[list[bytes], Summary]:
    found = trace_connections(open_bundle([folder]), Asked(processes=1, **asked), quiet, quiet)
    return list(found.lines()), json.loads(json.dumps(told(found.bundle, found.tally)).replace(str(folder), "bundle"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "made"
    archived(SAMPLE, folder)
    return folder


def same(one: Table, other: Table) -> None:
    for column in OBSERVATIONS.columns:
        np.testing.assert_array_equal(one[column.name], other[column.name], column.name)


def test_every_sample(sample: Path, tmp_path: Path) -> None:
    archived(sample, tmp_path / "archive")
    bundle, again = read_bundle([sample]), read_bundle([tmp_path / "archive"])
    same(again.observations, bundle.observations)
    assert again.points == bundle.points
    assert answers(tmp_path / "archive") == answers(sample)


def test_a_recorded_bundle(tmp_path: Path) -> None:
    if not (found := sorted(CAPTURES.glob("nftables/dual-stack"))):
        pytest.skip(f"no recorded captures at {CAPTURES} (set HOPLINE_CAPTURES)")
    archived(found[0], tmp_path / "archive", Layout(None, None))
    same(read_bundle([tmp_path / "archive"]).observations, read_bundle(found).observations)
    assert answers(tmp_path / "archive") == answers(found[0])


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_any_packets(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Tunnels, fragments, errors, what is no connection's: captures of one name in folders of several nodes."""
    folder = tmp_path_factory.mktemp("bundle")
    for node in ("node-a", "node-b"):
        link_type = data.draw(st.sampled_from(sorted(FRAMES)))
        frames = data.draw(st.lists(FRAMES[link_type], min_size=1, max_size=9))
        (folder / node).mkdir()
        (folder / node / "any.pcap").write_bytes(pcap(frames, link_type))
    archived(folder, folder.with_name(f"{folder.name}-archive"), Layout(1, data.draw(st.integers(1, 4))))
    again, bundle = read_bundle([folder.with_name(f"{folder.name}-archive")]), read_bundle([folder])
    same(again.observations, bundle.observations)
    assert again.points == bundle.points


def test_connections_over_several_buckets(tmp_path: Path) -> None:
    synthesise(
        Options(mode="ipvs", reuse=0.3, loss=0.02, rate_hz=20, skew_ms=20.0, proxies="no-ids"), Amount(requests=101), tmp_path / "made"
    )
    contents = archived(tmp_path / "made", tmp_path / "archive", Layout(1, 2))
    assert len({each.path.split("/")[1] for each in contents.packets}) >= 5
    assert answers(tmp_path / "archive") == answers(tmp_path / "made")


def test_on_dask(made: Path, tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=":0") as here:
        asked = Asked(engine=DASK, scheduler=here.scheduler_address, spill=tmp_path / "spill")
        assert list(trace_connections(open_bundle([made]), asked, quiet, quiet).lines()) == answers(SAMPLE)[0]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Frames of one to four views each, whatever is in their columns."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    views = draw(st.lists(st.integers(1, VIEWS_PER_FRAME), max_size=17))
    depth = np.concatenate([np.empty(0, "i8"), *map(np.arange, views)])
    table = {}
    for column in OBSERVATIONS.columns:
        table[column.name] = rng.integers(0, np.iinfo(column.dtype).max, len(depth), column.dtype, endpoint=True)
    mapped = rng.random(len(depth)) < 0.5  # IPv4
    for end in ("src", "dst"):
        table[f"{end}_hi"][mapped] = 0
        table[f"{end}_lo"][mapped] = 0xFFFF_0000_0000 | table[f"{end}_lo"][mapped] >> np.uint64(32)
    for name, count in (("view", 3), ("direction", 3), ("tunnel", max(TUNNELS) + 1), ("point", 1)):
        table[name] %= count
    table["frame"] = np.repeat(np.arange(len(views)), views) + 1
    table["outer"] = np.where(depth > 0, np.arange(len(depth)) - 1, -1)
    return table


@settings(deadline=None, max_examples=30)
@given(tables(), st.randoms(use_true_random=False))
def test_any_row_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, table: Table, order: Any) -> None:
    depth, rows = depths(table), list(range(len(table["frame"])))
    order.shuffle(rows)
    half = len(rows) // 2
    paths = [tmp_path_factory.mktemp("packets") / name for name in ("one", "other")]
    for path, mine in zip(paths, (rows[:half], rows[half:]), strict=True):
        with path.open("wb") as file:
            write_packets(file, take(table, np.array(mine, "i8")), depth[mine], [ObservationPoint("node-a", "eth0", 2, "node-a.pcap", 1)])
    same(read_packets(paths, np.zeros(1, "u4")), table)


def test_other_tools_read_it(made: Path) -> None:
    frame = pd.read_parquet(made / "packets")
    bundle = read_bundle([SAMPLE])
    assert [*frame.columns] == [*(column.name for column in COLUMNS), "bucket", "part"]
    assert [str(kind) for kind in frame.dtypes[:3]] == ["datetime64[ns, UTC]", "category", "category"]
    for column, kind in zip(COLUMNS, frame.dtypes, strict=False):
        assert str(kind) == ("category" if column.dtype == "string" else column.dtype), column.name
    start = pd.to_datetime(frame["bucket"].astype(str), utc=True)
    assert ((frame["time"] >= start) & (frame["time"] < start + pd.Timedelta(seconds=1))).all()
    assert len(frame) == len(bundle.observations["frame"])
    wire = frame[frame["depth"] == 0].groupby("file", observed=True)["wire_bytes"].sum()
    assert wire.sum() == bundle.observations["wire_bytes"][bundle.observations["outer"] < 0].sum()
    connections = [json.loads(line) for line in answers(SAMPLE)[0]]
    for record in connections:
        address, port = record["original"]["src"].rsplit(":", 1) if record["original"] else (None, 0)
        if record["protocol"] == "tcp" and address:
            mine = frame[(frame["src"] == address.strip("[]")) & (frame["sport"] == int(port))]
            assert mine["part"].nunique() == 1, "a connection is in one part"


def test_files_say_what_they_hold(made: Path) -> None:
    for path in (made / "packets").rglob("*.parquet"):
        found = pq.ParquetFile(path)
        assert found.schema_arrow.metadata[b"hopline"] == b"packets 1"
        for column in COLUMNS:
            known = found.schema_arrow.field(column.name).metadata
            assert (known[b"unit"].decode(), known[b"meaning"].decode()) == (column.unit, column.meaning)
        group = found.metadata.row_group(0)
        assert all(group.column(place).statistics.has_min_max or not group.num_rows for place in range(7))


@pytest.mark.parametrize(("rows", "bucket_s"), [(1000, 600), (10 * 30_000, 60), (0, 600)])
def test_buckets_leave_no_small_files(rows: int, bucket_s: int) -> None:
    bundle = read_bundle([SAMPLES / "ipvs"])  # 76 seconds
    assert archiving._fitting_bucket_s(bundle, rows) == bucket_s


def test_the_same_bundle_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    archived(SAMPLE, tmp_path / "again")
    assert content(tmp_path / "again") == content(made)


def test_an_interrupted_run_goes_on(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hopline: Hopline) -> None:
    class Interrupt(BaseException):
        pass

    def stop(_what: str, done: int, _total: int) -> None:
        if done == 1:
            raise Interrupt

    folder = tmp_path / "archive"
    with pytest.raises(Interrupt):
        archived(SAMPLE, folder, working=stop)
    (folder / "packets" / "left.parquet.1.part").write_bytes(b"half")
    told = hopline("trace", folder, "--l4-only")
    assert told.code == NO_INPUT
    assert "not finished" in told.err
    with pytest.raises(SpillError, match="other input, or that asked for something else"):
        archived(SAMPLE, folder, Layout(60, 3))
    written: list[int] = []
    real = archiving._write_part
    monkeypatch.setattr(archiving, "_write_part", lambda *all_: (written.append(all_[1]), real(*all_))[1])
    done = sum(path.name.startswith("part-") for path in folder.iterdir())
    archived(SAMPLE, folder)
    assert done >= 1
    assert len(written) == 3 - done
    assert content(folder) == content(made)


def test_what_is_missing_or_cut_is_said_and_the_rest_used(made: Path, tmp_path: Path, hopline: Hopline) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(made, folder)
    cut, missing = sorted((folder / "packets").rglob("*.parquet"))[:2]
    cut.write_bytes(cut.read_bytes()[:-100])
    missing.unlink()
    found = hopline("trace", folder, "--l4-only", "--json", "--summary", tmp_path / "summary.json")
    assert found.code == PROBLEMS
    problems = {each["file"]: each["what"] for each in json.loads((tmp_path / "summary.json").read_text())["problems"]}
    assert problems[str(missing)] == "is not there"
    assert "bytes" in problems[str(cut)]
    assert found.out


def test_altered_bytes_are_not_taken_for_packets(made: Path, tmp_path: Path, hopline: Hopline) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(made, folder)
    path = max((folder / "packets").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    where = pq.ParquetFile(path).metadata.row_group(0).column(0)
    altered = bytearray(path.read_bytes())
    altered[where.data_page_offset + where.total_compressed_size - 2] ^= 0xFF
    path.write_bytes(altered)
    for words in (["trace", folder, "--l4-only"], ["show", folder, "c1"]):
        found = hopline(*words)
        assert found.code == NO_INPUT
        assert "copy the archive again" in found.err
    (folder / DEAL_FILE).write_bytes(b"PK")
    assert "flows.npz cannot be read" in hopline("trace", folder, "--l4-only").err


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("{}", "is no archive's"), ("[", "is no archive's"), ("[]", "is no archive's"),
        ('{"format": "hopline archive", "version": 9}', "of version 9"), ('{"format": "hopline archive", "version": 1}', "damaged"),
    ],
)  # fmt: skip
def test_what_it_says_of_itself_is_checked(tmp_path: Path, told: str, why: str) -> None:
    (tmp_path / ARCHIVE_FILE).write_text(told)
    with pytest.raises(BundleError, match=why):
        open_bundle([tmp_path])


def refusals(made: Path, tmp_path: Path) -> Iterator[tuple[list[str | Path], int, str]]:
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    yield ["archive", SAMPLE, "-o", other], USAGE, "neither empty nor"
    yield ["archive", SAMPLE, "-o", made], USAGE, "is an archive already"
    yield ["archive", SAMPLE, "-o", SAMPLE / "archive"], USAGE, "is inside"
    yield ["archive", made, "-o", tmp_path / "new"], USAGE, "is an archive itself"
    yield ["archive", SAMPLE, SAMPLES / "ipvs", "-o", tmp_path / "new"], USAGE, "would be one file of the archive"
    yield ["archive", SAMPLE, "-o", tmp_path / "new", "--bucket", "0.5s"], USAGE, "whole seconds"
    yield ["archive", tmp_path / "nowhere", "-o", tmp_path / "new"], NO_INPUT, "no such file"
    yield ["trace", made, SAMPLES / "ipvs", "--l4-only"], NO_INPUT, "read by itself"
    yield ["trace", made, next(SAMPLE.glob("*.conntrack*")), "--l4-only"], NO_INPUT, "leave it out, or archive the bundle again"
    yield ["trace", made, "--l4-only", "--partitions", "2"], USAGE, "leave --partitions out"
    yield ["trace", made / ARCHIVE_FILE], USAGE, "give --l4-only"
    yield ["trace", made], USAGE, "give --l4-only"
    yield ["compare", made, SAMPLES / "ipvs"], USAGE, "archive both"


def test_what_cannot_be_is_said(made: Path, tmp_path: Path, hopline: Hopline) -> None:
    before = content(made)
    for words, code, why in refusals(made, tmp_path):
        found = hopline(*words)
        assert (found.code, why in found.err) == (code, True), (words, found)
    assert not (tmp_path / "new").exists()
    assert content(made) == before


def test_the_command_line(tmp_path: Path, hopline: Hopline) -> None:
    folder = tmp_path / "archive"
    (tmp_path / "objects.json").write_bytes(unpack((SAMPLE / "cluster.json.gz").read_bytes()))
    done = hopline("archive", *sorted(SAMPLE.glob("node-*")), "--cluster", tmp_path / "objects.json", "-o", folder)
    assert done.code == 0
    assert "1 part" in done.err
    assert not (folder / UNFINISHED_FILE).exists()
    for words in (["trace", "--l4-only", "--json"], ["trace", "--l4-only", "--json", "--since", "+5", "--service", "web"], ["clocks"]):
        assert hopline(words[0], folder / ARCHIVE_FILE, *words[1:]).out == hopline(words[0], SAMPLE, *words[1:]).out, words
    pages = [hopline("report", bundle, "--l4-only", "--title", "x", "-o", "-").out for bundle in (folder, SAMPLE)]
    assert pages[0] == pages[1]
    assert hopline("show", folder, "c7").out == hopline("show", SAMPLE, "c7").out


def test_what_needs_payload_says_that_there_is_none(made: Path, tmp_path: Path, hopline: Hopline) -> None:
    told = hopline("explain", made, "c7")
    assert told.code == 0
    assert "packets are not dissected: an archive keeps no payload (give the bundle that it was made of)" in told.err
    assert hopline("report", made, "-o", tmp_path / "report.html").code == 0
    assert "an archive keeps no payload" in (tmp_path / "report.html").read_text()
    assert hopline("compare", made, made, "--json").code == 0


def test_what_comes_in_is_archived(tmp_path: Path, hopline: Hopline) -> None:
    capture = min(SAMPLE.glob("node-*.pcap*")).read_bytes()
    assert hopline("archive", "-", "-o", tmp_path / "archive", stdin=capture).code == 0
    expected = hopline("trace", "-", "--l4-only", "--json", stdin=capture).out
    assert hopline("trace", tmp_path / "archive", "--l4-only", "--json").out == expected


def test_packets_of_a_clock_gone_wild_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "MOST_BUCKETS", 2)
    with pytest.raises(ArchiveError, match="longer --bucket"):
        archived(SAMPLE, tmp_path / "archive")


def test_no_packets_make_no_archive(tmp_path: Path, hopline: Hopline) -> None:
    (tmp_path / "node-a.pcap").write_bytes(b"")
    found = hopline("archive", tmp_path / "node-a.pcap", "-o", tmp_path / "archive")
    assert found.code == NO_INPUT
    assert not (tmp_path / "archive").exists()


def test_an_empty_table_is_read_as_it_was_written() -> None:
    file = io.BytesIO()
    write_packets(file, OBSERVATIONS.empty(), np.empty(0, "u1"), [])
    assert pq.ParquetFile(file).metadata.num_rows == 0
