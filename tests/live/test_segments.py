"""Segments hold what was accepted, in order, each whole on its own, within their limits and their budget."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import ETHERNET

from probes.live.budget import Budget
from probes.live.pcapng import InterfaceCounters, InterfaceDescription
from probes.live.segments import BUDGET, Limits, Segments

from .segmented import BLOCK_BYTES, SECTION, STEP_NS, bytes_in, captures, numbered, numbers_in

ETH0 = InterfaceDescription("eth0", ETHERNET)
POD = InterfaceDescription("cni-1/eth0", ETHERNET, description="of a pod")
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
LATER = InterfaceDescription("cni-2/eth0", ETHERNET)
SMALL = Limits(segment_bytes=4096)


def opened(folder: Path, budget: Budget | None = None, limits: Limits = SMALL, **options: object) -> Segments:
    segments = Segments(folder, SECTION, budget or Budget(), limits, **options)  # type: ignore[arg-type]
    segments.interface(ETH0)
    return segments


def test_segments_follow_one_another(tmp_path: Path) -> None:
    segments = opened(tmp_path / "node-a")
    assert segments.write(numbered(range(101))) == 101
    segments.close()
    found = captures(tmp_path / "node-a")
    assert [capture.file for capture in found] == [f"{number:06}.pcapng" for number in range(1, len(found) + 1)]
    assert numbers_in(found) == list(range(101))
    assert [capture.problems for capture in found] == [[]] * len(found)
    assert len(found) > 3
    assert all(path.stat().st_size <= 4096 for path in (tmp_path / "node-a").iterdir())
    assert segments.counters() == {
        "seen": 101, "written": 101, "dropped": 0, "removed": 0, "bytes": bytes_in(tmp_path / "node-a"), "files": len(found),
        "deleted_files": 0,
    }  # fmt: skip


def test_a_segment_is_whole_after_every_write(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    for start in range(0, 101, 7):
        segments.write(numbered(range(start, start + 7)))
        assert numbers_in(captures(tmp_path)) == list(range(start + 7))
        assert [problem for capture in captures(tmp_path) for problem in capture.problems] == []


def test_a_segment_ends_at_its_age(tmp_path: Path) -> None:
    segments = opened(tmp_path, limits=Limits(segment_ns=10 * STEP_NS))
    for number in range(23):
        segments.write(numbered(range(number, number + 1)))
    segments.close()
    assert [numbers_in([capture]) for capture in captures(tmp_path)] == [list(range(10)), list(range(10, 20)), [20, 21, 22]]


def test_a_batch_larger_than_a_segment_is_cut_into_several(tmp_path: Path) -> None:
    segments = opened(tmp_path, limits=Limits(segment_bytes=1))
    assert segments.write(numbered(range(7))) == 7
    segments.close()
    assert [numbers_in([capture]) for capture in captures(tmp_path)] == [[number] for number in range(7)]


def test_numbers_of_interfaces_are_the_same_in_every_segment(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    assert [segments.interface(each) for each in (ETH0, POD, ETH0)] == [0, 1, 0]
    segments.write(numbered(range(47), interfaces=2))
    assert segments.interface(LATER) == 2
    segments.write(numbered(range(47, 101), interfaces=3))
    segments.close()
    found, seen = captures(tmp_path), []
    for capture in found:
        names = [point.interface for point in capture.points]
        seen += [names[point] for point in capture.observations["point"]]
    names = [ETH0.name, POD.name, LATER.name]
    assert seen == [names[number % (2 if number < 47 else 3)] for number in range(101)]


def test_more_interfaces_than_one_first_thought(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    assert [segments.interface(InterfaceDescription(f"veth{number}", ETHERNET)) for number in range(1, 101)] == list(range(1, 101))
    for number in range(101):
        segments.write(numbered(range(number, number + 1), interfaces=101))
    segments.close()
    found = captures(tmp_path)
    assert numbers_in(found) == list(range(101))
    assert len(found) < 3  # though what introduces so many is larger than a segment should be
    with pytest.raises(ValueError, match="never described"):
        segments.write(numbered(range(1000), interfaces=1000))


@needs_tshark
def test_statistics_count_what_each_segment_missed(tmp_path: Path) -> None:
    """The sum over the files is the number of packets that were dropped, however many files there are."""
    before: dict[int, InterfaceCounters] = {}
    segments = opened(tmp_path, counters=lambda: before)
    segments.interface(POD)
    for number in range(23):
        before[number % 2] = InterfaceCounters(received=100 * number, accepted=50 * number, dropped_by_system=3 * number)
        segments.write(numbered(range(10 * number, 10 * number + 10), interfaces=2))
    segments.close()
    found = captures(tmp_path)
    assert len(found) > 7
    assert sum(capture.statistics.dropped or 0 for capture in found) == 3 * 22 + 3 * 21
    told = "".join(
        subprocess.run(
            ["tshark", "-r", path, "-X", "read_format:MIME Files Format", "-V"], capture_output=True, text=True, check=True
        ).stdout
        for path in sorted(tmp_path.iterdir())
    )
    for name, total in (
        ("Delivered to the User Packets", 230), ("Received Packets", 100 * (22 + 21)), ("Accepted by Filter Packets", 50 * (22 + 21)),
    ):  # fmt: skip
        assert sum(int(line.split(":")[1]) for line in told.splitlines() if f"Number of {name}:" in line) == total
    assert "Malformed" not in told


@settings(deadline=None)  # the first example may compile
@given(
    sizes=st.lists(st.integers(0, 40), max_size=23), segment_bytes=st.integers(1, 6000), age=st.integers(1, 60),
    limit=st.none() | st.integers(0, 20_000), when_full=st.sampled_from(["delete", "stop"]),
)  # fmt: skip
def test_whatever_is_written(
    sizes: list[int], segment_bytes: int, age: int, limit: int | None, when_full: str, tmp_path_factory: pytest.TempPathFactory
) -> None:  # fmt: skip
    """Union of segments = what was accepted, in order; never more than the budget; everything seen was written or dropped."""
    folder = tmp_path_factory.mktemp("any")
    budget = Budget(limit, when_full)  # type: ignore[arg-type]
    segments = opened(folder, budget, Limits(segment_bytes, age * STEP_NS))
    at, accepted = 0, []
    for size in sizes:
        written = segments.write(numbered(range(at, at + size)))
        accepted += range(at, at + written)
        at += size
        assert limit is None or bytes_in(folder) <= limit
    segments.close()
    found = captures(folder)
    assert [problem for capture in found for problem in capture.problems] == []
    kept, counted = numbers_in(found), segments.counters()
    assert kept == accepted[len(accepted) - len(kept) :]
    assert kept == accepted or (when_full == "delete" and budget.deleted)
    assert counted["seen"] == at == counted["written"] + counted["dropped"]
    assert counted["written"] == len(accepted)
    assert counted["dropped"] == sum(segments.reasons.values())
    assert bytes_in(folder) == budget.used
    assert limit is None or budget.used <= limit
    if limit is None:
        assert accepted == list(range(at))


def test_the_oldest_make_room(tmp_path: Path) -> None:
    budget = Budget(50_000)
    segments = opened(tmp_path, budget)
    for start in range(0, 1009, 7):
        assert segments.write(numbered(range(start, start + 7))) == 7
        assert bytes_in(tmp_path) <= budget.used <= 50_000
    segments.close()
    found = captures(tmp_path)
    kept = numbers_in(found)
    assert kept == list(range(kept[0], 1015))
    assert len(kept) * BLOCK_BYTES > 40_000
    assert budget.deleted == int(found[0].file.split(".")[0]) - 1
    assert "older files were deleted to make room" in str(found[-1].statistics.comments)


def test_or_it_stops(tmp_path: Path) -> None:
    budget, said = Budget(20_000, "stop"), list[str]()
    segments = opened(tmp_path, budget, say=said.append)
    written = [segments.write(numbered(range(start, start + 7))) for start in range(0, 203, 7)]
    segments.close()
    assert budget.stopped
    assert numbers_in(captures(tmp_path)) == list(range(sum(written)))
    assert segments.reasons == {BUDGET: 203 - sum(written)}
    assert len(said) == 1
    assert said[0].startswith(f"dropped {203 - sum(written)} packets from 2023-11-14 22:13:20")
    assert said[0].endswith("disk budget reached")


def test_two_streams_share_a_budget(tmp_path: Path) -> None:
    budget = Budget(60_000)
    packets, ledger = opened(tmp_path / "node-a", budget), opened(tmp_path, budget, prefix="node-a.conntrack-")
    for start in range(0, 1001, 7):
        packets.write(numbered(range(start, start + 7)))
        ledger.write(numbered(range(start, start + 1)))
        assert bytes_in(tmp_path) + bytes_in(tmp_path / "node-a") <= budget.used <= 60_000
    packets.close()
    ledger.close()
    assert packets.counters()["dropped"] == ledger.counters()["dropped"] == 0
    assert bytes_in(tmp_path) + bytes_in(tmp_path / "node-a") == budget.used > 45_000
    first = [numbers_in(captures(folder))[0] for folder in (tmp_path, tmp_path / "node-a")]
    assert min(first) > 500
    assert abs(first[0] - first[1]) < 7 * 4096 // BLOCK_BYTES  # a ledger's segment lasts longer


def test_another_recording_goes_on_behind_the_first(tmp_path: Path) -> None:
    for part in range(3):
        segments = opened(tmp_path)
        segments.write(numbered(range(100 * part, 100 * part + 100)))
        segments.close()
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again = opened(tmp_path, Budget(bytes_in(tmp_path) + 3000))
    assert {path: path.read_bytes() for path in before} == before
    again.write(numbered(range(300, 350)))
    again.close()
    kept = numbers_in(captures(tmp_path))
    assert kept == list(range(kept[0], 350))
    assert kept[0] > 0
    assert (tmp_path / "000001.pcapng").exists() is False


def test_two_recordings_in_one_folder_keep_apart(tmp_path: Path) -> None:
    both = [opened(tmp_path), opened(tmp_path)]
    for start in range(0, 101, 10):
        for number, segments in enumerate(both):
            segments.write(numbered(range(1000 * number + start, 1000 * number + start + 10)))
    for segments in both:
        segments.close()
    assert sorted(numbers_in(captures(tmp_path))) == [*range(110), *range(1000, 1110)]


@needs_tshark
def test_a_recording_of_nothing_says_where_it_looked(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    segments.close()
    told = subprocess.run(["capinfos", tmp_path / "000001.pcapng"], capture_output=True, text=True, check=True).stdout
    assert "Name = eth0" in told
    assert "Number of packets:   0" in told


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FileExistsError):
        opened(tmp_path / "taken")
