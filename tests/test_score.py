"""Recorded captures against the truth that clients, proxies and servers logged: nothing wrong, nothing missing; degraded, nothing wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scoring import SCORER, Score, inputs, scored, scorer

from analysis.records import Record, Recorder
from probes.schema import take
from tracer.bundle import Bundle, read_bundle
from tracer.trace import trace

FACTS = "translated,client,server,service"
NODES = ("node-a", "node-b", "node-c")
DROPPED_SHARE = 0.05

pytestmark = pytest.mark.skipif(not SCORER.exists(), reason=f"no scorer at {SCORER}")


Scorer = Callable[..., Score]


@pytest.fixture
def score() -> Scorer:
    def run(capture: Path, records: list[Record], *options: str, facts: str = FACTS) -> Score:
        told = scored(capture, records, *options, "--facts", facts)
        assert set(told.facts) == {*facts.split(","), "unjoined"}
        return told

    return run


def records_of(bundle: Bundle) -> list[Record]:
    return list(Recorder(trace(bundle)))


def without_rules(record: Record) -> Record:
    return record | {"verdict": None, "translations": [step | {"rules": None} for step in record["translations"]]}


def expected_failures(capture: Path) -> int:
    """How many of the clients' own attempts failed, and how many of those can be in a capture at all."""
    judge = scorer()
    requests = judge.load(capture / "truth.jsonl")
    return sum(judge.failure(request, leg) is not None for request in requests for leg in request["legs"])


def test_every_fact_is_right(capture: Path, score: Scorer) -> None:
    bundle = read_bundle(inputs(capture))
    assert bundle.problems == []
    records = records_of(bundle)
    options = [] if bundle.ledgers else ["--packets-only"]
    told = score(capture, records, *options)
    assert (told.exact, told.wrong) == (told.judged, 0), told.text
    assert told.judged
    status = score(capture, records, *options, facts="status")
    right, _, wrong = status.facts["status"]
    assert wrong == 0, status.text
    assert right >= expected_failures(capture), status.text

    if bundle.rules:
        assert records_of(replace(bundle, rules={})) == [without_rules(record) for record in records]
    if bundle.ledgers:
        alone = score(capture, records_of(replace(bundle, ledgers={})), "--packets-only")
        assert (alone.exact, alone.wrong) == (alone.judged, 0), alone.text


@pytest.mark.parametrize("missing", NODES)
def test_a_missing_node_makes_nothing_wrong(capture: Path, missing: str, score: Scorer) -> None:
    paths = [path for path in inputs(capture) if not re.match(rf"{missing}\.pcap", path.name)]
    bundle = read_bundle(paths)
    for ledgers in ({}, bundle.ledgers):
        told = score(capture, records_of(replace(bundle, ledgers=ledgers)))
        assert told.wrong == 0, told.text


def drop_frames(bundle: Bundle, share: float, seed: int) -> Bundle:
    """The bundle as a capture that missed `share` of its frames would have it."""
    files = {file: number for number, file in enumerate(bundle.captures)}
    file = np.array([files[point.file] for point in bundle.points])[bundle.observations["point"]]
    kept = np.random.default_rng(seed).random((len(files), int(bundle.observations["frame"].max()) + 1)) >= share
    rows = kept[file, bundle.observations["frame"]]  # an outer packet and its inner one are one frame
    observations = take(bundle.observations, rows)
    number = np.cumsum(rows) - 1
    observations["outer"] = np.where(observations["outer"] < 0, -1, number[observations["outer"]])
    return replace(bundle, observations=observations)


@pytest.mark.parametrize("seed", [23, 101])
def test_dropped_frames_make_nothing_wrong(capture: Path, seed: int, score: Scorer) -> None:
    bundle = read_bundle(inputs(capture))
    if not bundle.ledgers:
        pytest.skip("no conntrack: what was dropped cannot be told from what was translated")
    told = score(capture, records_of(drop_frames(bundle, DROPPED_SHARE, seed)))
    assert told.wrong == 0, told.text
