"""What must not change the requests: the order of files, how captures are cut into files, copies, clocks of nodes, the order of packets."""

from __future__ import annotations

import gzip
import shutil
from collections import Counter
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

from analysis.requests import RequestRecorder
from tracer.bundle import Bundle, kind_of, read_bundle
from tracer.requests import trace_requests
from tracer.trace import trace

Record = dict[str, Any]
SAMPLE = SAMPLES / "iptables"
SECOND_NS = 1_000_000_000
PCAP_HEADER, PCAP_RECORD = 24, 16
DRIFT_NS = 1000  # what a drift that is told anew makes of a difference within a node

slow = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def records_of(bundle: Bundle) -> list[Record]:
    return list(RequestRecorder(trace_requests(trace(bundle))))


@cache
def expected(*, ledger: bool = True) -> list[Record]:
    bundle = read_bundle([SAMPLE])
    return records_of(bundle if ledger else replace(bundle, ledgers={}))


def inputs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if kind_of(path))


def anywhere(records: list[Record]) -> list[Record]:
    """The records without where exactly in which file a packet was."""
    return [
        record | {"hops": [{name: value for name, value in hop.items() if name not in ("file", "frame")} for hop in record["hops"]]}
        for record in records
    ]


def said(record: Record) -> tuple[object, ...]:
    """What a request was, without when and where it was seen."""
    ends = ((end["kind"], end["namespace"], end["name"]) if (end := record[side]) else None for side in ("client", "server"))
    claims = ((each and each.get("address")) for each in (record["true_client"],))
    rule = record["ingress"] and (record["ingress"]["name"], record["ingress"]["agrees"])
    sizes = tuple(record["bytes"].values())
    return (record["protocol"], record["operation"], record["status"], record["host"], rule, sizes, record["unread"], *ends, *claims)


def trees(records: list[Record]) -> Counter[tuple[object, ...]]:
    """What each request was, and what its parent was."""
    by_id = {record["id"]: record for record in records}
    return Counter((said(record), record["parent"] and said(by_id[record["parent"]])) for record in records)


@slow
@given(order=st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(order: Any) -> None:
    paths = inputs(SAMPLE)
    order.shuffle(paths)
    assert records_of(read_bundle(paths)) == expected()


def cut(content: bytes, count: int) -> list[bytes]:
    """A little-endian pcap file cut into `count` files, as `tcpdump -C` would."""
    header, at, starts = content[:PCAP_HEADER], PCAP_HEADER, [PCAP_HEADER]
    while at < len(content):
        at += PCAP_RECORD + int.from_bytes(content[at + 8 : at + 12], "little")
        starts.append(at)
    cuts = [starts[len(starts) * number // count] for number in range(count)] + [len(content)]
    return [header + content[start:end] for start, end in pairwise(cuts)]


@pytest.mark.parametrize("count", [2, 7])
def test_captures_may_be_cut_into_several_files(count: int, tmp_path: Path) -> None:
    """Bytes are then read from several files; requests may begin in one and end in another."""
    for path in inputs(SAMPLE):
        if path.suffix == ".pcap":
            for number, part in enumerate(cut(path.read_bytes(), count)):
                (tmp_path / f"{path.stem}.{number}.pcap").write_bytes(part)
        else:
            shutil.copy(path, tmp_path)
    assert anywhere(records_of(read_bundle([tmp_path]))) == anywhere(expected())


def test_copies_of_captures_change_nothing(tmp_path: Path) -> None:
    for path in inputs(SAMPLE):
        shutil.copy(path, tmp_path)
        if path.suffix == ".pcap":
            shutil.copy(path, tmp_path / f"{path.stem}-copy.pcap")
    assert records_of(read_bundle([tmp_path])) == expected()


def test_packed_captures_say_the_same(tmp_path: Path) -> None:
    for path in inputs(SAMPLE):
        if path.suffix == ".pcap":
            (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        else:
            shutil.copy(path, tmp_path)
    assert anywhere(records_of(read_bundle([tmp_path]))) == anywhere(expected())


def shifted(bundle: Bundle, offsets: dict[str, int]) -> Bundle:
    """The bundle as nodes whose clocks are off by so many ns would have recorded it."""
    by_point = np.array([offsets[point.node] for point in bundle.points], "i8")
    moved = bundle.observations["time_ns"] + by_point[bundle.observations["point"]]
    return replace(bundle, observations=bundle.observations | {"time_ns": moved}, ledgers={})


@slow
@given(offsets=st.lists(st.integers(0, 20 * SECOND_NS), min_size=3, max_size=3))
def test_clocks_of_nodes_do_not_matter(offsets: list[int]) -> None:
    """The same requests under the same parents, and how long each took."""
    found = records_of(shifted(read_bundle([SAMPLE]), dict(zip(("node-a", "node-b", "node-c"), offsets, strict=True))))
    assert trees(found) == trees(expected(ledger=False))

    def lengths(records: list[Record]) -> dict[tuple[object, ...], list[int]]:
        made: dict[tuple[object, ...], list[int]] = {}
        for record in records:
            made.setdefault(said(record), []).append(record["latency"]["total_ns"])
        return {key: sorted(values) for key, values in made.items()}

    mine, theirs = lengths(found), lengths(expected(ledger=False))
    assert all(abs(one - other) <= DRIFT_NS for key, values in mine.items() for one, other in zip(values, theirs[key], strict=True))


@slow
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_packets_in_a_file_does_not_matter(seed: int) -> None:
    """Several CPUs write into one file. Bytes are read by frame number, which rows keep."""
    bundle = read_bundle([SAMPLE])
    order = np.random.default_rng(seed).permutation(len(bundle.observations["time_ns"]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    shuffled = {column: values[order] for column, values in bundle.observations.items()}
    shuffled["outer"] = np.where(shuffled["outer"] < 0, -1, place[shuffled["outer"]])
    assert trees(records_of(replace(bundle, observations=shuffled))) == trees(expected())


def test_what_is_not_wanted_is_not_read() -> None:
    """Connections that are left out are records of themselves; others are read as before."""
    traced = trace(read_bundle([SAMPLE]))
    count = len(traced.named)
    wanted = np.arange(count) % 2 == 0
    some = list(RequestRecorder(trace_requests(traced, wanted=wanted)))
    whole = [record for record in some if int(record["connection"][1:]) % 2 == 0]
    assert {record["operation"] for record in whole} == {None}

    def message(record: Record) -> tuple[object, ...]:  # whether its rule agrees is told by what the proxy asked, which may not be read
        return record["connection"], record["protocol"], record["operation"], record["status"], record["start_ns"], record["end_ns"]

    read = Counter(message(record) for record in some if int(record["connection"][1:]) % 2 == 1)
    assert not read - Counter(map(message, expected()))
    assert sum(read.values()) > 10


def links(records: list[Record]) -> set[tuple[object, ...]]:
    """Who belongs to whom, by when and under which operation they began."""
    by_id = {record["id"]: record for record in records}
    return {
        (record["start_ns"], record["operation"], parent["start_ns"], parent["operation"])
        for record in records
        if record["parent"] is not None and (parent := by_id[record["parent"]])
    }


def test_without_metadata_a_pod_is_its_address() -> None:
    """Parents are told by who called whom; that needs no names. What is missing is less, not otherwise."""
    found = links(records_of(read_bundle([SAMPLE], use_cluster=False)))
    known = links(expected())
    assert len(known) > 20
    assert len(found & known) >= 0.8 * len(known)
    assert {each[:2] for each in found - known} & {each[:2] for each in known} == set(), "nobody has another parent"


def test_without_a_ledger_parents_are_the_same() -> None:
    found, known = links(expected(ledger=False)), links(expected())
    assert len(found & known) >= 0.8 * len(known)
    assert {each[:2] for each in found - known} & {each[:2] for each in known} == set(), "nobody has another parent"
