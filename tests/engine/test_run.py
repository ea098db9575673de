"""The same answers in memory and by way of files, by one process, several, or Dask's workers, also where some are killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from conftest import SAMPLES, Hopline
from distributed import Client
from processes import children

from analysis.engine import cluster, parcels, room, spill
from analysis.engine.ahead import load_ahead
from analysis.engine.errors import SpillError
from analysis.engine.files import RUN, text_file, told_file
from analysis.engine.run import DASK, Asked, trace_connections
from analysis.filters import Filters
from analysis.synth import Amount, Options, synthesise
from probes.capture import columns
from tracer.bundle import open_bundle

SAMPLE = SAMPLES / "iptables"
USAGE, NO_INPUT, PROBLEMS = 2, 3, 1


def quiet(*_: object) -> None:
    """Nobody looks."""


def lines(folder: Path, **asked: object) -> list[bytes]:
    found = trace_connections(open_bundle([folder]), Asked(**asked), quiet, quiet)  # type: ignore[arg-type]
    return list(found.lines())


@cache
def expected(folder: Path) -> list[bytes]:
    return lines(folder, processes=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "made"
    synthesise(Options(nodes=3, reuse=0.1, loss=0.01), Amount(requests=211), folder)
    return folder


@pytest.fixture(params=[1, 2, 7])
def processes(request: pytest.FixtureRequest) -> object:
    return request.param


def test_in_memory(made: Path, processes: int) -> None:
    assert lines(made, processes=processes, partitions=5) == expected(made)


def test_by_way_of_files(made: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "PIECE_FRAMES", 1009)
    monkeypatch.setattr(room, "MEMORY_PER_BYTE", 1 << 40)  # nothing fits
    assert lines(made, processes=processes) == expected(made)


def test_on_dask(made: Path) -> None:
    assert lines(made, engine=DASK, processes=2, partitions=7) == expected(made)


def test_workers_have_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    load_ahead()  # with the one of before
    monkeypatch.setenv("HOPLINE_CACHE", "/somewhere/else")
    with cluster.workers_here(1) as here, Client(here) as client:
        assert [*client.run(os.environ.get, "HOPLINE_CACHE").values()] == ["/somewhere/else"]


def test_every_sample(sample: Path) -> None:
    assert lines(sample, processes=2, partitions=3) == expected(sample)


def _kill_one(there: Callable[[], set[int]]) -> threading.Thread:
    """A thread that kills a process of the first kind that comes up."""

    def wait() -> None:
        for _ in range(20_000):
            if found := there():
                os.kill(max(found), signal.SIGKILL)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_process_that_is_killed_costs_time_only(made: Path) -> None:
    before = children()
    killer = _kill_one(lambda: children() - before)
    assert lines(made, processes=2, partitions=5) == expected(made)
    killer.join()


def test_a_worker_that_is_killed_costs_time_only(made: Path) -> None:
    with cluster.workers_here(2) as here, Client(here) as client:
        victim = next(iter(client.run(os.getpid).values()))
        done: list[str] = []

        def told(what: str, count: int, _total: int) -> None:
            if what == "connections" and count == 1 and not done:
                done.append(what)
                os.kill(victim, signal.SIGKILL)

        asked = Asked(engine=DASK, scheduler=here.scheduler_address, partitions=7)
        found = trace_connections(open_bundle([made]), asked, quiet, told)
        assert done
        assert list(found.lines()) == expected(made)


def test_workers_of_others_keep_nothing(made: Path) -> None:
    def keep_all() -> None:
        columns.KEPT_BYTES, columns.SMALL_BYTES = 1, 0

    def kept() -> tuple[bool, int]:
        return bool(columns.KEPT._kept.get("time_ns")), parcels._opened.cache_info().currsize

    with cluster.workers_here(1) as here, Client(here) as client:
        client.run(keep_all)
        packed: list[object] = []

        def told(what: str, count: int, total: int) -> None:
            if what == "connections" and count == total:
                packed.extend(client.run(kept).values())

        trace_connections(open_bundle([made]), Asked(engine=DASK, scheduler=here.scheduler_address, partitions=7), quiet, told)
        assert packed == [(True, 1)]
        assert list(client.run(kept).values()) == [(False, 0)]


def test_an_interrupted_run_goes_on(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupt(BaseException):
        pass

    def stop(what: str, count: int, _total: int) -> None:
        if what == "connections" and count == 2:
            raise Interrupt

    folder = tmp_path / "spill"
    with pytest.raises(Interrupt):
        trace_connections(open_bundle([made]), Asked(processes=1, partitions=5, spill=folder), quiet, stop)
    assert sum(told_file(folder / "parts-5", part).exists() for part in range(5)) == 2
    assert not list(folder.glob("**/*.part"))
    stitched: list[int] = []
    real = spill.packets_of
    monkeypatch.setattr(spill, "packets_of", lambda *given: (stitched.append(given[-1]), real(*given))[1])
    assert lines(made, processes=1, partitions=5, spill=folder) == expected(made)
    assert stitched == [2, 3, 4]
    assert lines(made, processes=1, partitions=5, spill=folder) == expected(made)
    assert stitched == [2, 3, 4]


def test_another_number_of_processes_may_go_on(made: Path, tmp_path: Path) -> None:
    for processes in (1, 3, 2):
        assert lines(made, processes=processes, spill=tmp_path / "spill") == expected(made)


def test_metadata_that_is_left_out_is_another_run(made: Path, tmp_path: Path) -> None:
    asked = Asked(spill=tmp_path / "spill", processes=1)
    trace_connections(open_bundle([made]), asked, quiet, quiet)
    with pytest.raises(SpillError, match="asked for something else"):
        trace_connections(open_bundle([made], use_cluster=False), asked, quiet, quiet)


def test_a_folder_is_one_runs_only(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spill"
    lines(made, partitions=2, spill=folder)
    with pytest.raises(SpillError, match="other input, or that asked for something else"):
        lines(made, partitions=3, spill=folder)
    with pytest.raises(SpillError, match="other input, or that asked for something else"):
        lines(SAMPLE, partitions=2, spill=folder)
    (folder / RUN).unlink()
    with pytest.raises(SpillError, match="neither empty nor"):
        lines(made, partitions=2, spill=folder)


def test_no_more_records_are_written_than_are_wanted(made: Path, tmp_path: Path) -> None:
    asked = Asked(lambda _first: Filters(protocol="tcp"), 3, 2, 1, tmp_path / "spill")
    found = trace_connections(open_bundle([made]), asked, quiet, quiet)
    tcp = [line for line in expected(made) if json.loads(line)["protocol"] == "tcp"]
    assert list(found.lines(3)) == tcp[:3]
    assert len(found) == len(tcp)
    assert sum(text_file(tmp_path / "spill" / "parts-2", part).stat().st_size for part in range(2)) < 7 * max(map(len, tcp))
    assert found.tally.by_protocol.total() == len(expected(made))


def test_the_command_line(made: Path, tmp_path: Path, hopline: Hopline) -> None:
    whole = hopline("trace", made, "--l4-only", "--json")
    through = hopline("trace", made, "--l4-only", "--json", "--spill", tmp_path / "spill", "--workers", "1")
    assert (through.code, through.out) == (0, whole.out)
    few = [hopline("trace", made, "--l4-only", "--limit", "5", *words).out for words in ([], ["--partitions", "3"])]
    assert few[0] == few[1]
    again = hopline("trace", SAMPLE, "--l4-only", "--spill", tmp_path / "spill")
    assert again.code == USAGE
    assert "name another, or remove it" in again.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--engine", "spark", "--l4-only"], USAGE, "not one of local, dask"),
        (["--engine", "dask", "--l4-only", "--scheduler", "tcp://127.0.0.1:1"], NO_INPUT, "is a Dask scheduler there?"),
    ],
)
def test_what_cannot_be_is_said(hopline: Hopline, words: list[str], code: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    found = hopline("trace", SAMPLE, *words)
    assert found.code == code
    assert told in found.err


def test_workers_cannot_read_what_comes_in(hopline: Hopline) -> None:
    content = next(SAMPLE.glob("*.pcap*")).read_bytes()
    found = hopline("trace", "-", "--engine", "dask", "--l4-only", stdin=content)
    assert found.code == NO_INPUT
    assert "cannot read standard input" in found.err


def test_a_capture_that_cannot_be_opened_is_said(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in made.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "node-z.pcap").symlink_to(tmp_path / "nowhere")
    asked = Asked(spill=tmp_path / "spill", processes=1)
    found = trace_connections(open_bundle([folder]), asked, quiet, quiet)
    assert [problem.file for problem in found.bundle.problems if problem.severity == "error"] == [str(folder / "node-z.pcap")]
    assert list(found.lines()) == expected(made)
