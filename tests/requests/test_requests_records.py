"""Requests as records: trees in order, times that add up, parents only where they are sure enough; on every sample, and on any guesses."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import SAMPLES, Hopline
from framed import found_in
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.contract import REQUEST_SCHEMA
from analysis.latency import SHARES
from analysis.requests import RequestRecorder
from probes.schema import size
from tracer.requests import trace_requests
from tracer.requests.parents import Parents

Record = dict[str, Any]
BEFORE = {"dns", "connect", "tls", "login"}
JOURNEY = ["request-network", "server", "response-network"]


@cache
def records_at(sample: Path, least: float = 0.9) -> list[Record]:
    return list(RequestRecorder(found_in(sample), least))


def check_trees(records: list[Record]) -> None:
    """Ids in order, every child behind its parent, no rings, one trace per tree."""
    assert [record["id"] for record in records] == [f"r{number}" for number in range(1, len(records) + 1)]
    before: dict[str, Record] = {}
    for record in records:
        if record["parent"] is None:
            assert record["trace"] == f"t{record['id'][1:]}"
        else:
            assert record["trace"] == before[record["parent"]]["trace"], "children come behind their parents"
        before[record["id"]] = record
    traces = [record["trace"] for record in records]
    assert [traces[0], *(after for one, after in pairwise(traces) if one != after)] == list(dict.fromkeys(traces)), "trees stay together"


@pytest.mark.parametrize("least", [0.0, 0.5, 0.9, 1.0])
def test_records_validate(sample: Path, least: float) -> None:
    validator = jsonschema.Draft202012Validator(REQUEST_SCHEMA)
    records = json.loads(json.dumps(records_at(sample, least)))
    assert [f"{record['id']}: {error.json_path}: {error.message}" for record in records for error in validator.iter_errors(record)] == []
    assert len(records) == size(found_in(sample).requests.table)


def test_the_schema_refuses_what_is_no_request() -> None:
    jsonschema.Draft202012Validator.check_schema(REQUEST_SCHEMA)
    validator = jsonschema.Draft202012Validator(REQUEST_SCHEMA)
    record = records_at(SAMPLES / "iptables")[0]
    assert validator.is_valid(record)
    for wrong in ({"latency": None}, {"parent_confidence": 1.5}, {"bytes": {"request": 1}}, {"tries": 0}, {"extra": 1}, {"connection": 7}):
        assert not validator.is_valid(record | wrong)


@pytest.mark.parametrize("least", [0.0, 0.9, 1.0])
def test_trees_are_in_order(sample: Path, least: float) -> None:
    records = records_at(sample, least)
    check_trees(records)
    roots = [record for record in records if record["parent"] is None]
    assert [root["start_ns"] for root in roots] == sorted(root["start_ns"] for root in roots)
    by_parent: dict[str, list[int]] = {}
    for record in records:
        if record["parent"]:
            by_parent.setdefault(record["parent"], []).append(record["start_ns"])
    assert all(starts == sorted(starts) for starts in by_parent.values())


def test_parents_are_given_where_they_are_sure_enough(sample: Path) -> None:
    given: dict[float, int] = {}
    for least in (0.0, 0.5, 0.9, 1.0):
        records = records_at(sample, least)
        given[least] = sum(record["parent"] is not None for record in records)
        for record in records:
            shares = [each["confidence"] for each in record["parent_candidates"]]
            assert shares == sorted(shares, reverse=True)
            assert record["id"] not in [each["id"] for each in record["parent_candidates"]]
            if record["parent"] is not None:
                assert record["parent_confidence"] >= least - 5e-5  # it is rounded
                assert record["parent_evidence"]
                assert record["parent"] not in [each["id"] for each in record["parent_candidates"]]
            elif shares:
                assert record["parent_confidence"] == shares[0]
            assert (record["parent_confidence"] is None) == (record["parent"] is None and not shares)
    assert given[0.0] >= given[0.5] >= given[0.9] >= given[1.0]
    assert given[0.9] > 0


def test_a_parent_was_under_way(sample: Path) -> None:
    """As far as clocks tell."""
    records = {record["id"]: record for record in records_at(sample, 0.0)}
    for record in records.values():
        if record["parent"] is not None:
            parent = records[record["parent"]]
            slack = max([part["uncertainty_ns"] or 0 for part in parent["latency"]["parts"]], default=0)
            assert parent["start_ns"] - slack <= record["start_ns"] <= parent["end_ns"] + slack
            ours, theirs = record["client"], parent["server"]
            assert (ours["namespace"], ours["name"]) == (theirs["namespace"], theirs["name"])


def test_times_add_up(sample: Path) -> None:
    for record in records_at(sample):
        latency = record["latency"]
        assert latency["total_ns"] == record["end_ns"] - record["start_ns"] >= 0
        assert (latency["network_ns"] is None) == (latency["server_ns"] is None) == (latency["self_ns"] is None)
        if latency["server_ns"] is not None:
            assert latency["network_ns"] + latency["server_ns"] == latency["total_ns"]
            assert 0 <= latency["self_ns"] <= latency["server_ns"]
        assert (latency["shares"] is None) == (record["parent"] is not None)
        if latency["shares"] is not None:
            assert set(latency["shares"]) == set(SHARES)
            assert sum(latency["shares"].values()) == latency["total_ns"]
            assert min(latency["shares"].values()) >= 0


def test_parts_lie_within_their_request(sample: Path) -> None:
    known = 0
    for record in records_at(sample):
        parts = record["latency"]["parts"]
        for part in parts:
            slack = 0 if part["uncertainty_ns"] is None else part["uncertainty_ns"]
            assert part["separable"] == (part["uncertainty_ns"] is not None and part["end_ns"] - part["start_ns"] > slack)
            if part["kind"] in BEFORE:
                assert part["start_ns"] <= part["end_ns"] <= record["start_ns"] + slack
            elif part["kind"] not in ("nat", "retransmission"):
                assert record["start_ns"] - slack <= part["start_ns"]
                assert part["end_ns"] <= record["end_ns"] + slack
            if part["kind"] in ("nat", "retransmission", "server"):
                assert part["start_ns"] <= part["end_ns"]
        way = [part for part in parts if part["kind"] in JOURNEY]
        assert [part["kind"] for part in way] in ([], JOURNEY)
        if way:
            known += 1
            assert (way[0]["start_ns"], way[-1]["end_ns"]) == (record["start_ns"], record["end_ns"])
            assert all(one["end_ns"] == other["start_ns"] for one, other in pairwise(way))
    assert known > 10


def test_hops_are_in_order_as_far_as_clocks_tell(sample: Path) -> None:
    across = 0
    for record in records_at(sample):
        for way in ("request", "reply"):
            hops = [hop for hop in record["hops"] if hop["path"] == way]
            for before, hop in pairwise(hops):
                if hop["latency_ns"] is None:
                    assert hop["uncertainty_ns"] is hop["separable"] is None
                    continue
                assert hop["latency_ns"] == hop["time_ns"] - before["time_ns"] >= -hop["uncertainty_ns"]
                assert hop["offset_ns"] == hop["time_ns"] - hops[0]["time_ns"]
                assert hop["separable"] == (hop["latency_ns"] > hop["uncertainty_ns"])
                across += hop["node"] != before["node"]
                if hop["node"] == before["node"]:
                    assert hop["latency_ns"] >= 0
            if hops:
                assert hops[0]["latency_ns"] is None
                assert hops[0]["offset_ns"] == 0
    assert across > 10


def test_a_connection_is_its_requests_or_itself(sample: Path) -> None:
    recorder = RequestRecorder(found_in(sample))
    whole = {record["id"]: record for record in recorder.connections}
    carried = Counter(record["connection"] for record in recorder)
    assert set(carried) == set(whole)
    for record in recorder:
        connection = whole[record["connection"]]
        for name in ("client", "server", "original", "translated", "translations", "confidence", "evidence"):
            assert record[name] == connection[name]
        if record["protocol"] == connection["protocol"]:
            assert carried[record["connection"]] == 1
            assert record["operation"] is None
            assert record["status"] == connection["status"]
            assert record["bytes"] == {"request": None, "response": None}


def test_the_same_again(sample: Path) -> None:
    """Ids are given by what was found, not by chance."""
    again = RequestRecorder(trace_requests(found_in(sample).trace))
    assert list(again) == records_at(sample)
    assert list(again) == list(again)


@settings(max_examples=40, deadline=None)
@given(chance=st.randoms(use_true_random=False), least=st.sampled_from([0.0, 0.5, 0.9, 1.0]), reach=st.integers(1, 60))
def test_whatever_parents_are_guessed_trees_come_out(chance: random.Random, least: float, reach: int) -> None:
    """Also such as would close a ring, or come after their children."""
    found = found_in(SAMPLES / "iptables")
    count = size(found.requests.table)
    candidates = {}
    for request in range(count):
        others = [
            (request + step) % count for step in chance.sample(range(1, min(reach, count - 1) + 1), chance.randrange(min(reach, 3) + 1))
        ]
        candidates[request] = [(other, 1 - chance.random() / 2 ** (3 - place)) for place, other in enumerate(others)]
    recorder = RequestRecorder(replace(found, parents=Parents(candidates, {})), least)
    assert sorted(recorder.order) == list(range(count))
    records = list(recorder)
    check_trees(records)
    for record in records:
        if record["latency"]["shares"] is not None:
            assert sum(record["latency"]["shares"].values()) == record["latency"]["total_ns"]
            assert min(record["latency"]["shares"].values()) >= 0


def test_a_ring_is_left_open() -> None:
    found = found_in(SAMPLES / "iptables")
    ring = Parents({0: [(1, 0.99)], 1: [(2, 0.99)], 2: [(0, 0.99)], 3: [(3, 0.99)]})
    records = list(RequestRecorder(replace(found, parents=ring)))
    check_trees(records)
    assert sum(record["parent"] is not None for record in records) == 2


def test_connections_alone_keep_their_ids(sample: Path, hopline: Hopline) -> None:
    run = hopline("trace", sample, "--json", "--l4-only")
    ids = [json.loads(line)["id"] for line in run.out.splitlines()]
    assert ids == [f"c{number}" for number in range(1, len(ids) + 1)]
    assert len(ids) == size(found_in(sample).trace.tables.connections)
