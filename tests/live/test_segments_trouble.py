"""A full disk, a folder that goes away, a recorder that is killed: what is on disk stays whole, and what is not there is counted."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from packets import ETHERNET

from probes.live.budget import Budget, WhenFull
from probes.live.pcapng import InterfaceDescription
from probes.live.segments import Limits, Segments

from .segmented import BLOCK_BYTES, SECTION, captures, numbered, numbers_in

ETH0 = InterfaceDescription("eth0", ETHERNET)
DISK_BYTES = 4 << 20
PER_SECOND = 1000  # of the packets' own time


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "hopline-test", folder]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def opened(folder: Path, budget: Budget, said: list[str] | None = None, segment_bytes: int = 1 << 18) -> Segments:
    segments = Segments(folder, SECTION, budget, Limits(segment_bytes), say=[].append if said is None else said.append)
    segments.interface(ETH0)
    return segments


def assert_whole(folder: Path) -> None:
    assert [problem for capture in captures(folder) for problem in capture.problems] == []


def test_a_full_disk_costs_the_oldest(disk: Path) -> None:
    """Nothing is dropped: older segments make room, and every segment stays whole."""
    segments = opened(disk / "node-a", Budget())
    for start in range(0, 101_000, 101):
        assert segments.write(numbered(range(start, start + 101))) == 101
    segments.close()
    assert_whole(disk / "node-a")
    kept = numbers_in(captures(disk / "node-a"))
    assert kept == list(range(kept[0], 101_000))
    assert len(kept) * BLOCK_BYTES > DISK_BYTES * 3 / 4
    assert segments.counters()["dropped"] == 0


def test_a_full_disk_costs_packets_where_nothing_may_be_deleted(disk: Path) -> None:
    ballast = disk / "somebody-elses"
    ballast.write_bytes(bytes(DISK_BYTES * 3 // 4))
    said: list[str] = []
    segments = opened(disk / "node-a", Budget(when_full="stop"), said)
    accepted: list[int] = []

    def write(numbers: range) -> int:
        written = segments.write(numbered(numbers))
        accepted.extend(numbers[:written])
        return written

    full = next(start for start in range(0, 101_000, 101) if write(range(start, start + 101)) < 101)
    assert_whole(disk / "node-a")
    for start in range(full + 101, full + 5151, 101):
        write(range(start, start + 101))
    assert_whole(disk / "node-a")
    assert numbers_in(captures(disk / "node-a")) == accepted
    ballast.unlink()
    again = full + 5151
    while not write(range(again, again + 101)):  # it rests for a second
        again += 101
    assert again - full <= 5151 + 2 * PER_SECOND
    write(range(again + 101, again + 1000))
    segments.close()
    assert_whole(disk / "node-a")
    found = captures(disk / "node-a")
    assert numbers_in(found) == accepted
    counted = segments.counters()
    assert counted["seen"] == again + 1000 == counted["written"] + counted["dropped"]
    assert segments.reasons == {"disk full": counted["dropped"]}
    (gap,) = said
    assert gap.startswith(f"dropped {counted['dropped']} packets from 2023-11-14 22:13:2")
    assert (None, gap) in [comment for capture in found for comment in capture.statistics.comments]
    assert sum(capture.statistics.dropped or 0 for capture in found) == counted["dropped"]


def test_a_gap_that_lasts_to_the_end_is_said(disk: Path) -> None:
    said: list[str] = []
    segments = opened(disk / "node-a", Budget(when_full="stop"), said)
    for start in range(0, 101_000, 101):
        segments.write(numbered(range(start, start + 101)))
    segments.close()
    assert len(said) == 1
    assert said[0].startswith(f"dropped {segments.reasons['disk full']} packets from ")
    assert_whole(disk / "node-a")


def test_a_disk_that_is_full_from_the_start(disk: Path) -> None:
    with (disk / "somebody-elses").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)) == 4096 and os.statvfs(disk).f_bfree:
            pass
    segments = opened(disk / "node-a", Budget())
    assert segments.write(numbered(range(101))) == 0
    (disk / "somebody-elses").unlink()
    assert segments.write(numbered(range(2000, 2101))) == 101
    segments.close()
    assert numbers_in(captures(disk / "node-a")) == list(range(2000, 2101))
    assert [path.name for path in sorted((disk / "node-a").iterdir())] == ["000001.pcapng"]


@pytest.mark.parametrize(("when_full", "dropped"), [("delete", {}), ("stop", {"disk full": 32})])
def test_a_write_that_ends_in_the_midst_of_a_block_is_cut_back(when_full: WhenFull, dropped: dict[str, int], tmp_path: Path) -> None:
    """The process's own limit on the size of a file makes the kernel take a part only, to the byte."""
    before, previous = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    segments = opened(tmp_path, Budget(when_full=when_full))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_850, before[1]))
        written = segments.write(numbered(range(101)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    segments.close()
    assert_whole(tmp_path)
    assert numbers_in(captures(tmp_path)) == list(range(written))
    assert segments.reasons == dropped
    assert written == 101 - sum(dropped.values())


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "node-a"
    segments = opened(folder, Budget(1 << 30), said)
    segments.write(numbered(range(101)))
    shutil.rmtree(folder)
    assert segments.write(numbered(range(101, 202))) == 101
    segments.close()
    assert numbers_in(captures(folder)) == list(range(101, 202))
    assert said == ["000001.pcapng was deleted while it was written: its 101 packets are gone"]
    assert segments.counters() == {
        "seen": 202, "written": 202, "dropped": 0, "removed": 101, "bytes": segments.counters()["bytes"], "files": 2, "deleted_files": 0,
    }  # fmt: skip


def test_a_bundle_that_is_removed_is_not(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    segments = opened(bundle / "node-a", Budget())
    segments.write(numbered(range(101)))
    shutil.rmtree(bundle)
    assert segments.write(numbered(range(101, 202))) == 0
    segments.close()
    assert not bundle.exists()
    assert segments.reasons == {"no such file or directory": 101}
    assert segments.counters()["removed"] == 101


WRITER = """
import sys
sys.path[:0] = ["tests", "."]
from pathlib import Path
from tests.live.segmented import SECTION, numbered
from tests.live.test_segments_trouble import ETH0, opened
from probes.live.budget import Budget

segments = opened(Path(sys.argv[1]), Budget(), segment_bytes=50_000)
start = int(sys.argv[2])
while True:
    segments.write(numbered(range(start, start + 97)))
    start += 97
    print(start, flush=True)
"""


def test_a_recorder_that_is_killed_loses_only_what_was_not_written(tmp_path: Path) -> None:
    """Killed at any moment, several times in one folder: what was acknowledged is there, in order, and nothing earlier is touched."""
    folder, moments = tmp_path / "node-a", random.Random()
    expected: list[int] = []
    start = 0
    for _ in range(5):
        before = {path: path.read_bytes() for path in folder.glob("*")}
        with subprocess.Popen([sys.executable, "-c", WRITER, folder, str(start)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.3))
            writer.kill()
            acknowledged = int(([str(start + 97), *writer.stdout.read().split("\n")[:-1]])[-1])
        assert {path: path.read_bytes() for path in before} == before
        found = captures(folder)
        # at most a block that is not whole, or a file that was only just made
        assert all(problem.severity == "note" or problem.what == "the file is empty" for capture in found for problem in capture.problems)
        last = max(numbers_in(found))
        assert last + 1 >= acknowledged
        expected += range(start, last + 1)
        assert numbers_in(found) == expected
        start = (last + 1000) // 100 * 100
