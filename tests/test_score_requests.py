"""Requests of recorded captures against the truth: every fact with its parent and status, how sure parents are, and where time went."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scoring import SCORER, inputs, scored, scorer

from analysis.requests import RequestRecorder
from bench.reliability import linked
from tracer.bundle import read_bundle
from tracer.requests import RequestTrace, trace_requests
from tracer.trace import trace

Record = dict[str, Any]
SLOW_MACHINE = "-vm"  # recorded under emulation: processes' own clocks say little about the wire

pytestmark = pytest.mark.skipif(not SCORER.exists(), reason=f"no scorer at {SCORER}")


@cache
def found_in(capture: Path) -> RequestTrace:
    return trace_requests(trace(read_bundle(inputs(capture))))


@cache
def records_of(capture: Path, min_confidence: float = 0.9) -> list[Record]:
    return list(RequestRecorder(found_in(capture), min_confidence))


def options_of(capture: Path) -> list[str]:
    """Without conntrack, a node's own calls to a Service have no original tuple on any wire."""
    return [] if list(capture.glob("*.conntrack*")) else ["--packets-only"]


def test_every_fact_of_requests(capture: Path) -> None:
    told = scored(capture, records_of(capture), *options_of(capture))
    total = sum(map(sum, told.facts.values()))
    assert told.share_right >= 0.99, told.text
    assert told.wrong <= 0.005 * total, told.text
    assert told.exact >= 0.95 * told.judged, told.text
    for fact in ("translated", "client", "server", "service", "status", "unjoined"):
        assert told.facts[fact][1:] == (0, 0), told.text


def test_exact_requests_pooled(request: pytest.FixtureRequest) -> None:
    captures = sorted(path.parent for path in SCORER.parents[1].glob("captures/*/*/truth.jsonl"))
    told = [scored(capture, records_of(capture), *options_of(capture)) for capture in captures if capture.name != "concurrent"]
    assert sum(each.exact for each in told) >= 0.98 * sum(each.judged for each in told)


def calls_of(capture: Path, min_confidence: float) -> list[tuple[dict[str, Any], Record, Record | None]]:
    return linked(capture, records_of(capture, min_confidence), scorer())


def test_parents_under_overload_without_any_id(capture: Path) -> None:
    if capture.name != "concurrent":
        pytest.skip("other captures are judged whole")
    calls = [(record, true) for leg, record, true in calls_of(capture, 0.0) if leg["parent"]]
    right = [true is not None and record["parent"] == true["id"] for record, true in calls]
    assert np.mean(right) >= 0.95
    sure = [one for one, (record, _) in zip(right, calls, strict=True) if record["parent_confidence"] >= 0.9]
    assert np.mean(sure) >= 0.99
    assert len(sure) >= 0.9 * len(calls)


def test_confidence_is_what_it_says(capture: Path) -> None:
    """Of parents given a confidence, as large a share is right; a few calls prove nothing, so within chance."""
    calls = [(record, true) for leg, record, true in calls_of(capture, 0.0) if leg["parent"]]
    for low, high in ((0.5, 0.9), (0.9, 0.99), (0.99, 1.01)):
        some = [
            (r["parent_confidence"], t is not None and r["parent"] == t["id"]) for r, t in calls if low <= r["parent_confidence"] < high
        ]
        said, right = sum(share for share, _ in some), sum(hit for _, hit in some)
        spread = sum(share * (1 - share) for share, _ in some) ** 0.5
        assert right >= said - 4 * spread - 2, (low, right, said, len(some))


def test_wire_times_keep_within_what_processes_logged(capture: Path) -> None:
    if SLOW_MACHINE in capture.parent.name or capture.parent.name == "ipvs":
        pytest.skip("recorded in a VM")
    total, served = [], []
    for leg, record, _ in calls_of(capture, 0.9):
        latency = record["latency"]
        if not leg["parent"]:
            total.append(latency["total_ns"] <= (leg["t_end"] - leg["t_start"]) * 1e9 + 1e6)
        if leg.get("server_t_end") and latency["server_ns"] is not None:
            served.append(latency["server_ns"] >= (leg["server_t_end"] - leg["server_t_start"]) * 1e9 - 1e6)
    assert np.mean(total) >= 0.97
    assert np.mean(served) >= 0.97


def test_no_hop_is_negative_beyond_its_limits_and_shares_add_up(capture: Path) -> None:
    for record in records_of(capture):
        for hop in record["hops"]:
            assert hop["latency_ns"] is None or hop["latency_ns"] >= -hop["uncertainty_ns"], record["id"]
        if record["latency"]["shares"] is not None:
            assert sum(record["latency"]["shares"].values()) == record["latency"]["total_ns"], record["id"]
