"""Recorded captures compared with one another, and with themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import CAPTURES, SAMPLES, traced_sample
from framed import frames_of, records_of

from analysis.compare import Side, compare, fingerprint, measured, positions, recordings, spreads
from analysis.compare.claims import DIFFERS, REFUSED
from analysis.compare.samples import BY
from analysis.compare.spread import BREAKS, KEEPS, corrected
from bench.splits import split

Json = dict[str, Any]
SPLITS = 101
MOST = 0.07


@cache
def side(folder: Path) -> Side:
    trace, (connections, requests) = traced_sample(folder), records_of(folder)
    frames = frames_of(folder)
    told = fingerprint(trace, [], len(requests), frames.not_seen)
    (balance,) = corrected([spreads(trace, connections, seed=0)], 0.95)
    return Side("/".join(folder.parts[-2:]), told, measured(frames), recordings([]), balance, positions(frames))


def recorded(*names: str) -> list[Path]:
    folders = [CAPTURES / name for name in names]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip(f"no recorded captures {' and '.join(names)} at {CAPTURES} (set HOPLINE_CAPTURES)")
    return folders


def pair(a: Path, b: Path) -> Json:
    told: Json = compare([side(a), side(b)], level=0.95, seed=0)["comparisons"][0]
    return told


@pytest.mark.parametrize("name", ["iptables/seed-demo", "ipvs/seed-demo"])
def test_a_capture_does_not_differ_from_its_own_half(name: str) -> None:
    """Of random halves, 7 % and fewer have any false verdict; a question alone errs as its level says. In full: docs/compare.md."""
    (folder,) = recorded(name)
    told = split(measured(frames_of(folder), BY), SPLITS)
    error = 3 * (0.05 * 0.95 / SPLITS) ** 0.5
    assert told.questions > 10
    assert told.together <= MOST + error
    assert told.alone <= 0.05 + error


def test_halves_of_a_sample_are_too_small_to_differ() -> None:
    assert split(measured(frames_of(SAMPLES / "iptables"), BY), 3).questions == 0


@pytest.mark.parametrize(
    ("a", "b", "facts"),
    [
        ("iptables/short", "ipvs/short", ["kernel"]),
        ("iptables-vm/short", "nftables/short", ["kernel"]),
        ("iptables-vm/short", "ipvs/short", []),
        ("iptables/short", "nftables/short", []),
    ],
)
def test_only_pairs_that_share_a_kernel_are_ranked(a: str, b: str, facts: list[str]) -> None:
    told = pair(*recorded(a, b))
    assert [each["fact"] for each in told["confounders"]] == facts
    assert (told["verdict"] == REFUSED) == bool(facts)
    assert bool(told["record_instead"])
    if facts:
        assert not told["ranked"]
        assert {each["better"] for each in told["claims"]} == {None}


def test_samples_of_two_kernels_are_refused() -> None:
    """The same, of bundles that every clone has."""
    told = pair(SAMPLES / "iptables", SAMPLES / "nftables")
    assert [each["fact"] for each in told["confounders"]] == ["kernel"]
    assert told["verdict"] == REFUSED


def test_a_bundle_does_not_differ_from_itself() -> None:
    told = pair(SAMPLES / "ipvs", SAMPLES / "ipvs")
    assert told["verdicts"].keys() <= {"no difference shown", "too small"}
    assert told["confounders"] == told["unchecked"] == []


@pytest.mark.parametrize(("name", "how"), [("iptables/seed-demo", "random"), ("nftables/seed-demo", "random"), ("ipvs/seed-demo", "rr")])
def test_services_are_balanced_as_their_mode_says(name: str, how: str) -> None:
    (folder,) = recorded(name)
    told = {each.service: each for each in side(folder).spreads}
    assert [each for each in told.values() if each.verdict == BREAKS] == []
    assert (told["demo/web"].how, told["demo/web"].verdict) == (how, KEEPS)
    assert (told["demo/web-affinity"].how, told["demo/web-affinity"].breaks) == ("ClientIP", 0)
    assert told["demo/web-affinity"].kept > 0
    if how == "rr":
        assert "exact turns" in told["demo/web"].why


def test_fingerprints_say_what_a_side_is() -> None:
    told = side(SAMPLES / "ipvs").fingerprint
    assert (told.modes, told.kernels, told.nodes) == (("ipvs",), ("6.1.0-56-amd64",), ("node-a", "node-b", "node-c"))
    assert told.captured == told.nodes
    assert len(told.services) == 20
    assert told.services["demo/web"] == 3
    assert told.rules
    assert told.packets > 0
    assert (told.dropped, told.recorder_ns_per_packet) == (None, None)


def test_what_recording_costs_is_read_from_its_account() -> None:
    trace = traced_sample(SAMPLES / "iptables")
    account = b"""{"kernel": "6.9.1", "complete": true, "probes": {"packets": {"seen": 1000, "cost_ns": 430000}, "ledger": {"seen": 7}},
        "selection": {"ports": [80], "nets": [], "share": 1.0, "seed": 7}}"""
    told = fingerprint(trace, [account, account], 1, ())
    assert (told.recorder_ns_per_packet, told.kernels, told.whole) == (430.0, ("6.9.1",), True)
    assert told.selections == ("ports [80], share 1.0",)
    assert recordings([account, b"not JSON", b'{"probes": {"packets": {"seen": 0, "cost_ns": 0}}}', account]).clusters == 2
    assert not fingerprint(trace, [account.replace(b"true", b"false")], 1, ()).whole
    assert fingerprint(trace, [b"not JSON"], 1, ()).recorder_ns_per_packet is None


def test_the_fair_pair_of_modes_differs() -> None:
    """IPVS and iptables in one virtual machine: what differs is told, with its interval, and what the machine may have to do with it."""
    told = pair(*recorded("iptables-vm/short", "ipvs/short"))
    first = next(each for each in told["claims"] if (each["metric"], each["kind"]) == ("nat-first", "typical"))
    assert (first["verdict"], first["better"]) == (DIFFERS, "a")
    assert 1 < first["ratio"]["low"] < first["ratio"]["high"] < 5
    assert any("may be the machine" in each for each in told["cautions"])
