"""Cells, fits and words of a bench, from samples whose truth is known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proxy_benched import MACHINE, PLAN, SIZES, made, told_of_two

from analysis.proxy_bench import words
from analysis.proxy_bench.cells import cells
from analysis.proxy_bench.fits import fit
from analysis.proxy_bench.levels import FEWEST, by_cell, levelled
from analysis.proxy_bench.page import build
from analysis.proxy_bench.told import document
from probes.live.proxy_bench import caches
from probes.live.proxy_bench.plan import Sample
from probes.live.proxy_bench.rounds import spread

NONE = np.empty(0, "i8")


@pytest.mark.parametrize("slope_ns", [0.0, 0.3, 5.4, 17.3])
@pytest.mark.parametrize("warm_ns", [0.0, 1500.0])
def test_a_known_slope_is_found_whatever_a_warm_service_gains(slope_ns: float, warm_ns: float) -> None:
    found = fit("iptables-nft", made(slope_ns, warm_ns=warm_ns))
    assert found.low_ns < found.slope_ns < found.high_ns
    assert abs(found.slope_ns - slope_ns) < 0.2 + 0.02 * slope_ns
    assert abs(found.start_ns - 3000) < 100
    assert (found.low_ns > 0) == (slope_ns > 0.2)
    assert found.packets == 2 * len(SIZES) * PLAN.connections


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    """Rounds that differ as a whole are what makes honest intervals wide; 95 % of 53 trials, with what chance allows."""
    held = 0
    for seed in range(53):
        found = fit("iptables-nft", made(2.0, round_ns=150.0, seed=seed), seed)
        held += found.low_ns <= 2.0 <= found.high_ns
    assert held >= 44


def test_one_position_gives_no_slope() -> None:
    only = [sample for sample in made(5.4) if sample.services == 1]
    found = fit("iptables-nft", only)
    assert np.isnan([found.start_ns, found.slope_ns, found.low_ns, found.high_ns]).all()
    assert found.packets == 2 * PLAN.connections


def test_the_same_samples_give_the_same_interval() -> None:
    assert fit("iptables-nft", made(5.4), 7) == fit("iptables-nft", made(5.4), 7)


def test_a_disturbed_round_moves_no_median_and_is_seen() -> None:
    """Of one cell: of the others nothing changes."""
    quiet, samples = cells(made(0.0)), made(0.0)
    for sample in samples:
        if sample.round == 3 and (sample.services, sample.target) == (101, "last"):
            sample.first_ns[:] = 3 * sample.first_ns
    for cell, before in zip(cells(samples), quiet, strict=True):
        disturbed = (cell.services, cell.target) == (101, "last")
        assert abs(cell.first_ns[0] / before.first_ns[0] - 1) < 0.03
        assert before.spread < 0.05
        assert (cell.spread > 1) == disturbed
        assert cell.first_ns[2] > 0


def test_what_slows_every_cell_down_at_a_time_is_the_machine() -> None:
    samples = made(5.4)
    for sample in samples:
        if sample.round == 3:
            sample.first_ns[:] = 2 * sample.first_ns
    for cell, before in zip(cells(samples), cells(made(5.4)), strict=True):
        assert abs(cell.first_ns[0] / before.first_ns[0] - 1) < 0.03
        assert cell.spread < 0.06
        assert cell.unlevelled_spread > 0.9


def slower(sample: Sample, core: float, memory: float) -> Sample:
    """A burst beside other work: later packets take `core` times as long and caches to empty `memory`; first packets both, by its root."""
    return replace(
        sample,
        first_ns=sample.first_ns * core * memory**0.5,
        established_ns=sample.established_ns * core,
        emptied_ns=sample.emptied_ns * memory,
    )


def test_bursts_beside_other_work_count_as_what_they_would_have_been_without() -> None:
    chance = np.random.default_rng(3)
    quiet = made(5.4)
    cores = [1.5 if chance.random() < (0.9 if each.round < 3 else 0.3) else 1.0 for each in quiet]
    samples = [slower(each, core, 1 + 0.4 * chance.random()) for each, core in zip(quiet, cores, strict=True)]
    for cell, expected in zip(cells(samples), cells(quiet), strict=True):
        assert cell.unlevelled_spread > 0.15
        assert cell.spread < 0.06
        assert abs(cell.first_ns[0] / expected.first_ns[0] - 1) < 0.06
        assert cell.unlevelled_first_p50_ns > 1.15 * expected.first_ns[0]
        assert abs(cell.established_ns[0] / expected.established_ns[0] - 1) < 0.1
        assert cell.slowed_bursts > 20
        assert (cell.sent, cell.paired) == (expected.sent, expected.paired)
    found = fit("iptables-nft", [each for bursts in levelled(by_cell(samples)) for each in bursts])
    assert abs(found.slope_ns - 5.4) < 0.4


def test_packets_that_were_held_up_move_a_round_no_further_than_they_would_one_service() -> None:
    """In one round a fifth of the packets to random Services take 30 µs more, as if pages had to be found again."""
    chance = np.random.default_rng(3)
    quiet = [each for each in made(17.3) if (each.services, each.target) == (1009, "random")]
    held = [
        replace(each, first_ns=each.first_ns + 30_000 * (chance.random(len(each.first_ns)) < 0.2)) if each.round == 1 else each
        for each in quiet
    ]
    (before,), (after,) = cells(quiet), cells(held)
    plain = [np.median(np.concatenate([each.first_ns for each in some if each.round == 1])) for some in (quiet, held)]
    assert plain[1] > 1.1 * plain[0]
    assert before.spread < 0.04
    assert after.spread < 0.07
    assert abs(after.first_ns[0] / before.first_ns[0] - 1) < 0.03


def test_what_has_nothing_to_do_with_first_packets_hardly_moves_them() -> None:
    chance = np.random.default_rng(3)
    samples = [replace(each, emptied_ns=150_000 * (1 + chance.random())) for each in made(5.4)]
    for cell, expected in zip(cells(samples), cells(made(5.4)), strict=True):
        assert abs(cell.first_ns[0] / expected.unlevelled_first_p50_ns - 1) < 0.02


@pytest.mark.parametrize("change", [{"emptied_ns": np.nan}, {"established_ns": NONE}, {"first_ns": NONE, "position": NONE}])
def test_a_burst_of_which_something_is_unknown_is_kept(change: dict[str, Any]) -> None:
    samples = made(5.4)
    samples[0] = replace(samples[0], **change)
    for number, (cell, before) in enumerate(zip(cells(samples), cells(made(5.4)), strict=True)):
        assert np.isfinite(cell.first_ns).all()
        assert abs(cell.spread - before.spread) < (0.02 if number == 0 else 0.005), "other cells' bursts are levelled as ever"


def test_of_few_bursts_nothing_is_told() -> None:
    few = [slower(each, 1 + each.round, 1.0) for each in made(5.4)[: 2 * (FEWEST - 1)]]
    assert {cell.spread - cell.unlevelled_spread for cell in cells(few)} == {0.0}


def test_of_few_packets_rounds_differ_as_their_medians_do() -> None:
    """Few packets to Services near one another must not be each one's own measure."""
    few = [replace(each, first_ns=each.first_ns[:2], position=each.position[:2]) for each in made(5.4)]
    for bursts in by_cell(few):
        plain = [np.median(np.concatenate([each.first_ns for each in bursts if each.round == number])) for number in range(PLAN.rounds)]
        (cell,) = cells(bursts)
        assert cell.unlevelled_spread == pytest.approx((max(plain) - min(plain)) / np.median(plain), rel=0.05)
        assert cell.spread > 0.01


def test_what_was_not_paired_is_counted_and_what_is_missing_is_null() -> None:
    lost = Sample("iptables-nft", 7, "last", 0, 23, NONE, NONE, NONE, 150_000.0)
    (cell,) = cells([lost])
    assert (cell.sent, cell.paired) == (23, 0)
    told = document(PLAN, [lost], {}, MACHINE)
    assert told["cells"][0]["first_p50_ns"] is None
    assert told["fits"][0]["slope_ns"] is None
    assert "0 of 23 first packets" in "\n".join(words.summary(json.loads(json.dumps(told))))


def test_the_document_has_what_is_promised() -> None:
    told = json.loads(json.dumps(told_of_two(), allow_nan=False))
    keys = {"mode", "services", "endpoints", "target", "first_p50_ns", "first_p99_ns", "established_p50_ns", "sent", "paired"}
    assert {(each["mode"], each["services"], each["target"]) for each in told["cells"]} == {
        (mode, services, target) for mode in PLAN.modes for services in SIZES for target in ("random", "last")
    }
    assert all(keys <= each.keys() and each["sent"] == each["paired"] == PLAN.connections for each in told["cells"])
    assert [each["mode"] for each in told["fits"]] == ["iptables-nft", "nftables"]
    assert all({"slope_ns", "low_ns", "high_ns"} <= each.keys() for each in told["fits"])
    assert told["unavailable"] == {"ipvs": "no <module>"}
    assert told["instrument"]["low_ns"] < told["instrument"]["per_sighting_ns"] == 300 < told["instrument"]["high_ns"]


def test_words_say_what_was_found() -> None:
    told = told_of_two()
    summary = "\n".join(words.summary(told))
    assert re.match(r"iptables-nft: [23]\.\d\d µs \+ 17\.\d\d ns \(17", summary)
    for expected in ("for each Service before it", "no ipvs: no <module>", "300 ns", "12,120 of 12,120"):
        assert expected in summary
    rows = list(words.cell_rows(told))
    assert len(rows) == 12
    assert all(len(row) == len(words.CELL_HEADS) for row in rows)
    assert [row[2:] for row in words.programming_rows(told)] == [("7.0 ms", "5.0 ms") * 2] * 2


def test_the_page_holds_every_figure_and_no_foreign_markup() -> None:
    page = build(told_of_two(), "Modes & <more>")
    assert "Modes &amp; &lt;more&gt;" in page
    assert "no &lt;module&gt;" in page
    assert "<module>" not in page
    for row in words.cell_rows(told_of_two()):
        assert "".join(f"<td>{cell}</td>" for cell in row) in page


@pytest.mark.parametrize(("services", "count"), [(1, 23), (7, 101), (101, 23), (1009, 250)])
def test_random_positions_are_spread_over_all_services(services: int, count: int) -> None:
    found = spread(services, count, 5, np.random.default_rng(0))
    assert found.min() >= 0
    assert found.max() < services
    held = np.bincount(found * min(services, count) // services, minlength=min(services, count))
    assert held.min() >= count // services - 1
    assert held.max() <= max(2, count // services + 2)
    assert (np.diff(found) < 0).any() == (services > 1)


def test_each_draw_asks_other_services_in_the_same_order_of_ways() -> None:
    services, count, step = 10_007, 211, 10_007 / 211
    first, *others = (spread(services, count, number, np.random.default_rng(7)) for number in range(23))
    assert len(np.unique(np.concatenate([first, *others]))) == 23 * count
    assert max(np.abs(each - first).max() for each in others) <= step


@pytest.mark.parametrize(
    ("told", "size_bytes"),
    [
        ({"index0": ("1", "48K"), "index2": ("2", "1024K"), "index3": ("3", "266240K")}, 1 << 20),
        ({"index0": ("1", None), "index1": ("2", None)}, 2 << 20),  # Arm's firmware may tell levels alone
        ({}, 2 << 20),
    ],
    ids=["of all", "levels alone", "of none"],
)
def test_a_processor_s_own_cache_is_the_largest_below_the_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, tuple[str, str | None]], size_bytes: int
) -> None:
    for name, (level, size) in told.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "level").write_text(f"{level}\n")
        if size is not None:
            (tmp_path / name / "size").write_text(f"{size}\n")
    monkeypatch.setattr(caches, "_CACHES", tmp_path)
    assert caches.own_bytes() == size_bytes
