"""Many requests at once through nginx with two workers, and through an application: parents are right where they are given."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import pytest

from .shop import SITES
from .shop_servers import ITEMS, STORE_NAME
from .shopping import Asked, Records, Shop, Visit, Visitor

OVERLAP = 0.2  # of requests at the least; how many meet is the scheduler's business
CROWD, REQUESTS = 16, 211
RING = 4  # calls that are mistaken for one another: seldom more
DINERS, MEALS = 8, 101  # of the application
Headers = Callable[[int], dict[str, str]]

IDENTIFIERS: dict[str, Headers] = {
    "x-request-id": lambda number: {"X-Request-ID": f"{number:032x}"},
    "traceparent": lambda number: {"traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01"},
}


def crowd(shop: Shop, site: str, path: str, headers: Headers = lambda _: {}, **how: object) -> Iterable[Asked]:
    """The same of everybody, all at once."""
    tokens = [next(shop.tokens) for _ in range(REQUESTS)]

    def ask(visitor: Visitor, number: int) -> Asked:
        return visitor.ask(tokens[number], SITES[site].host, path, headers(number))

    return shop.together(CROWD, REQUESTS, ask, **how)


def overlapping(records: Records) -> float:
    """Of the ingress's requests, the share that was not alone when it came."""
    served = records.on("edge")
    return sum(
        any(other is not each and other["start_ns"] <= each["start_ns"] <= other["end_ns"] for other in served) for each in served
    ) / len(served)


def score(records: Records, caller: str = "edge", protocol: str = "http", least: float = 0.0) -> tuple[int, int, int]:
    """(calls, those with a parent at `least` confidence, of them those with the right one)."""
    told = [
        (record, parent is not None and record["parent_confidence"] >= least, right)
        for record, parent, right in records.told((caller,))
        if record["protocol"] == protocol
    ]
    given = [right for _, is_given, right in told if is_given]
    return len(told), len(given), sum(given)


def mistakes(records: Records) -> float:
    """How many of the given parents may be wrong by what is said of them: three standard deviations above the number to expect.

    A mistake never comes alone: calls take one another's parents in rings, all of which are wrong, or none. So few mistakes to expect are
    fewer rings yet, any one of which may be there.
    """
    wrong = [1 - record["parent_confidence"] for record, parent, _ in records.told(("edge",)) if parent]
    return sum(wrong) + 3 * math.sqrt(RING * sum(each * (1 - each) for each in wrong)) + RING


@pytest.mark.parametrize("header", IDENTIFIERS)
def test_an_identifier_tells_equal_requests_apart(shop: Shop, header: str) -> None:
    visit = shop.visit(header, lambda shop: crowd(shop, "named", "/same", IDENTIFIERS[header]))
    assert overlapping(visit.records) > OVERLAP
    assert score(visit.records, least=0.99) == (REQUESTS, REQUESTS, REQUESTS)
    for record, _, _ in visit.records.told():
        assert header in record["parent_evidence"]


def test_the_address_of_the_client_tells_equal_requests_apart(shop: Shop) -> None:
    """Sixteen clients, each with one connection: whose request it is, is whose is under way."""
    visit = shop.visit("real", lambda shop: crowd(shop, "real", "/same", sources=shop.addresses[:CROWD]))
    assert overlapping(visit.records) > OVERLAP
    assert score(visit.records, least=0.99) == (REQUESTS, REQUESTS, REQUESTS)
    assert all("forwarded-client" in record["parent_evidence"] for record, _, _ in visit.records.told())


def test_time_alone_tells_equal_requests_apart_where_answers_take_their_time(shop: Shop) -> None:
    """Every answer takes as long as it likes: nothing but time and order tells, and that is enough."""
    visit = shop.visit("alone", lambda shop: crowd(shop, "alone", "/nap"))
    assert overlapping(visit.records) > 0.9
    calls, given, right = score(visit.records)
    assert (calls, given) == (REQUESTS, pytest.approx(REQUESTS, rel=0.1))
    assert right >= 0.99 * given
    calls, given, right = score(visit.with_confidence(0.0))
    assert right >= 0.9 * calls


@pytest.mark.parametrize("site", ["alike", "old"])
def test_what_cannot_be_told_apart_is_left_open(shop: Shop, site: str) -> None:
    """Answers at once, from a busy machine: of those that are given, as many are right as their confidence says."""
    visit = shop.visit(f"crowd {site}", lambda shop: crowd(shop, site, "/same"))
    assert overlapping(visit.records) > OVERLAP
    calls, given, right = score(visit.records)
    assert calls == REQUESTS
    assert given - right <= mistakes(visit.records)
    assert given - right <= 0.1 * calls


def dinner(shop: Shop) -> Iterable[Asked]:
    tokens = [next(shop.tokens) for _ in range(MEALS)]
    numbers = random.Random(5).sample(sorted(ITEMS), MEALS)

    def ask(visitor: Visitor, number: int) -> Asked:
        return visitor.ask(tokens[number], SITES["app"].host, f"/items/{numbers[number]}")

    return shop.together(DINERS, MEALS, ask)


@pytest.fixture(scope="module")
def dined(shop: Shop) -> Visit:
    return shop.visit("dinner", dinner)


def test_an_application_s_queries_belong_to_whom_their_rows_went(dined: Visit) -> None:
    assert overlapping(dined.records) > 0.9
    assert score(dined.records, "edge") == (MEALS, MEALS, MEALS)
    calls, given, right = score(dined.records, "app", "mysql")
    assert (calls, right) == (MEALS, given)
    assert given >= 0.97 * MEALS
    for record, parent, _ in dined.records.told(("app",)):
        if record["protocol"] == "mysql" and parent:
            assert record["status"] == "ok"
            assert "body" in record["parent_evidence"]


def test_an_application_s_lookups_are_wrong_no_more_often_than_is_said(dined: Visit) -> None:
    """Equal lookups of eight threads at once: what cannot be told apart is left open, with the candidates.

    Of the likeliest parents some quarter is right, as is said: the share's standard deviation is 0.045 with so many, and four are allowed.
    """
    likeliest = [
        (record, right) for record, parent, right in dined.with_confidence(0.0).told(("app",)) if record["protocol"] == "dns" and parent
    ]
    assert len(likeliest) == MEALS
    said = sum(record["parent_confidence"] for record, _ in likeliest)
    assert said - sum(right for _, right in likeliest) <= 0.18 * MEALS
    calls, given, right = score(dined.records, "app", "dns")
    assert calls == MEALS
    assert given - right <= 3
    for record, parent, _ in dined.records.told(("app",)):
        if record["protocol"] == "dns":
            assert (record["operation"], record["status"]) == (f"A {STORE_NAME}", "NOERROR")
            assert parent or record["parent_candidates"]


def test_an_application_s_calls_one_at_a_time(shop: Shop) -> None:
    """Nothing else is under way: a lookup, a query and a page each belong to the one request that there is."""

    def alone(shop: Shop) -> Iterable[Asked]:
        with shop.visitor() as visitor:
            for number in range(1, 24):
                yield visitor.ask(next(shop.tokens), SITES["app"].host, f"/items/{number}")
                yield visitor.ask(next(shop.tokens), SITES["app"].host, f"/pages/{number}")

    records = shop.visit("dinner for one", alone).records
    for protocol in ("dns", "mysql", "http"):
        assert score(records, "app", protocol) == (23, 23, 23)
    logins = [record for record in records.all if record["operation"] == "SET NAMES utf8mb4"]
    assert logins
    assert all(record["parent"] for record in logins), "a fresh connection's first command too"
