"""What a thread was busy with when it made a call, event by event: event loops, threads that wait, and what tells nothing."""

from __future__ import annotations

import numpy as np
import pytest
from served import MS, START_NS, Call, facts_of

from probes.threads import LOST, READ, WRITE
from tracer.requests.parents.comparisons import busy_with
from tracer.requests.parents.contexts import OPENED, ThreadContexts

A, B, UP, OTHER, QUERY, ALIEN = range(
    6
)  # cookies: two clients' connections, two upstream ones, a database's, one of which nothing is known
ONE, TWO = 101, 102  # threads
Step = tuple[int, int, int, int]  # ms, thread, cookie, way


def requests() -> dict[str, Call]:
    """Two requests at a time, each with a call and the first one with a query before it."""
    first = Call("http", "10.0.0.1", "proxy-1", 0, 50 * MS, connection=A)
    second = Call("http", "10.0.0.2", "proxy-1", 1 * MS, 60 * MS, connection=B)
    return {
        "first": first, "second": second,
        "query": Call("mysql", "proxy-1", "db-1", 5 * MS, 9 * MS, connection=QUERY),
        "call": Call("http", "proxy-1", "app-1", 12 * MS, 40 * MS, connection=UP),
        "other": Call("http", "proxy-1", "app-1", 14 * MS, 41 * MS, connection=OTHER),
        "later": Call("http", "proxy-1", "app-1", 70 * MS, 80 * MS, connection=UP),
    }  # fmt: skip


CASES: tuple[tuple[str, list[Step], dict[str, str]], ...] = (
    ("a thread that waits", [(2, ONE, A, READ), (13, ONE, UP, WRITE), (3, TWO, B, READ), (15, TWO, OTHER, WRITE)],
     {"call": "first", "other": "second"}),
    ("an event loop", [(2, ONE, A, READ), (3, ONE, B, READ), (13, ONE, UP, WRITE)], {"call": "second"}),
    ("back by an answer", [(2, ONE, A, READ), (6, ONE, QUERY, WRITE), (7, ONE, B, READ), (10, ONE, QUERY, READ), (13, ONE, UP, WRITE)],
     {"query": "first", "call": "first"}),
    ("another thread takes the answer", [(2, ONE, A, READ), (6, ONE, QUERY, WRITE), (10, TWO, QUERY, READ), (13, TWO, UP, WRITE)],
     {"query": "first", "call": "first"}),
    ("opened for one, written while busy with another", [(2, ONE, A, READ), (3, ONE, UP, OPENED), (4, ONE, B, READ), (13, ONE, UP, WRITE)],
     {"call": "first"}),
    ("the second on that connection",
     [(2, ONE, A, READ), (3, ONE, UP, OPENED), (13, ONE, UP, WRITE), (14, ONE, B, READ), (71, ONE, UP, WRITE)], {"call": "first"}),
    ("before anything was read", [(13, ONE, UP, WRITE)], {}),
    ("another thread's", [(2, ONE, A, READ), (13, TWO, UP, WRITE)], {}),
    ("after something unknown was read", [(2, ONE, A, READ), (3, ONE, ALIEN, READ), (13, ONE, UP, WRITE)], {}),
    ("after something unknown was written", [(2, ONE, A, READ), (3, ONE, ALIEN, WRITE), (13, ONE, UP, WRITE)], {"call": "first"}),
    ("after lines were lost", [(2, ONE, A, READ), (3, 0, 0, LOST), (13, ONE, UP, WRITE)], {}),
    ("a request that is over", [(2, ONE, A, READ), (71, ONE, UP, WRITE)], {}),
    ("its answer is written", [(2, ONE, A, READ), (13, ONE, UP, WRITE), (40, ONE, UP, READ), (51, ONE, A, WRITE)], {"call": "first"}),
)  # fmt: skip


@pytest.mark.parametrize(("steps", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_call_is_for_what_its_thread_was_busy_with(steps: list[Step], expected: dict[str, str]) -> None:
    made = requests()
    names, facts = list(made), facts_of(list(made.values()))
    numbers = {made[name].connection: int(facts.connection[row]) for row, name in enumerate(names)}
    threads = ThreadContexts(
        {cookie: (number, cookie not in (A, B)) for cookie, number in numbers.items() if isinstance(cookie, int)}, facts
    )
    for after_ms, thread, cookie, way in sorted(steps):
        threads.take(START_NS + after_ms * MS, thread, cookie, way)
    assert {names[call]: names[request] for call, request in threads.owner.items() if request >= 0} == expected


def test_requests_that_share_a_connection_at_a_time_are_not_told_apart() -> None:
    both = [Call("http2", "10.0.0.1", "proxy-1", start * MS, 50 * MS, connection=A) for start in (0, 1)]
    facts = facts_of([*both, Call("http", "proxy-1", "app-1", 12 * MS, 40 * MS, connection=UP)])
    threads = ThreadContexts({A: (0, False), UP: (1, True)}, facts)
    threads.take(START_NS + 2 * MS, ONE, A, READ)
    threads.take(START_NS + 13 * MS, ONE, UP, WRITE)
    assert threads.owner == {2: -1}


def test_what_a_thread_says_is_compared() -> None:
    found = busy_with(np.array([7, 7, -1]), np.array([7, 8, 7]))
    assert [found.evidence[level] for level in found.levels.tolist()] == ["thread", None, None]
    assert found.levels.tolist()[2] == found.unknown
