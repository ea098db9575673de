"""Probabilities of pairs against all matchings counted one by one; candidates and order against a search through all."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from enumerated import Graph, any_graph, forest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes import processors as processors_
from tracer.requests.parents import candidates as candidates_
from tracer.requests.parents import exact, matching, order, rivals, sampling, ways
from tracer.requests.parents.candidates import candidates
from tracer.requests.parents.matching import marginals
from tracer.requests.parents.sampling import shares

chances = st.randoms(use_true_random=False)
sizes = st.integers(1, 6)


@settings(max_examples=150, deadline=None)
@given(chance=chances, calls=sizes, slots=sizes)
def test_message_passing_is_exact_where_there_are_no_cycles(chance: random.Random, calls: int, slots: int) -> None:
    graph = forest(chance, calls, slots)
    assert marginals(*graph.columns(idle_as_weight=True), graph.rivals()) == pytest.approx(graph.exact(), abs=2e-4)


@settings(max_examples=100, deadline=None)
@given(chance=chances, calls=sizes, slots=sizes)
def test_message_passing_is_near_with_cycles(chance: random.Random, calls: int, slots: int) -> None:
    graph = any_graph(chance, calls, slots, width=1.0)
    found = marginals(*graph.columns(idle_as_weight=True), graph.rivals())
    assert found == pytest.approx(graph.exact(), abs=0.25)
    assert (found >= 0).all()
    assert (np.bincount(np.array([call for call, _ in graph.pairs], "i8"), weights=found, minlength=calls) <= 1 + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(chance=chances, calls=sizes, slots=sizes)
def test_sampling_counts_what_is_there(chance: random.Random, calls: int, slots: int) -> None:
    graph = any_graph(chance, calls, slots)
    likely = np.array([chance.random() for _ in graph.pairs])
    columns = graph.columns(idle_as_weight=False)
    found = shares(*columns, likely, sampling.MOST_SWEEPS)
    # 20,000 sweeps, of which neighbours resemble one another: some thousands of independent ones
    assert found == pytest.approx(graph.exact(), abs=0.04)
    assert (found == shares(*columns, likely, sampling.MOST_SWEEPS)).all(), "the same dice for the same evidence"
    assert [list(column) for column in columns] == [list(column) for column in graph.columns(idle_as_weight=False)], "nothing is changed"


@settings(max_examples=150, deadline=None)
@given(chance=chances, calls=sizes, slots=sizes)
def test_small_groups_are_counted_through(chance: random.Random, calls: int, slots: int) -> None:
    graph = any_graph(chance, calls, slots)
    found = ways.shares(*graph.columns(idle_as_weight=False), np.zeros(len(graph.pairs)), graph.rivals())
    assert found == pytest.approx(graph.exact(), abs=1e-9)


def beside(one: Graph, other: Graph) -> Graph:
    """Both as one graph that falls apart."""
    calls, slots = len(one.alone), len(one.idle)
    moved = [(call + calls, slot + slots) for call, slot in other.pairs]
    return Graph(
        one.pairs + moved, one.score + other.score, one.alone + other.alone, one.idle + other.idle, one.exclusive + other.exclusive
    )


@pytest.mark.parametrize("seed", range(7))
def test_small_groups_are_counted_beside_one_that_is_too_large(seed: int) -> None:
    """The large one is a ring, in which all calls are alike."""
    chance = random.Random(seed)
    size = exact.MOST_CALLS + 7
    ring = Graph(
        [(c, s) for c in range(size) for s in sorted((c, (c + 1) % size))], [0.0] * 2 * size, [0.0] * size, [0.0] * size, [True] * size
    )
    small = any_graph(chance, 4, 5)
    graph = beside(ring, small) if seed % 2 else beside(small, ring)
    found = ways.shares(*graph.columns(idle_as_weight=False), np.full(len(graph.pairs), 0.5), graph.rivals())
    parts = np.split(found, [len(ring.pairs)]) if seed % 2 else np.split(found, [len(small.pairs)])[::-1]
    assert parts[1] == pytest.approx(small.exact(), abs=1e-9)
    # all matchings of a ring of n edges are counted by Lucas' number n, those with a given edge by Fibonacci's n - 1: their golden ratio
    assert parts[0] == pytest.approx(np.full(2 * size, 1 / (5**0.5 * (1 + 5**0.5) / 2)), abs=0.02)


@given(chance=chances, calls=sizes, slots=sizes)
@settings(deadline=None)
def test_groups_are_calls_that_exclude_one_another(chance: random.Random, calls: int, slots: int) -> None:
    graph = any_graph(chance, calls, slots, density=0.3)
    call, slot, *_, exclusive = graph.columns(idle_as_weight=False)
    expected = list(range(calls))
    for _ in range(calls):
        for (one, at), (other, there) in product(graph.pairs, repeat=2):
            if at == there and exclusive[one] and exclusive[other]:
                expected[one] = expected[other] = min(expected[one], expected[other])
    assert rivals.labels(call, slot, exclusive).tolist() == expected


@given(chance=chances, calls=sizes, slots=sizes)
@settings(deadline=None)
def test_what_does_not_compete_tells_nothing(chance: random.Random, calls: int, slots: int) -> None:
    one, other = any_graph(chance, calls, slots), any_graph(chance, slots, calls)
    alone = [marginals(*each.columns(idle_as_weight=True), each.rivals()) for each in (one, other)]
    both = beside(one, other)
    assert (marginals(*both.columns(idle_as_weight=True), both.rivals()) == np.concatenate(alone)).all()


@given(chance=chances, calls=sizes, slots=sizes)
@settings(deadline=None)
def test_every_group_has_its_pairs_and_the_largest_comes_first(chance: random.Random, calls: int, slots: int) -> None:
    graph = any_graph(chance, calls, slots, density=0.3)
    call, found = graph.columns(idle_as_weight=False)[0], graph.rivals()
    expected = [np.flatnonzero(found.label[call] == label).tolist() for label in np.unique(found.label[call])]
    assert sorted(pairs.tolist() for pairs in found.groups()) == sorted(expected)
    assert (np.diff([len(pairs) for pairs in found.groups()]) <= 0).all()
    assert np.concatenate([np.zeros(0), *(turn[:-1] for turn in found.turns())]).tolist() == found.bounds[:-1].tolist()


@pytest.mark.parametrize("processors", [2, 5])
def test_any_number_of_threads_finds_the_same(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = any_graph(random.Random(processors), 0, 0)
    for size in range(exact.MOST_CALLS + 1, exact.MOST_CALLS + 8):
        graph = beside(graph, any_graph(random.Random(size), size, size, density=0.2))
    likely = np.full(len(graph.pairs), 0.5)
    monkeypatch.setattr(rivals, "LEAST_AT_ONCE", 10)
    found = []
    for number in (1, processors):
        monkeypatch.setattr(processors_, "PROCESSORS", number)
        found.append(marginals(*graph.columns(idle_as_weight=True), graph.rivals()))
        found.append(ways.shares(*graph.columns(idle_as_weight=False), likely, graph.rivals()))
    assert (found[0] == found[2]).all()
    assert (found[1] == found[3]).all()


def test_calls_that_exclude_nobody_do_not_touch_what_a_request_hears() -> None:
    """It may be hearing it from another group, whose messages another thread passes on meanwhile."""
    heard, one = np.full(2, 7.0), np.ones(2)
    columns = np.array([0, 0]), np.array([0, 1]), one, np.ones(1), one, np.array([False])
    matching._messages(np.array([0, 2]), *columns, one.copy(), one.copy(), heard)
    assert heard.tolist() == [7.0, 7.0]


SURE = 30.0
RING = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2)]
GRAPHS = {
    "no pairs": (Graph([], [], [0.0], [0.0], [True]), []),
    "one pair against none": (Graph([(0, 0)], [np.log(3)], [0.0], [0.0], [True]), [0.75]),
    "an idle slot counts": (Graph([(0, 0)], [0.0], [0.0], [np.log(1 / 3)], [True]), [0.75]),
    "but not to calls that share it": (Graph([(0, 0)], [0.0], [0.0], [np.log(1 / 3)], [False]), [0.5]),
    "two calls that could as well be exchanged": (
        Graph([(0, 0), (0, 1), (1, 0), (1, 1)], [0.0] * 4, [-SURE] * 2, [-SURE] * 2, [True] * 2), [0.5] * 4,
    ),
    "two calls, and evidence for one pair decides all": (
        Graph([(0, 0), (0, 1), (1, 0), (1, 1)], [np.log(9), 0, 0, 0], [-SURE] * 2, [-SURE] * 2, [True] * 2), [0.9, 0.1, 0.1, 0.9],
    ),
    "a ring of three that turns either way, with nobody to spare": (
        Graph(RING, [0.0] * 6, [-SURE] * 3, [-SURE] * 3, [True] * 3),
        [0.5] * 6,
    ),
    "a ring of four, one way likelier": (
        Graph([(c, (c + s) % 4) for c in range(4) for s in range(2)], [np.log(2)] + [0.0] * 7, [-SURE] * 4, [-SURE] * 4, [True] * 4),
        [2 / 3, 1 / 3] * 4,
    ),
    "what only one can have, the other goes without": (
        Graph([(0, 0), (1, 0)], [0.0, np.log(3)], [0.0] * 2, [-SURE], [True] * 2), [0.25, 0.75],
    ),
    "unless they may share": (Graph([(0, 0), (1, 0)], [0.0, np.log(3)], [0.0] * 2, [-SURE], [False] * 2), [0.5, 0.75]),
    "a call without candidates beside one that has some": (Graph([(1, 0)], [np.log(3)], [0.0] * 2, [0.0], [True] * 2), [0.75]),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_what_can_be_told_by_hand(name: str) -> None:
    graph, expected = GRAPHS[name]
    assert graph.exact() == pytest.approx(expected, abs=1e-6)
    likely = np.full(len(graph.pairs), 0.5)
    assert shares(*graph.columns(idle_as_weight=False), likely, sampling.MOST_SWEEPS) == pytest.approx(expected, abs=0.02)
    assert ways.shares(*graph.columns(idle_as_weight=False), likely, graph.rivals()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("offset", [-700.0, -300.0, 0.0, 300.0])
def test_weights_of_any_size_do(offset: float) -> None:
    """Only differences count, so that no evidence is too much for a float."""
    graph = any_graph(random.Random(1), 4, 4)
    moved = Graph(
        graph.pairs, [each + offset for each in graph.score], [each + offset for each in graph.alone], graph.idle, graph.exclusive
    )
    found, same = (marginals(*each.columns(idle_as_weight=True), each.rivals()) for each in (graph, moved))
    assert same == pytest.approx(found, abs=1e-6)
    far = Graph([(0, 0), (0, 1)], [offset, offset + 500], [offset], [0.0, 0.0], [True])
    assert marginals(*far.columns(idle_as_weight=True), far.rivals()) == pytest.approx([0, 1], abs=1e-6)


def test_many_calls_take_as_many_steps_as_few() -> None:
    asked = [sampling.sweeps_for(calls) for calls in (0, 1, 1000, 100_000)]
    assert asked == [sampling.MOST_SWEEPS, sampling.MOST_SWEEPS, sampling.STEPS // 1000, sampling.LEAST_SWEEPS]


times = st.integers(0, 30)


@settings(deadline=None)
@given(
    calls=st.lists(st.tuples(times, st.integers(-1, 2)), max_size=20),
    requests=st.lists(st.tuples(times, st.integers(0, 12), st.integers(-1, 2)), max_size=20),
)
def test_candidates_are_all_that_were_under_way(calls: list[tuple[int, int]], requests: list[tuple[int, int, int]]) -> None:
    at, pod = (np.array([call[column] for call in calls], "i8") for column in range(2))
    arrival, length, server = (np.array([request[column] for request in requests], "i8") for column in range(3))
    call, request = candidates(at, pod, arrival, arrival + length, server)
    expected = {
        (c, r) for (c, (t, where)), (r, (begin, lasts, served)) in product(enumerate(calls), enumerate(requests))
        if where == served and begin <= t <= begin + lasts
    }  # fmt: skip
    pairs = list(zip(call.tolist(), request.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    assert [(c, -arrival[r]) for c, r in pairs] == sorted((c, -arrival[r]) for c, r in pairs), "by call, the latest first"


def test_of_very_many_candidates_the_latest_are_kept() -> None:
    many = candidates_.MOST_CANDIDATES + 44
    arrival = np.arange(many)[::-1].copy()
    call, request = candidates(np.array([many]), np.array([0]), arrival, np.full(many, many), np.zeros(many, "i8"))
    assert len(call) == candidates_.MOST_CANDIDATES
    assert request.tolist() == list(range(candidates_.MOST_CANDIDATES))


@settings(deadline=None)
@given(
    chosen=st.lists(st.tuples(st.integers(0, 1), times, st.integers(0, 9)), max_size=15),
    asked=st.lists(st.tuples(st.integers(0, 1), times, st.integers(0, 9), st.integers(-1, 14)), max_size=15),
)
def test_overtakings_are_counted_one_by_one(chosen: list[tuple[int, int, int]], asked: list[tuple[int, int, int, int]]) -> None:
    """Pairs that came before and go after, and the other way round; what goes at the same time overtakes nobody."""
    chosen = sorted((group, came, came + lasts) for group, came, lasts in chosen)
    asked = [(group, came, came + lasts, own) for group, came, lasts, own in asked]
    group, came, went, own = (np.array([each[column] for each in asked], "i8") for column in range(4))
    others = [np.array([each[column] for each in chosen], "i8") for column in range(3)]
    found = order.overtakings(came, went, group, others[1], others[2], others[0], own)
    for (mine, my_came, my_went, my_own), count in zip(asked, found.tolist(), strict=True):
        rest = [each for row, each in enumerate(chosen) if row != my_own and each[0] == mine]
        before = sum(1 for _, other_came, other_went in rest if other_came < my_came and other_went > my_went)
        after = sum(1 for _, other_came, other_went in rest if other_came >= my_came and other_went < my_went)
        assert count == before + after


def test_levels_of_overtaking() -> None:
    assert order.levels(np.array([0, 1, 2, 3, 4, 5, 8, 9, 1000])).tolist() == [0, 1, 2, 3, 3, 4, 4, 5, 5]


def exchanged(chance: random.Random, workers: int, *, noise: float) -> tuple[list[int], list[int], list[float], list[int]]:
    """Pairs of downstream and upstream connections of each worker, some doubtful ones between workers; the worker of each upstream."""
    down, up = ([number % workers for number in range(7 * workers)] for _ in range(2))
    for side in (down, up):
        chance.shuffle(side)
    every = list(product(range(len(down)), range(len(up))))
    pairs = [(d, u, 1.0) for d, u in every if down[d] == up[u] and chance.random() < 0.8]
    pairs += [(d, u, noise) for d, u in every if down[d] != up[u] and chance.random() < 0.1]
    d, u, probability = (list(column) for column in zip(*pairs, strict=True))
    return d, u, probability, up


@pytest.mark.parametrize("workers", range(1, 7))
@pytest.mark.parametrize("seed", range(7))
def test_workers_are_counted_and_told_apart(workers: int, seed: int) -> None:
    down, up, probability, truth = exchanged(random.Random(seed), workers, noise=0.1)
    columns = np.array(down), np.array(up), np.array(probability)
    member, count = order.workers(*columns)
    assert count == workers
    found = member.tolist()
    used = sorted(set(up))
    assert len({(truth[each], found[each]) for each in used}) == workers == len({found[each] for each in used})


def test_one_connection_tells_nothing_of_workers() -> None:
    one = np.zeros(5, "i8")
    for down, up in ((one, np.arange(5)), (np.arange(5), one)):
        member, count = order.workers(down, up, np.ones(5))
        assert (member.tolist(), count) == ([0] * (max(up) + 1), 1)


def test_the_likeliest_pair_of_each_call() -> None:
    call, probability = np.array([0, 0, 2, 2, 2, 5]), np.array([0.5, 0.5, 0.1, 0.6, 0.3, 0.0])
    assert order.likeliest(call, probability).tolist() == [1, 3, 5]
    assert order.likeliest(call[:0], probability[:0]).tolist() == []
