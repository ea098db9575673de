"""Every sample's output is the one that was looked at and kept beside it (`pytest --update-golden` rewrites it)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT, Hopline

# one connection of each sample: DNAT and SNAT on a NodePort, a node's own call, IPVS, a call nobody answers, IPv6 through a tunnel
SHOWN = {"iptables": "c18", "nftables": "c20", "ipvs": "c16", "failures": "c41", "dual-stack": "c13"}


# a request of each: through the ingress to database and DNS, over service-upstream, in IPVS, refused, IPv6 in and IPv4 on
EXPLAINED = {"iptables": "t6", "nftables": "t14", "ipvs": "t4", "failures": "r5", "dual-stack": "t14"}


def settle(path: Path, said: str, request: pytest.FixtureRequest) -> str:
    """What the golden file says; with --update-golden, writes it first."""
    if request.config.getoption("--update-golden"):
        path.write_text(said)
    assert path.exists(), f"{path.relative_to(ROOT)} is missing: run pytest --update-golden, and read what it wrote"
    return path.read_text()


def differences(said: str, golden: str) -> list[str]:
    """Which keys of which records differ: whole records are too long to read."""
    ours, kept = ({record["id"]: record for record in map(json.loads, text.splitlines())} for text in (said, golden))
    found = [
        f"{name} only in the {where}"
        for where, names in (("output", ours.keys() - kept.keys()), ("golden file", kept.keys() - ours.keys()))
        for name in names
    ]
    for name in ours.keys() & kept.keys():
        keys = sorted(key for key in ours[name].keys() | kept[name].keys() if ours[name].get(key) != kept[name].get(key))
        found += [f"{name}: {', '.join(keys)}"] if keys else []
    return sorted(found)


def test_records_are_the_golden_ones(sample: Path, hopline: Hopline, request: pytest.FixtureRequest) -> None:
    run = hopline("trace", sample.relative_to(ROOT), "--json")
    assert (run.code, run.err) == (0, "")
    golden = settle(sample / "trace.jsonl", run.out, request)
    assert differences(run.out, golden) == []
    assert run.out == golden


def test_table_is_the_golden_one(sample: Path, hopline: Hopline, request: pytest.FixtureRequest) -> None:
    run = hopline("trace", sample.relative_to(ROOT))
    assert run.code == 0
    assert run.out == settle(sample / "trace.txt", run.out, request)


def test_picture_is_the_golden_one(sample: Path, hopline: Hopline, request: pytest.FixtureRequest) -> None:
    run = hopline("show", sample.relative_to(ROOT), SHOWN[sample.name])
    assert run.code == 0
    assert run.out == settle(sample / "show.txt", run.out, request)


def test_story_is_the_golden_one(sample: Path, hopline: Hopline, request: pytest.FixtureRequest) -> None:
    run = hopline("explain", sample.relative_to(ROOT), EXPLAINED[sample.name], "--no-packets", columns=150)
    assert run.code == 0
    assert run.out == settle(sample / "explain.txt", run.out, request)


def test_every_sample_has_a_picture() -> None:
    assert {path.name for path in (ROOT / "sample_pcaps").iterdir() if path.is_dir()} == set(SHOWN)
