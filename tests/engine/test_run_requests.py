"""Requests found in parts are those found at once: in memory and through files, by processes or Dask, also where one is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SAMPLES, Hopline
from hypothesis import given
from hypothesis import strategies as st
from processes import children

from analysis.engine import requests, room, spill
from analysis.engine.files import told_file
from analysis.engine.run import DASK, Asked, trace_requests
from analysis.filters import Filters
from analysis.frames import TABLES, load
from analysis.records import CONFIDENT
from analysis.requests import RequestRecorder
from probes.schema import Array
from tracer import requests as at_once
from tracer.bundle import Bundle, open_bundle, read_bundle
from tracer.clocks.limits import sample as sample_of
from tracer.clocks.limits import sampled
from tracer.pipeline import Reconstruction
from tracer.requests.dissection import NOT_DISSECTED, Dissection
from tracer.trace import trace

SAMPLE = SAMPLES / "nftables"
USAGE = 2


def quiet(*_: object) -> None:
    """Nobody looks."""


def lines(folder: Path, working: Callable[[str, int, int], None] = quiet, **asked: object) -> list[bytes]:
    return list(trace_requests(open_bundle([folder]), Asked(**asked), CONFIDENT, quiet, working).lines())  # type: ignore[arg-type]


@cache
def expected(folder: Path) -> list[bytes]:
    return [json.dumps(record).encode() for record in RequestRecorder(at_once.trace_requests(trace(read_bundle([folder]))))]


@pytest.mark.parametrize(("name", "partitions", "files"), [("nftables", 1, False), ("dual-stack", 2, False), ("failures", 7, True)])
def test_in_parts(name: str, partitions: int, files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "PIECE_FRAMES", 1009)
    folder = tmp_path / "spill" if files else None
    assert lines(SAMPLES / name, partitions=partitions, processes=2, spill=folder) == expected(SAMPLES / name)


def test_on_dask() -> None:
    assert lines(SAMPLE, engine=DASK, processes=1, partitions=2) == expected(SAMPLE)


def test_a_process_that_is_killed_costs_time_only(tmp_path: Path) -> None:
    """Once a part's connections are written, it is dissecting."""
    before, folder = children(), tmp_path / "spill"

    def kill() -> None:
        for _ in range(30_000):
            if (found := children() - before) and list(folder.glob("parts-3/records-*.json")):
                os.kill(max(found), signal.SIGKILL)
                return
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    assert lines(SAMPLE, processes=2, partitions=3, spill=folder) == expected(SAMPLE)
    killer.join()


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupt(BaseException):
        pass

    def stop(what: str, count: int, _total: int) -> None:
        if what == "requests" and count == 2:
            raise Interrupt

    folder, parts = tmp_path / "spill", range(3)
    asked = {"processes": 1, "partitions": len(parts), "spill": folder}
    with pytest.raises(Interrupt):
        lines(SAMPLE, stop, **asked)
    assert sum(told_file(folder / "parts-3", part).exists() for part in parts) == 2
    real = requests.dissect

    def fails(bundle: Bundle, traced: Reconstruction, **how: object) -> Dissection:
        return Dissection(real(bundle, traced, **how).segments, unread={0: NOT_DISSECTED}, problem="tshark ended with 1")  # type: ignore[arg-type]

    monkeypatch.setattr(requests, "dissect", fails)
    done: list[str] = []
    found = trace_requests(open_bundle([SAMPLE]), Asked(**asked), CONFIDENT, quiet, lambda what, *_: done.append(what))  # type: ignore[arg-type]
    assert done.count("requests") == 1  # the one that was left
    assert (found.told["requests"]["problem"], found.told["requests"]["unread"][NOT_DISSECTED]) == ("tshark ended with 1", 1)
    monkeypatch.setattr(requests, "dissect", real)
    for _ in range(2):
        assert lines(SAMPLE, lambda what, *_: done.append(what), **asked) == expected(SAMPLE)
        assert done.count("requests") == 2  # the same once more, where tshark does its part


def test_what_is_asked_for_is_chosen_among_all() -> None:
    asked = Asked(lambda first_ns: Filters(protocol="http", since_ns=first_ns + 1_000_000_000), partitions=2)
    found = trace_requests(open_bundle([SAMPLE]), asked, CONFIDENT, quiet, quiet)
    first_ns = found.told["first_ns"]
    records = map(json.loads, expected(SAMPLE))
    chosen = [each["id"] for each in records if each["protocol"] == "http" and each["end_ns"] >= first_ns + 1_000_000_000]
    assert [json.loads(line)["id"] for line in found.lines()] == chosen
    assert len(found) == len(chosen) > 0


def test_the_command_line(hopline: Hopline, tmp_path: Path) -> None:
    """All that is shown and written is the same."""
    told = []
    for name, words in (("whole", []), ("parts", ["--partitions", "3"])):
        tables, summary = tmp_path / name, tmp_path / f"{name}.json"
        shown = hopline("trace", SAMPLE, "--status", "200", "--limit", "7", "--parquet", tables, "--summary", summary, *words)
        frames = {path.name: pd.read_parquet(path).to_json(date_format="iso") for path in sorted(tables.iterdir())}
        told.append((shown.code, shown.out, json.loads(summary.read_text()), frames))
    assert told[0] == told[1]
    content = next(SAMPLE.glob("node-a.pcap*")).read_bytes()
    assert hopline("trace", "-", "--json", stdin=content) == hopline("trace", "-", "--json", "--partitions", "2", stdin=content)


@pytest.mark.parametrize("words", [[], ["--partitions", "3", "--workers", "2"], ["--spill"]], ids=" ".join)
def test_tables_of_connections_alone_are_those_of_all_however_they_were_traced(words: list[str], hopline: Hopline, tmp_path: Path) -> None:
    known, spilled = load(SAMPLE, l4_only=True), [tmp_path / "spilled"] if words == ["--spill"] else []
    plain = hopline("trace", SAMPLE, "--l4-only", "--json", "--status", "closed")
    shown = hopline("trace", SAMPLE, "--l4-only", "--json", "--status", "closed", "--parquet", tmp_path / "tables", *words, *spilled)
    assert shown == plain
    for name in TABLES:
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tables" / f"{name}.parquet"), getattr(known, name))


def test_an_archive_has_tables(hopline: Hopline, tmp_path: Path) -> None:
    assert hopline("archive", SAMPLE, "-o", tmp_path / "archive").code == 0
    assert hopline("trace", tmp_path / "archive", "--l4-only", "--parquet", tmp_path / "tables").code == 0
    known = load(SAMPLE, l4_only=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tables" / "connections.parquet"), known.connections)
    assert len(pd.read_parquet(tmp_path / "tables" / "hops.parquet")) == len(known.hops)


def test_what_does_not_fit_goes_through_files(hopline: Hopline, monkeypatch: pytest.MonkeyPatch) -> None:
    through: list[int] = []
    real = spill.packets_of
    monkeypatch.setattr(spill, "packets_of", lambda *given: (through.append(given[-1]), real(*given))[1])
    monkeypatch.setattr(room, "MEMORY_PER_BYTE", 1 << 40)
    found = hopline("trace", SAMPLE, "--json", "--workers", "1")
    assert (found.code, found.out.encode().splitlines()) == (0, expected(SAMPLE))
    assert through == [0]


def test_tls_is_read_at_once(hopline: Hopline, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch()
    found = hopline("trace", SAMPLE, "--keys", keys, "--partitions", "2")
    assert (found.code, "TLS is read all at once" in found.err) == (USAGE, True)


@given(st.lists(st.lists(st.integers(-(2**62), 2**62)), min_size=1).filter(any))
def test_times_are_sampled_where_they_are(parts: list[list[int]]) -> None:
    arrays: list[Array] = [np.sort(np.array(part, "i8")) for part in parts]
    whole = np.sort(np.concatenate(arrays))
    assert sample_of(arrays).tolist() == whole[sampled(len(whole))].tolist()
