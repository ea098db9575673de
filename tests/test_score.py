"""Recorded captures against the truth that clients, proxies and servers logged: nothing wrong, nothing missing; degraded, nothing wrong."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import CAPTURES

from analysis.records import Record, Recorder
from probes.schema import take
from tracer.bundle import Bundle, kind_of, read_bundle
from tracer.trace import trace

SCORER = CAPTURES.parent / "eval" / "score.py"
FACTS = "translated,client,server,service"
NODES = ("node-a", "node-b", "node-c")
DROPPED_SHARE = 0.05

pytestmark = pytest.mark.skipif(not SCORER.exists(), reason=f"no scorer at {SCORER}")


@dataclass(frozen=True)
class Score:
    """Judged requests, those with every fact right, and per fact how many were right, missing, wrong."""

    exact: int
    judged: int
    facts: dict[str, tuple[int, int, int]]
    text: str

    @property
    def wrong(self) -> int:
        return sum(wrong for _, _, wrong in self.facts.values())


Scorer = Callable[..., Score]


@pytest.fixture(scope="session")
def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", SCORER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def score(scorer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scorer:
    def run(capture: Path, records: list[Record], *options: str, facts: str = FACTS) -> Score:
        output = tmp_path / "out.jsonl"
        output.write_text("".join(json.dumps(record) + "\n" for record in records))
        monkeypatch.setattr(sys, "argv", ["score.py", *options, "--facts", facts, str(capture / "truth.jsonl"), str(output)])
        scorer.main()
        text = capsys.readouterr().out
        rows = {name: tuple(map(int, counts)) for name, *counts in re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)$", text, re.MULTILINE)}
        last = re.search(r"^exact (\d+)/(\d+)", text, re.MULTILINE)
        assert last, text
        assert set(rows) == {*facts.split(","), "unjoined"}
        return Score(int(last[1]), int(last[2]), rows, text)  # type: ignore[arg-type]  # three numbers each

    return run


def inputs(capture: Path) -> list[Path]:
    """What hopline may read of a recorded capture: never the truth or the logs it came from."""
    return sorted(path for path in capture.iterdir() if kind_of(path))


def records_of(bundle: Bundle) -> list[Record]:
    return list(Recorder(trace(bundle)))


def without_rules(record: Record) -> Record:
    return record | {"verdict": None, "translations": [step | {"rules": None} for step in record["translations"]]}


def expected_failures(scorer: ModuleType, capture: Path) -> int:
    """How many of the clients' own attempts failed, and how many of those can be in a capture at all."""
    requests = scorer.load(capture / "truth.jsonl")
    return sum(scorer.failure(request, leg) is not None for request in requests for leg in request["legs"])


def test_every_fact_is_right(capture: Path, score: Scorer, scorer: ModuleType) -> None:
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
    assert right >= expected_failures(scorer, capture), status.text

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
