"""Sums of connections: the same over any parts, by whomever, and as near to what was summed up as they say."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.engine import room, spill
from analysis.engine.cluster import workers_here
from analysis.engine.connections import Connections
from analysis.engine.run import DASK, Asked, trace_connections
from analysis.histograms import ERROR, HISTOGRAMS, histograms, middles
from analysis.kinds import kind_of, measured, reason_of
from analysis.records import Record
from analysis.sums import HELD, OF_EACH_KIND, Sums, merge, tree
from analysis.synth import Amount, Options, synthesise
from probes.schema import take
from tracer.bundle import open_bundle

HELD_ROWS = 101


def quiet(*_: object) -> None:
    """Nobody looks."""


def summed(folder: Path, held: int = HELD_ROWS, **asked: Any) -> Connections:
    return trace_connections(open_bundle([folder]), Asked(**asked, held=held), quiet, quiet)


def told(found: Connections) -> object:
    """All that a report is made of."""
    sums = found.sums
    assert sums is not None
    samples = {name: column.tobytes() for name, column in sums.samples.items()}
    return sums.kinds, sums.counts.tobytes(), sums.measures, samples, list(sums.problems.items()), found.held()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "made"
    synthesise(Options(nodes=3, reuse=0.1, loss=0.01), Amount(requests=401), folder)
    return folder


@cache
def expected(folder: Path) -> object:
    return told(summed(folder, processes=1, partitions=1))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_parts_and_processes(made: Path, count: int) -> None:
    assert told(summed(made, processes=count, partitions=count)) == expected(made)


def test_by_way_of_files(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "PIECE_FRAMES", 1009)
    monkeypatch.setattr(room, "MEMORY_PER_BYTE", 1 << 40)  # nothing fits
    assert told(summed(made, processes=2, partitions=7, spill=tmp_path / "spill")) == expected(made)
    assert told(summed(made, processes=1, partitions=7, spill=tmp_path / "spill")) == expected(made)  # from what is there


def test_on_dask_though_a_worker_is_killed(made: Path) -> None:
    with workers_here(2) as here, Client(here) as client:
        victim = next(iter(client.run(os.getpid).values()))

        def kill(what: str, count: int, total: int) -> None:
            if what == "connections" and count == total:  # what it has is still to be put together
                os.kill(victim, signal.SIGKILL)

        asked = Asked(engine=DASK, scheduler=here.scheduler_address, partitions=7, held=HELD_ROWS)
        assert told(trace_connections(open_bundle([made]), asked, quiet, kill)) == expected(made)


def test_what_is_summed_up_are_all_connections(made: Path) -> None:
    everything = list(trace_connections(open_bundle([made]), Asked(processes=1), quiet, quiet).records())
    _as_they_are(everything, summed(made, processes=2, partitions=3), HELD_ROWS)


def test_every_sample(sample: Path) -> None:
    everything = list(trace_connections(open_bundle([sample]), Asked(processes=1), quiet, quiet).records())
    _as_they_are(everything, summed(sample, held=23, processes=1, partitions=3), 23)


def _as_they_are(everything: list[Record], found: Connections, most: int) -> None:
    """Counts are exact, every quantile is within the error, and the longest of all and of each kind are held."""
    sums = found.sums
    assert sums is not None
    exact: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for record in everything:
        for name, ns in measured(record):
            exact[sums.kinds.index(json.dumps(kind_of(record))), sums.measures.index(name)].append(ns)
    assert dict(zip(sums.kinds, sums.counts.tolist(), strict=True)) == Counter(json.dumps(kind_of(record)) for record in everything)
    assert sums.problems == Counter(reason_of(problem) for record in everything for problem in record["problems"])
    assert sums.samples["count"].sum() == sum(map(len, exact.values()))
    for (kind, measure), numbers in exact.items():
        mine = take(sums.samples, sums.samples["of"] == kind * len(sums.measures) + measure)
        nearly = np.repeat(middles(mine["bucket"]), mine["count"]).tolist()
        assert all(abs(one - other) <= other * ERROR for one, other in zip(nearly, sorted(numbers), strict=True))
    records, kinds = found.held()
    assert len(records) == min(most, len(everything))
    assert [record for record in everything if record["id"] in {each["id"] for each in records}] == records
    assert [sums.kinds[kind] for kind in kinds] == [json.dumps(kind_of(record)) for record in records]
    totals = sorted((record["latency"]["total_ns"] or 0 for record in everything), reverse=True)
    assert not Counter(totals[: most // 2]) - Counter(record["latency"]["total_ns"] or 0 for record in records)
    assert set(kinds) == set(range(len(sums.kinds))) or len(sums.kinds) > most // 2


ROW = st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 3), st.integers(0, 10**6))
ROWS = st.lists(ROW, max_size=200, unique_by=lambda row: row[1:])  # no two connections have a tuple and a moment in common
MOST = 30


def _sums(rows: list[tuple[int, int, int, int]]) -> Sums:
    """Sums of made connections: (kind, total_ns, first_ns, lowest) each; which kinds there are is what they have."""
    kinds = sorted({f"kind {kind}" for kind, *_ in rows})
    columns = np.array(rows, "i8").reshape(-1, 4).T
    kind = np.array([kinds.index(f"kind {each}") for each in columns[0].tolist()], "i8")
    zeros = np.zeros(len(rows), "i8")
    held = {"kind": kind, "total_ns": columns[1], "first_ns": columns[2], "lowest": columns[3].astype("u8"), "part": zeros, "row": zeros}
    counts = np.bincount(kind, minlength=len(kinds)).astype("i8")
    problems = Counter(f"problem {each}" for each in columns[2].tolist())
    return merge([Sums(kinds, counts, ["total"], histograms(kind, columns[1]), problems, HELD.check(held), MOST)])


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(1, 7), st.randoms(use_true_random=False))
def test_any_tree_gives_the_same(rows: list[tuple[int, int, int, int]], parts: int, order: Random) -> None:
    whole = _sums(rows)
    some = [_sums(rows[part::parts]) for part in range(parts)]
    halves = tree(range(len(some)), lambda number: some[number])
    while len(some) > 1:
        order.shuffle(some)
        some.append(merge([some.pop(), some.pop()]))
    for found in (halves, some[0]):
        assert (found.kinds, found.measures, list(found.problems.items())) == (whole.kinds, whole.measures, list(whole.problems.items()))
        for one, other in ((found.samples, whole.samples), (found.held, whole.held), (found.chosen(), whole.chosen())):
            assert all(one[name].tobytes() == other[name].tobytes() for name in one)
        assert found.counts.tobytes() == whole.counts.tobytes()


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_chosen_are_the_longest_and_some_of_each_kind(rows: list[tuple[int, int, int, int]]) -> None:
    chosen = _sums(rows).chosen()
    found = list(zip(*(chosen[name].tolist() for name in ("kind", "total_ns", "first_ns", "lowest")), strict=True))
    assert len(found) == min(MOST, len(rows))
    names = sorted({f"kind {kind}" for kind, *_ in rows})
    ordered = sorted(((names.index(f"kind {kind}"), *rest) for kind, *rest in rows), key=lambda row: (-row[1], row[2], row[3]))
    assert found[: MOST // 2] == ordered[: MOST // 2]
    for kind in range(len(names)):
        longest = [row for row in ordered if row[0] == kind][: min(OF_EACH_KIND, MOST // 2 // len(names))]
        assert not Counter(longest) - Counter(found)


def test_sums_are_read_back_as_they_were(tmp_path: Path) -> None:
    sums = _sums([(1, 7, 3, 2**63 - 1), (2, 0, 1, 5)])
    with (tmp_path / "sums.npz").open("wb") as file:
        sums.save(file)
    with (tmp_path / "sums.npz").open("rb") as file:
        again = Sums.load(file)
    assert (again.kinds, again.measures, again.problems, again.most) == (sums.kinds, sums.measures, sums.problems, sums.most)
    HISTOGRAMS.check(again.samples)
    HELD.check(again.held)
    assert all(again.held[name].tobytes() == sums.held[name].tobytes() for name in HELD.empty())
    assert again.counts.tobytes() == sums.counts.tobytes()
