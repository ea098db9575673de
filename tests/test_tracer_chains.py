"""Translations in their order: what one node's packets tell, half-translated copies, chains across nodes, visits."""

from __future__ import annotations

from itertools import permutations

import pytest

from tracer.chains import Chain, Translation, chain, half_translated_replies, translations_seen, without_intermediates
from tracer.passages import Passage, passages
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


def test_a_tuple_that_only_replies_had_is_half_translated() -> None:
    assert half_translated_replies([0, 2, 2, 1], [True, True, False, False], ENDS) == {1}
    assert half_translated_replies([0, 2, 2, 0], [True, True, False, False], ENDS) == set()


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
    seen = sorted(seen, key=lambda sighting: sighting[2])
    codes, packets, times, ahead = (list(column) for column in zip(*seen, strict=True))
    (passage,) = passages([A] * len(seen), codes, packets, times, ahead)
    assert passage.order == order


def test_nodes_that_saw_one_tuple_tell_nothing() -> None:
    assert list(passages([A, A, B], [0, 0, 2], [7, 8, 7], [1, 2, 3], [True] * 3)) == []


def test_what_has_no_identity_does_not_vote() -> None:
    (passage,) = passages([A, A], [2, 0], [0, 0], [10, 20], [True, True])
    assert passage.gaps == {}
    assert translations_seen([passage], ENDS, 1) == []


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
