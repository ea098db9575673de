"""Parts of a bundle: every connection is whole in one of them, whatever else is in which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.engine.connections import Connections
from analysis.engine.stitch import Stitched, stitch
from analysis.engine.work import node_names
from analysis.filters import Filters
from analysis.records import Record, Recorder
from analysis.synth import MODES, Amount, Options, synthesise
from probes.schema import OBSERVATIONS, Array, size, take
from tracer.bundle import Bundle, read_bundle
from tracer.numbering import HashNumbers
from tracer.partitions import Cut, Links, deal, lines_dealt, link_evidence, split_ledgers, split_sockets
from tracer.surroundings import glimpse, surroundings, together
from tracer.trace import trace, trace_part

NAMES = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())


@cache
def bundle_of(name: str) -> Bundle:
    return read_bundle([SAMPLES / name])


def whole(bundle: Bundle) -> list[Record]:
    return list(Recorder(trace(bundle)))


def in_parts(bundle: Bundle, count: int, pieces: int, folder: Path) -> list[Record]:
    """The records of a bundle that was looked at in so many `pieces`, and traced in `count` parts."""
    rows = size(bundle.observations)
    bounds = np.linspace(0, rows, pieces + 1).astype("i8").tolist()
    several = [take(bundle.observations, np.arange(first, end)) for first, end in pairwise(bounds)]
    links = [Links() for _ in several]
    names = node_names([point.node for point in bundle.points])
    numbers = [each.add(piece, names) for each, piece in zip(links, several, strict=True)]
    rest = Links()
    link_evidence(rest, bundle.ledgers, bundle.sockets)
    dealt = deal([rest, *links], count)
    part = np.concatenate([np.append(dealt.of(each.numbers.hashes), np.int32(-1))[of] for each, of in zip(links, numbers, strict=True)])
    seen = together([glimpse(piece, len(bundle.points)) for piece in several], [0] * pieces)
    around = surroundings(seen, bundle.points, bundle.links, bundle.timeline)
    cut = Cut(count)
    cut.take(bundle.observations, part)
    found, texts = [], []
    for number in range(count):
        mine = replace(
            bundle, observations=cut.table(number), ledgers=split_ledgers(bundle.ledgers, lines_dealt(bundle.ledgers, dealt), number),
            sockets=split_sockets(bundle.sockets, dealt, number),
        )  # fmt: skip
        with (folder / str(number)).open("wb+") as out:
            found.append(stitch(trace_part(mine, around), Filters(), None, out))
            out.seek(0)
            texts.append(memoryview(out.read()))
    return list(Connections(bundle, found, texts).records())


@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(NAMES), count=st.integers(1, 9), pieces=st.integers(1, 4))
def test_parts_are_the_whole(tmp_path_factory: pytest.TempPathFactory, name: str, count: int, pieces: int) -> None:
    bundle = bundle_of(name)
    assert in_parts(bundle, count, pieces, tmp_path_factory.mktemp("parts")) == whole(bundle)


@pytest.mark.parametrize("mode", MODES)
def test_reused_ports_and_losses_stay_where_they_belong(tmp_path: Path, mode: str) -> None:
    synthesise(Options(mode=mode, reuse=0.3, loss=0.02, nodes=3, skew_ms=20.0), Amount(requests=101), tmp_path / "made")
    bundle = read_bundle([tmp_path / "made"])
    assert in_parts(bundle, 5, 3, tmp_path) == whole(bundle)


def test_a_recorded_bundle_in_parts(capture: Path, tmp_path: Path) -> None:
    bundle = read_bundle([capture])
    if size(bundle.observations) > 100_000:
        bundle = replace(bundle, observations=take(bundle.observations, np.arange(100_000)))
    assert in_parts(bundle, 7, 2, tmp_path) == whole(bundle)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_packet_was_in_goes_with_it(name: str) -> None:
    """Outer packets of tunnels and ICMP errors around embedded headers, also where a piece of a file is cut."""
    observations = bundle_of(name).observations
    first = int(np.flatnonzero(observations["outer"] < 0)[size(observations) // 3])
    piece = take(observations, np.arange(first, size(observations)))
    numbers = Links().add(piece, np.zeros(len(bundle_of(name).points), "u8"))
    cut = Cut(3)
    cut.take(piece, np.where(numbers < 0, -1, numbers % 3).astype("i4"), first)
    tables = [cut.table(number) for number in range(3)]
    for table in tables:
        inside = np.flatnonzero(table["outer"] >= 0)
        around = take(table, table["outer"][inside])
        assert (around["frame"] == table["frame"][inside]).all()
        assert (around["point"] == table["point"][inside]).all()
    assert sum(int(np.count_nonzero(table["outer"] >= 0)) for table in tables) >= np.count_nonzero((piece["outer"] >= 0) & (numbers >= 0))


FRAMES = st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=4), max_size=40)  # the partition of what is outside, of what is in it…


@given(st.lists(FRAMES, max_size=4), st.integers(0, 9), st.integers(0, 2**32))
def test_every_table_is_cut_as_by_itself(tables: list[list[list[int]]], first: int, seed: int) -> None:
    cut, random = Cut(3), np.random.default_rng(seed)
    for frames in tables:
        part = np.array([each for frame in frames for each in frame], "i4")
        whole = {column.name: random.integers(0, 100, len(part)).astype(column.dtype) for column in OBSERVATIONS.columns}
        whole["icmp_type"][:] = 0
        outside = [-1 if level == 0 else level - 1 + begin for begin, frame in _begins(frames) for level in range(len(frame))]
        whole["outer"] = np.array([-1 if each < 0 else each + first for each in outside], "i8")
        cut.take(whole, part, first)
        for number in range(3):
            wanted = set()
            for row in np.flatnonzero(part == number).tolist():
                while row >= 0:
                    wanted.add(row)
                    row = outside[row]  # noqa: PLW2901 - up and up
            rows = sorted(wanted)
            around = [rows.index(outside[row]) if outside[row] >= 0 else -1 for row in rows]
            mine = take(whole, np.array(rows, "i8")) | {"outer": np.array(around, "i8")}
            assert cut.rows(number).tolist() == rows
            assert {name: column.tolist() for name, column in OBSERVATIONS.check(cut.table(number)).items()} == {
                name: column.tolist() for name, column in mine.items()
            }
        first += len(part)


def _begins(frames: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
    begin = 0
    for frame in frames:
        yield begin, frame
        begin += len(frame)


@given(st.lists(st.integers(0, 300), max_size=500), st.integers(1, 7))
def test_flows_are_numbered_in_the_order_they_come(values: list[int], step: int) -> None:
    flows = np.array(values, "u8") << np.uint64(20)
    numbers = HashNumbers()
    found: list[Array] = [numbers.of(flows[at : at + step]) for at in range(0, len(flows), step)]
    first = list(dict.fromkeys(flows.tolist()))
    assert numbers.hashes.tolist() == first
    assert [number for part in found for number in part.tolist()] == [first.index(flow) for flow in flows.tolist()]


def _links(pairs: list[tuple[int, int]]) -> Iterator[Links]:
    for key, flow in pairs:
        links = Links()
        links.tie(np.array([key + 1], "u8") << np.uint64(40), links.numbers.of(np.array([flow], "u8")))
        yield links


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40)), max_size=60), st.integers(1, 5), st.randoms(use_true_random=False))
def test_linked_flows_are_dealt_out_together(pairs: list[tuple[int, int]], count: int, order: object) -> None:
    dealt = deal(list(_links(pairs)), count)
    together_with: dict[int, set[int]] = {}
    for key, flow in pairs:
        mine = {flow}.union(*(flows for flows in together_with.values() if flow in flows), together_with.get(-1 - key, set()))
        for each in mine:
            together_with[each] = mine
        together_with[-1 - key] = mine
    parts = dict(zip(dealt.flows.tolist(), dealt.parts.tolist(), strict=True))
    assert set(parts) == {flow for _, flow in pairs}
    assert all(0 <= part < count for part in parts.values())
    for _, flow in pairs:
        assert {parts[other] for other in together_with[flow]} == {parts[flow]}
    order.shuffle(pairs)  # type: ignore[attr-defined]
    again = deal(list(_links(pairs)), count)
    assert dict(zip(again.flows.tolist(), again.parts.tolist(), strict=True)) == parts


def test_what_is_told_of_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    with (tmp_path / "text").open("wb") as out:
        stitched = stitch(trace(bundle_of("iptables")), Filters(), 3, out)
    stitched.affine = [(2, (("shop", "web", 80, "tcp", (1, 2**63)), (0, 7)))]
    with (tmp_path / "told").open("wb") as out:
        stitched.save(out)
    with (tmp_path / "told").open("rb") as file:
        again = Stitched.load(file)
    assert json.dumps(again.tally.told(), sort_keys=True) == json.dumps(stitched.tally.told(), sort_keys=True)
    assert again.affine == stitched.affine
    for name in ("first_ns", "lowest", "kept", "text"):
        assert getattr(again, name).tolist() == getattr(stitched, name).tolist()
    assert len(stitched.text) == 4
