"""A recorder that is killed, stopped, or has no room: what is on disk is whole, and what is not there is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.live.clock import STEP_NS, Clock
from tracer.bundle import read_bundle

from .road import SECONDS, Recorded, Road, holds, recorders

BURST = 101


@pytest.fixture
def record(way: Road, tmp_path: Path) -> Iterator[Callable[..., Recorded]]:
    with recorders(way, tmp_path, "--probes", "packets", "--net", "10.0.0.0/8") as begin:  # without ARP
        yield begin


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "hopline-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def frames(running: Recorded) -> int:
    return sum(len(capture.observations["frame"]) for capture in running.captures())


def test_killed_it_loses_nothing_that_was_written(way: Road, tmp_path: Path, record: Callable[..., Recorded]) -> None:
    running = record("--segment-bytes", "64K")
    way.send([b"%05d" % number * 99 for number in range(BURST)])
    running.until(lambda lines: any(line["event"] == "progress" and line["written"] >= 4 * BURST for line in lines))
    running.end(signal.SIGKILL)
    assert frames(running) == 4 * BURST  # in and out of two interfaces, each way
    assert len(running.captures()) > 1
    bundle = read_bundle([running.folder])
    assert not running.account()["complete"]
    assert any("cut off" in problem.what for problem in bundle.problems)


def test_a_full_disk_costs_the_oldest_segments(way: Road, disk: Path, record: Callable[..., Recorded]) -> None:
    running = record(within=disk)
    for _ in range(9):
        way.send([os.urandom(1000) for _ in range(BURST)])
    account = running.end()
    assert running.process.returncode == 0
    assert holds(account)
    assert (account["complete"], account["packets"]["all"]["dropped"]) == (True, 0)
    assert account["packets"]["file"]["deleted_files"] > 0
    assert all(not capture.problems for capture in running.captures())
    assert any("deleted" in problem.what for problem in read_bundle([running.folder]).problems)


def test_a_budget_that_stops_ends_the_recording(way: Road, tmp_path: Path, record: Callable[..., Recorded]) -> None:
    running = record("--max-disk", "256K", "--when-full", "stop")
    way.send([os.urandom(1000) for _ in range(2 * BURST)])
    running.process.wait(SECONDS)
    account = running.account()
    assert running.process.returncode == 0
    assert holds(account)
    assert account["packets"]["all"]["dropped"] > 0
    assert sum(path.stat().st_size for path in (running.folder / "n").iterdir()) <= 256 << 10
    assert any("disk budget" in reason for reason in account["drop_reasons"])


def test_a_ring_that_is_full_drops_and_counts(way: Road, tmp_path: Path, record: Callable[..., Recorded]) -> None:
    """A recorder that does not come to run: more packets than its buffer holds."""
    running = record("--buffer", "128K")
    way.send([b"seen"])
    os.kill(running.process.pid, signal.SIGSTOP)
    for _ in range(5):
        way.send([os.urandom(1000) for _ in range(BURST)])
    os.kill(running.process.pid, signal.SIGCONT)
    time.sleep(0.2)
    account = running.end()
    assert holds(account)
    stages = account["packets"]
    assert stages["ring"]["dropped"] > 0
    assert stages["all"]["seen"] == 4 * (5 * BURST + 1)
    assert stages["all"]["seen"] == stages["all"]["written"] + stages["all"]["dropped"]
    bundle = read_bundle([running.folder])
    assert sum(statistics.dropped or 0 for statistics in bundle.captures.values()) == stages["all"]["dropped"]


def test_a_clock_that_is_set_moves_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps an hour back; the machine under the tests keeps its own."""
    clock = Clock()
    before = clock.now_ns()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    step = clock.check()
    assert step is not None
    assert abs(step.by_ns + 3_600_000_000_000) < STEP_NS
    assert before <= clock.now_ns() < before + 60_000_000_000
    assert clock.check() is None
