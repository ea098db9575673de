"""What a pair is compared in, and what an agreement is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.requests.parents import comparisons as compare
from tracer.requests.parents.comparisons import ABSENT, COMMON, DIFFER, RARE, UNCOMMON
from tracer.requests.parents.linkage import Comparison, scores, weights

OTHERS = [f"/only/{number}" for number in range(60)]


@pytest.mark.parametrize(
    ("ours", "theirs", "rest", "level"),
    [
        (None, None, OTHERS, ABSENT),
        ("/a", None, OTHERS, ABSENT),
        (None, "/a", OTHERS, ABSENT),
        ("", "", OTHERS, ABSENT),
        ("/a", "/b", OTHERS, DIFFER),
        ("/a", "/a", OTHERS, RARE),
        ("/a", "/a", ["/a", *OTHERS], RARE),
        ("/a", "/a", ["/a"] * 2 + OTHERS, UNCOMMON),
        ("/a", "/a", ["/a"] * 5 + OTHERS, UNCOMMON),
        ("/a", "/a", ["/a"] * 7 + OTHERS, COMMON),
        ("/a", "/a", ["/a"] * 60, COMMON),
        ("/a", "/a", [*(["/a"] * 5), *([None] * 60)], COMMON),  # what says nothing does not make it rarer
    ],
)
def test_agreement_is_the_rarer_the_fewer_requests_say_so(ours: str | None, theirs: str | None, rest: list[str | None], level: int) -> None:
    mine, other = compare.codes([ours], [theirs, *rest])
    assert compare.agreement(mine, other[:1], other).tolist() == [level]


def test_nobody_agrees_with_nobody() -> None:
    none = np.zeros(0, "i8")
    assert compare.agreement(none, none, none).tolist() == []
    assert [column.tolist() for column in compare.codes([], [])] == [[], []]


TRACE, SPAN, OTHER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "ffff651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        ({"x-request-id": "7"}, {"x-request-id": "7"}, "x-request-id"),
        ({"x-request-id": "7"}, {"x-request-id": "8"}, "differs"),
        ({"x-request-id": "7"}, {}, "absent"),
        ({"x-request-id": ""}, {"x-request-id": ""}, "absent"),
        ({"x-request-id": "7"}, {"x-correlation-id": "7"}, "absent"),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {"traceparent": f"00-{TRACE}-{SPAN[::-1]}-00"}, "traceparent"),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {"traceparent": f"00-{OTHER}-{SPAN}-01"}, "differs"),
        ({"traceparent": "00"}, {"traceparent": "00"}, "absent"),
        ({"b3": f"{TRACE}-{SPAN}-1"}, {"b3": f"{TRACE}-{SPAN[::-1]}-1-{SPAN}"}, "b3"),
        ({"b3": "0"}, {"b3": "0"}, "absent"),  # "do not sample" names no trace
        ({"x-b3-traceid": TRACE}, {"x-b3-traceid": TRACE}, "x-b3-traceid"),
        ({"uber-trace-id": f"{TRACE}:{SPAN}:0:1"}, {"uber-trace-id": f"{TRACE}:{SPAN[::-1]}:{SPAN}:1"}, "uber-trace-id"),
        ({"x-amzn-trace-id": "Root=1-5759-adfb;Parent=53995c;Sampled=1"}, {"x-amzn-trace-id": "Root=1-5759-adfb"}, "x-amzn-trace-id"),
        ({"x-amzn-trace-id": "Self=1-67-12;Root=1-5759-adfb"}, {"x-amzn-trace-id": "Root=1-0000-adfb"}, "differs"),
        ({"x-cloud-trace-context": f"{TRACE}/1;o=1"}, {"x-cloud-trace-context": f"{TRACE}/22"}, "x-cloud-trace-context"),
        ({"x-request-id": "7", "b3": f"{TRACE}-{SPAN}"}, {"x-request-id": "8", "b3": f"{TRACE}-{SPAN}"}, "b3"),
        ({"x-request-id": "7", "b3": f"{TRACE}-{SPAN}"}, {"x-request-id": "7", "b3": f"{OTHER}-{SPAN}"}, "x-request-id"),
    ],
)
def test_identifiers(ours: dict[str, str], theirs: dict[str, str], word: str) -> None:
    one = np.zeros(1, "i8")
    found = compare.identifiers([ours], [theirs], one, one)
    level = int(found.levels[0])
    assert (found.evidence[level] or ("absent", "differs")[level]) == word


@pytest.mark.parametrize(
    ("operation", "shape"),
    [
        (None, None),
        ("", ""),
        ("GET /items", "GET /items"),
        ("GET /items/123?x=1&y=2", "GET /items/#"),
        ("GET /items/0af7651916cd43dd8448eb211c80319c/parts", "GET /items/#/parts"),
        ("GET /v2/items", "GET /v#/items"),
        ("SELECT * FROM a WHERE name = 'it' AND n > 12", "SELECT * FROM a WHERE name = # AND n > #"),
        ('SELECT * FROM a WHERE name = "it"', "SELECT * FROM a WHERE name = #"),
        ("A mysql.demo.svc.cluster.local", "A mysql.demo.svc.cluster.local"),
        ("GET /facade", "GET /facade"),
    ],
)
def test_shapes_leave_out_what_differs_from_call_to_call(operation: str | None, shape: str | None) -> None:
    assert compare.shape(operation) == shape


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_numbers_and_queries_do_not_change_a_shape(one: int, other: int) -> None:
    assert compare.shape(f"GET /a/{one}/b?c={one}") == compare.shape(f"GET /a/{other}/b?d={other}")


def test_shared_words_count_by_how_rare_they_are() -> None:
    responses = [f"all some{number // 8} few{number // 2} own{number}" for number in range(64)]
    rows = ["all", "some0", "few0", "own0", "own1", "all some0 own0", None, ""]
    call, parent = np.arange(len(rows)), np.zeros(len(rows), "i8")
    found = compare.shared_words(rows, responses, call, parent)
    #  common to all 0 bit, to 8 of 64 3, to 2 of 64 5, own 6 and those together 9
    assert found.levels.tolist() == [1, 3, 3, 4, 1, 4, 0, 0]
    assert compare.shared_words(["own0"], [None], np.zeros(1, "i8"), np.zeros(1, "i8")).levels.tolist() == [0]


@pytest.mark.parametrize(
    ("ended", "answered", "replied", "level"),
    [(5, 3, 9, 0), (9, 3, 9, 0), (12, 9, 9, 1), (12, 3, 9, 1), (12, 10, 9, 2), (5, -1, 9, 3), (5, 3, -1, 3)],
)
def test_nesting(ended: int, answered: int, replied: int, level: int) -> None:
    found = compare.nesting(np.array([ended]), np.array([answered]), np.array([replied]))
    assert found.levels.tolist() == [level]


@pytest.mark.parametrize(
    ("nanoseconds", "known", "level"),
    [
        (0, True, 0),
        (-5, True, 25),
        (999, True, 0),
        (1999, True, 0),
        (2000, True, 1),
        (1_024_000, True, 10),
        (10**18, True, 24),
        (2000, False, 26),
    ],
)
def test_delays(nanoseconds: int, known: bool, level: int) -> None:
    assert compare.delays("before", np.array([nanoseconds]), np.array([known]), 8).levels.tolist() == [level]


pairs_ = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=30)
MATCHED, CHANCE, WORTH = (0.4, 0.3, 0.2, 0.1), (0.1, 0.1, 0.1, 0.7), 5.0


def learned(pairs: list[tuple[int, float]]) -> list[float]:
    levels, probability = np.array([level for level, _ in pairs]), np.array([likely for _, likely in pairs])
    (found,) = weights([Comparison("it", levels, MATCHED, CHANCE, WORTH)], probability)
    return [float(weight) for weight in found]


@given(pairs_)
def test_a_weight_is_what_the_other_pairs_say(pairs: list[tuple[int, float]]) -> None:
    for row, (weight, (level, _)) in enumerate(zip(learned(pairs), pairs, strict=True)):
        rest = pairs[:row] + pairs[row + 1 :]
        ours = (sum(p for other, p in rest if other == level) + WORTH * MATCHED[level]) / (sum(p for _, p in rest) + WORTH)
        others = (sum(1 - p for other, p in rest if other == level) + WORTH * CHANCE[level]) / (sum(1 - p for _, p in rest) + WORTH)
        assert weight == pytest.approx(math.log(ours / others), abs=1e-9)


@given(pairs_, st.integers(0, 29), st.floats(0, 1))
def test_a_pair_does_not_teach_itself(pairs: list[tuple[int, float]], row: int, likely: float) -> None:
    row %= len(pairs)
    changed = [*pairs[:row], (pairs[row][0], likely), *pairs[row + 1 :]]
    assert learned(changed)[row] == pytest.approx(learned(pairs)[row], abs=1e-9)


@given(pairs_, st.integers(0, 29))
def test_what_is_seen_in_likely_pairs_is_worth_more(pairs: list[tuple[int, float]], row: int) -> None:
    row %= len(pairs)
    level = pairs[row][0]
    sure = [*pairs, (level, 1.0)]
    doubtful = [*pairs, (level, 0.0)]
    assert learned(sure)[row] >= learned(doubtful)[row]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_what_is_the_same_in_all_pairs_is_worth_nothing(likely: list[float]) -> None:
    same = Comparison("same", np.zeros(len(likely), "i8"), (1.0,), (1.0,))
    (found,) = weights([same], np.array(likely))
    assert found == pytest.approx(np.zeros(len(likely)), abs=1e-9)
    assert scores([found], len(likely)) == pytest.approx(np.zeros(len(likely)), abs=1e-9)
    assert scores([], 3).tolist() == [0, 0, 0]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_nothing_known_and_nothing_believed_is_no_evidence(levels: list[int]) -> None:
    """Every pair as likely as not, and both shares believed alike: nothing is learned."""
    even = Comparison("even", np.array(levels), (0.25,) * 4, (0.25,) * 4)
    (found,) = weights([even], np.full(len(levels), 0.5))
    assert found == pytest.approx(np.zeros(len(levels)), abs=1e-9)


def test_kinds_that_belong_together_are_learned() -> None:
    """Queries of orders come of /orders and those of users of /users, once their pairs are likelier; before that, nothing is told."""
    calls, requests = ["SELECT orders", "SELECT users"] * 20, ["GET /orders", "GET /users"] * 20
    call, parent = (each.ravel() for each in np.meshgrid(np.arange(40), np.arange(40)))
    found = compare.association(calls, requests, call, parent)
    right = call % 2 == parent % 2
    assert len(np.unique(found.levels)) == 4
    (before,) = weights([found], np.full(1600, 1 / 40))
    assert np.abs(before).max() < 0.05
    (after,) = weights([found], np.where(right, 0.049, 0.001))
    assert after[right].min() > 0.5
    assert after[~right].max() < -1.5


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=8), st.lists(st.sampled_from(["x", "y", None]), min_size=1, max_size=8)
)
def test_each_kind_of_pair_has_a_level_of_its_own(calls: list[str | None], requests: list[str | None]) -> None:
    call, parent = (each.ravel() for each in np.meshgrid(np.arange(len(calls)), np.arange(len(requests))))
    levels = compare.association(calls, requests, call, parent).levels.tolist()
    kinds = [(calls[c], requests[p]) for c, p in zip(call.tolist(), parent.tolist(), strict=True)]
    assert len(set(zip(kinds, levels, strict=True))) == len(set(kinds)) == len(set(levels))
