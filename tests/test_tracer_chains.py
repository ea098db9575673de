"""Translations in their order: what one node's packets tell, half-translated copies, chains across nodes, visits."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from wire import packet, table

from probes.schema import Table
from tracer.arrangement import Arrangement, arrangement
from tracer.chains import Chain, Translation, chain, translations_seen, without_intermediates
from tracer.passages import SAMPLED_SIGHTINGS, Passage, passages
from tracer.places import Places, places
from tracer.sightings import identify
from tracer.visits import visits

# tuples by code: a client asks a VIP (0), DNAT makes 1 of it, SNAT as well 2; 3 and 4 are half-translated, 5 is of somebody else
CLIENT, VIP, POD, NODE = (0, 1, 40000), (0, 2, 80), (0, 3, 8080), (0, 4, 1024)
ENDS = {0: (CLIENT, VIP), 1: (CLIENT, POD), 2: (NODE, POD), 3: (NODE, VIP), 5: (NODE, NODE)}
A, B, C = 0, 1, 2


@pytest.mark.parametrize(
    ("order", "kept"),
    [([0, 1], [0, 1]), ([0, 2], [0, 2]), ([0, 1, 2], [0, 2]), ([0, 3, 2], [0, 2]), ([0, 5], [0, 5]), ([2], [2]), ([], [])],
)
def test_half_translated_copies_are_told_by_their_shape(order: list[int], kept: list[int]) -> None:
    assert without_intermediates(order, ENDS) == kept


def test_where_both_half_translated_copies_were_seen_shape_tells_nothing() -> None:
    assert without_intermediates([0, 1, 3, 2], ENDS) == []


Sighting = tuple[int, int, int, int, bool]  # node, code, packet, time, towards the server


def table_of_ends() -> Table:
    """The tuples of ENDS, a row per code; there is none with code 4."""
    ends = [ENDS.get(code, ((0, 0, 0), (0, 0, 0))) for code in range(6)]
    rows = [(*source, *destination) for source, destination in ends]
    names = ("src_hi", "src_lo", "sport", "dst_hi", "dst_lo", "dport")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def seen_by(*connections: list[Sighting]) -> tuple[Places, dict[int, list[Passage]]]:
    """The places and passages of connections' sightings."""
    rows = [sighting for connection in connections for sighting in sorted(connection, key=lambda seen: (seen[0], seen[3]))]
    node, code, identity, time_ns, forward = (np.array(column, "i8") for column in zip(*rows, strict=True))
    bounds = np.cumsum([0, *map(len, connections)])
    towards = forward > 0
    found = places(bounds, {"node": node, "time_ns": time_ns}, code, towards, table_of_ends())
    told = passages(found, towards, identity.astype("u8") << np.uint64(32), time_ns)
    each = {connection: told.of(connection, found) for connection in range(len(connections))}
    return found, {connection: its for connection, its in each.items() if its}


def test_a_tuple_that_only_replies_had_is_half_translated() -> None:
    rows = [(0, True), (2, True), (2, False), (1, False)]
    found, _ = seen_by([(A, code, 7, time, way) for time, (code, way) in enumerate(rows)])
    assert found.code[found.copy].tolist() == [1]
    found, _ = seen_by([(A, code, 7, time, way) for time, (code, way) in enumerate([*rows[:3], (0, False)])])
    assert not found.copy.any()


def test_places_are_a_connection_s_own() -> None:
    """A tuple that another connection's client had, or another node saw, changes nothing."""
    one, other = [(B, 0, 7, 1, True), (A, 0, 7, 2, True), (A, 2, 7, 3, True)], [(A, 1, 8, 4, False)]
    found, told = seen_by(one, other)
    assert list(zip(found.node.tolist(), found.code.tolist(), strict=True)) == [(A, 0), (A, 2), (B, 0), (A, 1)]
    assert found.bounds.tolist() == [0, 3, 4]
    assert found.of.tolist() == [0, 1, 2, 3]
    assert not found.copy.any()
    assert list(told) == [0]


def test_only_the_first_sightings_of_each_direction_vote() -> None:
    rows = [(A, code, packet + 1, 10 * packet + (code > 0), True) for packet in range(SAMPLED_SIGHTINGS // 2) for code in (0, 2)]
    late = [(A, code, 10_000 + packet, 100_000 + 10 * packet + (code == 0), True) for packet in range(SAMPLED_SIGHTINGS) for code in (0, 2)]
    _, told = seen_by([*rows, *late])
    assert told[0][0].order == [0, 2]
    _, told = seen_by(late)
    assert told[0][0].order == [2, 0]


# (code, packet, time, towards the server) of one node's sightings, and the order they tell
ORDERS: tuple[tuple[str, list[tuple[int, int, int, bool]], list[int]], ...] = (
    ("one request", [(0, 7, 10, True), (2, 7, 20, True)], [0, 2]),
    ("one reply: the other way round", [(2, 8, 10, False), (0, 8, 20, False)], [0, 2]),
    ("both", [(0, 7, 10, True), (2, 7, 20, True), (2, 8, 30, False), (0, 8, 40, False)], [0, 2]),
    ("three tuples", [(0, 7, 10, True), (1, 7, 15, True), (2, 7, 20, True)], [0, 1, 2]),
    ("equal stamps, then a later copy", [(0, 7, 10, True), (1, 7, 10, True), (1, 7, 12, True)], [0, 1]),
    (
        "most packets win",
        [(2, 7, 10, True), (0, 7, 11, True), *((code, n, 10 * n + code, True) for n in (8, 9, 10) for code in (0, 2))],
        [0, 2],
    ),
)


@pytest.mark.parametrize(("seen", "order"), [case[1:] for case in ORDERS], ids=[case[0] for case in ORDERS])
def test_packets_vote_on_the_order(seen: list[tuple[int, int, int, bool]], order: list[int]) -> None:
    _, told = seen_by([(A, *sighting) for sighting in seen])
    assert told[0][0].order == order


def test_nodes_that_saw_one_tuple_tell_nothing() -> None:
    assert seen_by([(A, 0, 7, 1, True), (A, 0, 8, 2, True), (B, 2, 7, 3, True)])[1] == {}


def test_what_has_no_identity_does_not_vote() -> None:
    (passage,) = seen_by([(A, 2, 0, 10, True), (A, 0, 0, 20, True)])[1][0]
    assert passage.gaps == {}
    assert translations_seen([passage], ENDS, 1) == []


def test_what_has_no_payload_is_another_packet_than_what_follows() -> None:
    """An acknowledgment, a FIN and a segment behind them have all numbers alike; merging changes a segment's length and FIN."""
    sent = [("A", 0), ("A", 0), ("FA", 0), ("A", 1448), ("FA", 4344)]
    rows = [packet(0, "10.244.0.3:40000", "10.244.0.4:8080", flags, length=length, seq=500, ack=700) for flags, length in sent]
    identity, *_ = identify(table(rows), np.arange(len(rows)))
    assert (identity[0], identity[3]) == (identity[1], identity[4])
    assert len(set(identity.tolist())) == 3


def test_the_fastest_of_two_nodes_did_the_translation() -> None:
    seen = [Passage(node, [0, 2], frozenset({0, 2}), {(0, 2): gap, (2, 0): gap}) for node, gap in ((A, 900), (B, 30))]
    assert translations_seen(seen, ENDS, 4) == [Translation(B, 0, 2, 4)]


def test_tuples_without_answers_are_passed_over_where_others_have_them() -> None:
    passage = Passage(A, [0, 5, 2], frozenset({0, 2}), dict.fromkeys(permutations((0, 2, 5), 2), 9))
    assert translations_seen([passage], ENDS, 1) == [Translation(A, 0, 2, 1)]


FIRST, SECOND, THIRD = Translation(A, 0, 1, 1), Translation(B, 1, 2, 2), Translation(C, 2, 5, 4)
CHAINS: tuple[tuple[str, list[int], list[Translation], tuple[int, int], int], ...] = (
    ("untranslated", [0, 0], [], (0, 0), 0),
    ("one", [0, 1], [FIRST], (0, 1), 1),
    ("two nodes", [0, 1, 2], [FIRST, SECOND], (0, 2), 2),
    ("three", [0, 1, 2, 5], [FIRST, SECOND, THIRD], (0, 5), 3),
    ("two tuples and no translation", [0, 2], [], (-1, -1), 0),
    ("two beginnings", [0, 1, 2], [FIRST, Translation(B, 3, 1, 1)], (-1, -1), 2),
    ("a gap", [0, 1, 2, 5], [FIRST, THIRD], (-1, -1), 2),
    ("a circle", [0, 1], [FIRST, Translation(B, 1, 0, 1)], (-1, -1), 2),
)


@pytest.mark.parametrize(("seen", "steps", "ends", "length"), [case[1:] for case in CHAINS], ids=[case[0] for case in CHAINS])
def test_chains(seen: list[int], steps: list[Translation], ends: tuple[int, int], length: int) -> None:
    for shuffled in permutations(steps):
        found = chain(seen, list(shuffled), {A: 0, B: 1, C: 2})
        assert (found.original, found.translated) == ends
        assert len(found.translations) == length
        assert bool(found.problems) == (ends == (-1, -1))
        if not found.problems:
            assert found.translations == steps
            assert found.evidence == sum(step.evidence for step in steps)


VISITS: tuple[tuple[str, Chain, list[tuple[int, int]], list[int], list[tuple[int, int]]], ...] = (
    ("one node", Chain(0, 1, [FIRST]), [(A, 0), (A, 1)], [A], [(A, 0), (A, 1)]),
    ("on to another node", Chain(0, 1, [FIRST]), [(B, 1), (A, 1), (A, 0)], [B, A], [(A, 1), (B, 1)]),
    ("two translating nodes", Chain(0, 2, [FIRST, SECOND]), [(A, 0), (A, 1), (B, 1), (B, 2)], [A, B], [(A, 0), (B, 1)]),
    (
        "through another node's NodePort and back",
        Chain(0, 2, [FIRST, SECOND]),
        [(A, 0), (B, 1), (B, 2), (A, 2)],
        [A, B],
        [(A, 0), (B, 1), (A, 2)],
    ),
    ("nothing translated: as ranked", Chain(0, 0), [(A, 0), (B, 0)], [B, A], [(B, 0), (A, 0)]),
)


@pytest.mark.parametrize(("found", "places", "ranked", "order"), [case[1:] for case in VISITS], ids=[case[0] for case in VISITS])
def test_visits(found: Chain, places: list[tuple[int, int]], ranked: list[int], order: list[tuple[int, int]]) -> None:
    numbers = visits(found, places, ranked)
    assert [numbers[place] for place in order] == sorted(numbers[place] for place in order)
    one_visit = {place for place in order if place[0] != order[0][0]}
    assert all(numbers[place] > numbers[order[0]] for place in one_visit)


def test_a_half_translated_copy_belongs_to_the_visit_that_made_it() -> None:
    numbers = visits(Chain(0, 2, [Translation(A, 0, 2, 1)]), [(A, 0), (A, 3), (A, 2), (B, 2)], [A, B])
    assert numbers == {(A, 0): 0, (A, 3): 0, (A, 2): 0, (B, 2): 1}


UNSEEN = "several tuples were joined and no node saw one become the other"


@pytest.mark.parametrize(
    ("seen", "steps", "expected"),
    [
        (((0, 0, True),), (), Arrangement(0, 0, (), (), (0,), 0, 0)),
        (((1, 0, True), (0, 0, True)), (), Arrangement(0, 0, (), (), (1, 0), 0, 0)),
        (((0, 0, True), (1, 1, True)), (), Arrangement(-1, -1, (), (UNSEEN,), (0, 1), 0, 0)),
        # its tuple before NAT is on no wire: 1
        (((0, 0, True),), ((0, 1, 0),), Arrangement(1, 0, (0,), (), (0,), 0, 0)),
        # two nodes translate, the second a copy as well (3), and their translations came in any order
        (
            ((0, 0, True), (0, 1, True), (1, 1, True), (1, 2, True), (1, 3, False)),
            ((1, 1, 2), (0, 0, 1)),
            Arrangement(0, 2, (1, 0), (), (0, 0, 1, 1, 1), 0, 0),
        ),
    ],
)
def test_arrangements(seen: tuple[tuple[int, int, bool], ...], steps: tuple[tuple[int, int, int], ...], expected: Arrangement) -> None:
    assert arrangement(seen, steps) == expected
