"""Which request a call was made for, where that is known: proxies, applications, retries, and what has no parent at all."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import MS, NETWORK, SECOND, START_NS, US, Call, Told, application, facts_of, proxied, told

from tracer.requests.parents import parents
from tracer.requests.parents.lookups import LATEST_NS, lookups

SEEDS = range(3)


@cache
def proxy(seed: int, workers: int, paths: int) -> tuple[Told, list[Call], list[Call]]:
    requests, calls = proxied(seed, workers=workers, count=307, paths=paths)
    return told([*requests, *calls]), requests, calls


@cache
def shop(seed: int, apart: int = 3 * MS, pods: int = 1) -> tuple[Told, list[Call], list[Call], list[Call]]:
    requests, found, queries = application(seed, 101, apart=apart, pods=pods)
    return told([*requests, *found, *queries]), requests, found, queries


def in_time(answer: Told) -> None:
    """Never a parent that was over before the call was made, or that began after it; never itself; shares within what there is."""
    facts = facts_of(answer.calls)
    for call, candidates in answer.found.candidates.items():
        for parent, likely in candidates:
            assert parent != call
            assert facts.arrival[parent] <= facts.start[call] <= facts.close[parent]
            assert facts.server[parent] == facts.caller[call]
            assert 0 <= likely <= 1
        assert [likely for _, likely in candidates] == sorted((likely for _, likely in candidates), reverse=True)
        assert sum(likely for _, likely in candidates) <= 1 + 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_proxy_that_passes_paths_on_is_told_apart_by_them(seed: int) -> None:
    answer, _, calls = proxy(seed, 2, 1000)
    assert answer.score(calls) == (len(calls), 0, 0)
    in_time(answer)
    assert all("path" in answer.evidence(call) or "only-candidate" in answer.evidence(call) for call in calls)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_proxy_whose_requests_all_look_alike_gives_away_its_order(seed: int, workers: int) -> None:
    answer, requests, calls = proxy(seed, workers, 1)
    overlapping = sum(1 for one, other in pairwise(sorted(requests, key=lambda each: each.start)) if other.start < one.end)
    assert overlapping > 200, "else this is no test"
    right, _, wrong = answer.score(calls)
    assert right > 0.8 * len(calls)
    assert wrong <= 0.03 * len(calls)
    in_time(answer)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_application_s_lookup_and_query_are_its_request_s(seed: int) -> None:
    answer, _, asked, queries = shop(seed, 20 * MS)
    for calls in (asked, queries):
        right, _, wrong = answer.score(calls)
        assert right >= 0.95 * len(calls)
        assert wrong <= 1
    in_time(answer)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_busy_application_s_words_tell_whose_a_query_is(seed: int) -> None:
    answer, requests, asked, queries = shop(seed)
    assert sum(1 for one, other in pairwise(requests) if other.start < one.end) > 40
    right, _, wrong = answer.score(queries)
    assert right >= 0.9 * len(queries)
    assert wrong <= 0.02 * len(queries)
    right, _, wrong = answer.score(asked)
    assert wrong <= 0.05 * len(asked)
    assert right >= 0.5 * len(asked)
    in_time(answer)


def test_pods_of_one_workload_are_kept_apart_but_teach_one_another() -> None:
    answer, _, _, queries = shop(0, 3 * MS, 3)
    right, _, wrong = answer.score(queries)
    assert right >= 0.95 * len(queries)
    assert wrong <= 1
    in_time(answer)


def test_addresses_without_metadata_do() -> None:
    """Without Kubernetes metadata a pod is its address."""
    requests, calls = proxied(1, workers=2, count=101, paths=1000)
    names = {"proxy-1": "10.244.0.7", "backend-1": "10.244.0.8"}
    for call in [*requests, *calls]:
        call.caller, call.server = (names.get(name, name) for name in (call.caller, call.server))
    answer = told([*requests, *calls])
    assert answer.score(calls) == (len(calls), 0, 0)


def test_who_is_not_known_has_no_parents() -> None:
    requests, calls = proxied(1, workers=1, count=23)
    for call in calls:
        call.caller = ""
    assert told([*requests, *calls]).found.candidates == {}


def test_calls_made_while_nothing_was_served_have_no_parent() -> None:
    requests = [Call("http", "172.30.0.1", "app-1", n * 100 * MS, n * 100 * MS + 5 * MS) for n in range(1, 24)]
    idle = [Call("redis", "app-1", "cache-1", n * 100 * MS + 50 * MS, n * 100 * MS + 51 * MS, operation="PING") for n in range(1, 24)]
    assert told([*requests, *idle]).found.candidates == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_pod_does_by_itself_is_seldom_taken_for_a_request_s(seed: int) -> None:
    """A heartbeat at any time, also while something is being served, beside calls of every request."""
    chance = random.Random(seed)
    requests, asked, queries = application(seed, 101, apart=20 * MS)
    last = max(request.end for request in requests)
    beats = [
        Call("redis", "app-1", "cache-1", at, at + MS, operation="PING", connection="beat")
        for at in (chance.randrange(last) for _ in range(199))
    ]
    answer = told([*requests, *asked, *queries, *beats])
    during = [beat for beat in beats if any(each.start + NETWORK <= beat.start <= each.end - NETWORK for each in requests)]
    assert len(during) > 15
    _, none, wrong = answer.score(beats)
    assert wrong <= 0.1 * len(during)
    assert none >= len(beats) - 0.1 * len(during)
    right, _, _ = answer.score(queries)
    assert right >= 0.9 * len(queries)


@pytest.mark.parametrize("failure", ["503", "reset", None])
def test_a_call_that_is_made_again_after_failure_has_the_same_parent(failure: str | None) -> None:
    """nginx asks the next backend when one answers 5xx, resets, or does not answer at all."""
    requests, calls = proxied(3, workers=1, count=101, paths=1000)
    again = []
    for call in calls[::5]:
        sooner = call.start + 30 * US if failure != "503" else call.start + 60 * US
        failed = replace(
            call, start=call.start, end=sooner if failure == "503" else -1, status=failure, connection=object(), server="backend-2"
        )
        failed.unread = failure == "reset"
        again.append(failed)
        call.start = sooner + 20 * US
    answer = told([*requests, *calls, *again])
    assert answer.score(calls)[2] == 0
    assert answer.score(calls)[0] >= 0.95 * len(calls)
    right, _, wrong = answer.score(again)
    assert wrong == 0
    if failure != "reset":  # a connection of which nothing could be read has its times only
        assert right >= 0.9 * len(again)


def test_a_pod_that_calls_itself_is_not_its_own_parent() -> None:
    outer = [Call("http", "172.30.0.1", "app-1", n * 100 * MS, n * 100 * MS + 20 * MS, operation="GET /outer") for n in range(1, 24)]
    inner = [Call("http", "app-1", "app-1", each.start + 2 * MS, each.start + 9 * MS, each, operation="GET /inner") for each in outer]
    query = [Call("mysql", "app-1", "db-1", each.start + 2 * MS, each.start + 4 * MS, each, "SELECT 1", "ok") for each in inner]
    answer = told([*outer, *inner, *query])
    assert answer.score(inner) == (23, 0, 0)
    in_time(answer)
    # both were under way; that the inner one's own are its own is at least not denied
    for call in query:
        assert answer.likeliest(call)[0] in (call.parent, call.parent.parent)  # type: ignore[union-attr]


def test_one_request_and_one_call() -> None:
    request = Call("http", "172.30.0.1", "app-1", MS, 9 * MS)
    call = Call("mysql", "app-1", "db-1", 3 * MS, 5 * MS, request, "SELECT 1", "ok")
    answer = told([request, call])
    parent, likely = answer.likeliest(call)
    assert parent is request
    assert likely > 0.7
    assert set(answer.evidence(call)) >= {"only-candidate", "nesting"}


def test_nothing_and_nobody() -> None:
    assert parents(facts_of([])).candidates == {}
    assert told([Call("http", "a-1", "b-1", 1, 2)]).found.candidates == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    """Only dice fall otherwise: what is sure stays so, and is never another one; shares differ by what sampling errs."""
    first, requests, asked, queries = shop(seed)
    shuffled = [*requests, *asked, *queries]
    random.Random(seed).shuffle(shuffled)
    again = Told(parents(facts_of(shuffled)), shuffled)
    calls = [*asked, *queries]
    both = [(first.likeliest(call), again.likeliest(call)) for call in calls]
    assert all(one is other for (one, likely), (other, share) in both if max(likely, share) >= 0.9)
    assert np.mean([abs(likely - share) for (_, likely), (_, share) in both]) < 0.01
    assert sum((likely >= 0.9) != (share >= 0.9) for (_, likely), (_, share) in both) <= 0.04 * len(calls)
    assert parents(facts_of(shuffled)).candidates == again.found.candidates, "the same evidence, the same answer"


@settings(max_examples=6, deadline=None)
@given(later=st.integers(-(10**17), 10**17))
def test_the_time_of_day_does_not_matter(later: int) -> None:
    requests, asked, queries = application(5, 23)
    facts = facts_of([*requests, *asked, *queries])
    moved = replace(facts)
    for name in ("arrival", "received", "reply", "close", "begin", "start", "answer", "end"):
        column = getattr(facts, name)
        setattr(moved, name, np.where(column >= 0, column + later, -1))
    assert parents(moved) == parents(facts)


# --- lookups ------------------------------------------------------------------------------------------------------------------------------


def lookup(at: int, *addresses: str, pod: str = "app-1", end: int | None = None) -> Call:
    done = at + MS if end is None else end
    return Call(
        "dns", pod, "dns-1", at, done, None, "A db", "NOERROR" if addresses else "NXDOMAIN", answers={"addresses": " ".join(addresses)}
    )


def connected(at: int, target: str = "10.96.0.3", pod: str = "app-1") -> Call:
    return Call("mysql", pod, "db-1", at + 300 * US, at + MS, None, "SELECT 1", "ok", at, target=target)


LOOKUPS: dict[str, tuple[list[Call], dict[int, int]]] = {
    "one lookup, one connection": ([lookup(0, "10.96.0.3"), connected(2 * MS)], {1: 0}),
    "any of its addresses": ([lookup(0, "10.96.0.2", "10.96.0.3"), connected(2 * MS)], {1: 0}),
    "another address": ([lookup(0, "10.96.0.2"), connected(2 * MS)], {}),
    "no such name": ([lookup(0), connected(2 * MS)], {}),
    "another pod's": ([lookup(0, "10.96.0.3", pod="app-2"), connected(2 * MS)], {}),
    "before the answer": ([lookup(0, "10.96.0.3", end=3 * MS), connected(2 * MS)], {}),
    "never answered": ([lookup(0, "10.96.0.3", end=-1), connected(2 * MS)], {}),
    "too long ago": ([lookup(0, "10.96.0.3"), connected(LATEST_NS + 2 * MS)], {}),
    "on a connection that was open": ([lookup(0, "10.96.0.3"), replace(connected(2 * MS), opened=None)], {}),
    "the address that was asked for, not the one behind it": (
        [lookup(0, "10.96.0.3"), lookup(0, "10.96.0.4"), connected(2 * MS, "10.96.0.4"), connected(2 * MS, "10.96.0.3")], {2: 1, 3: 0},
    ),
    "each its own": (
        [lookup(0, "10.96.0.3"), connected(2 * MS), lookup(SECOND, "10.96.0.3"), connected(SECOND + 2 * MS)], {1: 0, 3: 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOKUPS)
def test_lookups(name: str) -> None:
    calls, expected = LOOKUPS[name]
    facts = facts_of(calls)
    call, query, likely = lookups(facts)
    found = {c: q for c, q, p in zip(call.tolist(), query.tolist(), likely.tolist(), strict=True) if p > 0.5}
    assert found == expected
    assert ((likely >= 0) & (likely <= 1)).all()
    assert {c: q for c, (q, _) in parents(facts).lookups.items()} == expected


def test_a_lookup_leads_to_one_connection() -> None:
    """Of two connections to the address, the one that followed at once is likelier to have come of it; both cannot."""
    calls = [call for n in range(23) for at in (n * 10 * SECOND,) for call in (lookup(at, "10.96.0.3"), connected(at + 2 * MS))]
    calls.append(connected(START_NS % 7 + 10 * SECOND + 900 * MS))
    call, query, likely = lookups(facts_of(calls))
    both = {int(c): float(p) for c, q, p in zip(call, query, likely, strict=True) if q == 2}
    assert sum(both.values()) <= 1 + 1e-6
    assert both[3] > 0.8
