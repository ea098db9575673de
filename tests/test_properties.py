"""What must not change the answer: the order of files, how captures are cut into files, copies, clocks, directions."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.records import Recorder
from probes.decode.numbers import IN, OUT
from probes.schema import Array
from tracer.bundle import Bundle, kind_of, read_bundle
from tracer.trace import trace

Record = dict[str, Any]
NAMES = ("iptables", "nftables", "ipvs", "failures", "dual-stack")
SECOND_NS = 1_000_000_000
PCAP_HEADER, PCAP_RECORD = 24, 16

slow = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@cache
def bundle_of(name: str) -> Bundle:
    return read_bundle([SAMPLES / name])


def records_of(bundle: Bundle) -> list[Record]:
    return list(Recorder(trace(bundle)))


@cache
def expected(name: str, *, ledger: bool = True) -> list[Record]:
    bundle = bundle_of(name)
    return records_of(bundle if ledger else replace(bundle, ledgers={}))


def inputs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if kind_of(path))


def ends(tuple_: Record | None) -> tuple[str, str] | None:
    return None if tuple_ is None else (tuple_["src"], tuple_["dst"])


def way(record: Record) -> tuple[object, ...]:
    """Which way it went."""
    service = record["service"] or {}
    names = service.get("namespace"), service.get("name"), service.get("port"), service.get("via")
    return ends(record["original"]), ends(record["translated"]), record["status"], *names


def facts(record: Record) -> tuple[object, ...]:
    """What a connection was, without when and where exactly it was seen."""
    return *way(record), *((end["kind"], end["namespace"], end["name"]) if (end := record[side]) else None for side in ("client", "server"))


def with_column(bundle: Bundle, name: str, values: Array) -> Bundle:
    return replace(bundle, observations=bundle.observations | {name: values.astype(bundle.observations[name].dtype)})


@slow
@given(name=st.sampled_from(NAMES), order=st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(name: str, order: Any) -> None:
    paths = inputs(SAMPLES / name)
    order.shuffle(paths)
    assert records_of(read_bundle(paths)) == expected(name)


def pieces(content: bytes, count: int) -> list[bytes]:
    """A pcap file cut into `count` files, as `tcpdump -C` would."""
    header, at, starts = content[:PCAP_HEADER], PCAP_HEADER, [PCAP_HEADER]
    while at < len(content):
        at += PCAP_RECORD + int.from_bytes(content[at + 8 : at + 12], "little")
        starts.append(at)
    cuts = [starts[len(starts) * number // count] for number in range(count)] + [len(content)]
    return [header + content[start:end] for start, end in pairwise(cuts)]


@slow
@given(count=st.integers(2, 7))
def test_captures_may_be_cut_into_several_files(count: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rotated")
    for path in inputs(SAMPLES / "iptables"):
        if path.suffix == ".pcap":
            for number, piece in enumerate(pieces(path.read_bytes(), count)):
                (folder / f"{path.stem}.{number}.pcap").write_bytes(piece)
        else:
            shutil.copy(path, folder)
    assert [facts(record) for record in records_of(read_bundle([folder]))] == [facts(record) for record in expected("iptables")]


@pytest.mark.parametrize("copied", ["node-a", "node-b", "node-c"])
def test_a_copy_of_a_capture_changes_nothing(copied: str, tmp_path: Path) -> None:
    for path in inputs(SAMPLES / "iptables"):
        shutil.copy(path, tmp_path)
    for number in range(2):
        shutil.copy(tmp_path / f"{copied}.pcap", tmp_path / f"{copied}-copy{number}.pcap")
    bundle = read_bundle([tmp_path])
    assert records_of(bundle) == expected("iptables")
    assert [problem.severity for problem in bundle.problems] == ["note", "note"]


def swapped(direction: Array) -> Array:
    return np.where(direction == IN, OUT, np.where(direction == OUT, IN, direction))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [swapped, np.zeros_like], ids=["swapped", "unknown"])
def test_a_ledger_needs_no_directions(name: str, change: Callable[[Array], Array]) -> None:
    bundle = bundle_of(name)
    changed = records_of(with_column(bundle, "direction", change(bundle.observations["direction"])))
    assert [way(record) for record in changed] == [way(record) for record in expected(name)]


def shifted(bundle: Bundle, offsets: dict[str, int]) -> Bundle:
    """The bundle as nodes whose clocks are off by so many ns would have recorded it."""
    by_point = np.array([offsets[point.node] for point in bundle.points], "i8")
    return with_column(bundle, "time_ns", bundle.observations["time_ns"] + by_point[bundle.observations["point"]])


@slow
@given(name=st.sampled_from(NAMES), offsets=st.lists(st.integers(0, 20 * SECOND_NS), min_size=3, max_size=3))
def test_clocks_of_nodes_are_never_compared(name: str, offsets: list[int]) -> None:
    alone = replace(bundle_of(name), ledgers={})
    by_node = dict(zip(("node-a", "node-b", "node-c"), offsets, strict=True))
    # only ahead: names are asked for as of the moment that a packet says, and before the samples there were neither pods nor Services
    assert Counter(map(facts, records_of(shifted(alone, by_node)))) == Counter(map(facts, expected(name, ledger=False)))


@slow
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_packets_in_a_file_does_not_matter(name: str, seed: int) -> None:
    """Several CPUs write into one file: packets may stand in it slightly out of their order. Here, in any."""
    bundle = bundle_of(name)
    order = np.random.default_rng(seed).permutation(len(bundle.observations["time_ns"]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    shuffled = {column: values[order] for column, values in bundle.observations.items()}
    shuffled["outer"] = np.where(shuffled["outer"] < 0, -1, place[shuffled["outer"]])
    assert Counter(map(facts, records_of(replace(bundle, observations=shuffled)))) == Counter(map(facts, expected(name)))


@pytest.mark.parametrize("name", NAMES)
def test_tracing_twice_gives_the_same(name: str) -> None:
    """Nothing is changed in the evidence on the way."""
    bundle = read_bundle([SAMPLES / name])
    before = {column: values.copy() for column, values in bundle.observations.items()}
    assert records_of(bundle) == records_of(bundle)
    assert all(np.array_equal(values, before[column]) for column, values in bundle.observations.items())
