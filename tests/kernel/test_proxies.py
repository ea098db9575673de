"""nginx as an ingress, one request after another: what hopline says of each is what the servers logged, upstream by upstream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from .recording import LIVE
from .services import NAMESPACE, PODS
from .shop import CLOSED_PORT, FAILING_PORT, SITES, at, vip
from .shopping import BALANCED, Asked, Records, Shop, Visit

Record = dict[str, Any]
REQUESTS, IMPATIENT = 23, 5
FORWARDED = {"service": "X-Forwarded-For", "old": "X-Real-IP", "deep": "Forwarded"}  # by site, what nginx adds there
ONE_VISITOR = ("keep", "retry", "error", "wrong", "chain")
LATE_MS, PATIENCE_SECONDS = 2000, 0.15  # far apart: a busy machine may stop all of us for a while


def path_of(site: str, number: int) -> str:
    """Some requests that fail at first fail with 504."""
    if site == "error" and number % 3 == 0:
        return f"/late/{number}"
    return f"{'/api' if site == 'deep' else ''}/items/{number}"


def one_after_another(shop: Shop) -> Iterator[Asked]:
    for site in ONE_VISITOR:
        with shop.visitor() as visitor:
            for number in range(1, REQUESTS + 1):
                yield visitor.ask(next(shop.tokens), SITES[site].host, path_of(site, number))
    for site in FORWARDED:
        for number in range(1, REQUESTS + 1):
            with shop.visitor(source=shop.addresses[number]) as visitor:
                yield visitor.ask(next(shop.tokens), SITES[site].host, path_of(site, number))
    for place in ("client", "front"):
        for number in range(1, REQUESTS + 1):
            greeting = f"PROXY TCP4 {BALANCED}{number} 203.0.113.9 {40000 + number} 80\r\n".encode()
            with shop.visitor(door="edge-behind", place=place, greeting=greeting) as visitor:
                yield visitor.ask(next(shop.tokens), SITES["behind"].host, path_of("behind", number))

    for _ in range(IMPATIENT):
        with shop.visitor(seconds=PATIENCE_SECONDS, abrupt=True) as visitor:
            yield visitor.ask(next(shop.tokens), SITES["slow"].host, f"/sleep/{LATE_MS}")
    time.sleep(LATE_MS / 1000)


@pytest.fixture(scope="module", params=["any", LIVE])
def visit(shop: Shop, request: pytest.FixtureRequest) -> Visit:
    return shop.visit("one after another", one_after_another, ("any", LIVE)).by(request.param)


@pytest.fixture(scope="module")
def records(visit: Visit) -> Records:
    return visit.records


def asked_of(visit: Visit, site: str) -> list[Asked]:
    found = [each for each in visit.asked if each.host == SITES[site].host]
    assert found
    return found


def calls(records: Records, asked: Asked) -> list[Record]:
    """What the ingress called for a request, in order of time."""
    return sorted(records.children[records.of(asked.token, "edge")["id"]], key=lambda record: record["start_ns"])


def test_every_request_is_a_record(visit: Visit, records: Records) -> None:
    assert records.lost == []
    for asked in visit.asked:
        record = records.of(asked.token, "edge")
        assert (record["operation"], record["host"]) == (f"GET {asked.path}", asked.host)
        assert (record["original"]["src"], record["parent"]) == (asked.local, None)
        if asked.status is not None:
            assert record["status"] == str(asked.status) == records.logged[record["id"]]["status"]


def test_every_attempt_of_nginx_is_a_child_of_its_request(records: Records) -> None:
    """`$upstream_addr` and `$upstream_status` have them all; a refused one is a 502 there."""
    requests = 0
    for identifier, line in records.logged.items():
        attempts = line.get("upstream", "")
        if attempts:
            made = sorted(records.children[identifier], key=lambda record: record["start_ns"])
            assert [record["original"]["dst"] for record in made] == attempts.split(", ")
            assert ["502" if record["status"] == "refused" else record["status"] for record in made] == line["answers"].split(", ")
            requests += 1
    assert requests == REQUESTS * (len(ONE_VISITOR) + len(FORWARDED) + 2 + 2) + IMPATIENT  # wrong and chain pass a second nginx


def test_every_call_has_the_parent_that_made_it(records: Records) -> None:
    told = records.told()
    assert len(told) > REQUESTS * len(SITES) / 2
    assert [(record["id"], record["parent"]) for record, _, right in told if not right] == []


def test_upstream_connections_are_kept_where_nginx_keeps_them(visit: Visit, records: Records) -> None:
    kept, fresh = ({call["connection"] for asked in asked_of(visit, site) for call in calls(records, asked)} for site in ("keep", "old"))
    assert len(kept) <= 4  # two workers, two servers
    assert len(fresh) == REQUESTS  # HTTP/1.0


def test_an_upstream_may_be_a_service(visit: Visit, records: Records) -> None:
    for asked in asked_of(visit, "service"):
        (call,) = calls(records, asked)
        assert (call["original"]["dst"], call["service"]["name"], call["service"]["via"]) == (vip("web"), "web", "ClusterIP")
        assert [translation["kinds"] for translation in call["translations"]] == [["dnat"]]
        assert call["server"]["name"] in ("web-a", "web-b")


@pytest.mark.parametrize(
    ("site", "port", "failures"), [("retry", CLOSED_PORT, {"refused"}), ("error", FAILING_PORT, {"502", "504"})], ids=["refused", "error"]
)
def test_a_retry_is_another_child_of_the_same_request(visit: Visit, records: Records, site: str, port: int, failures: set[str]) -> None:
    failed = set()
    for asked in asked_of(visit, site):
        *first, last = calls(records, asked)
        assert last["status"] == str(asked.status)
        assert last["original"]["dst"] == at("web-b")
        for call in first:
            assert call["original"]["dst"] == at("web-a", port)
            failed.add(call["status"])
    assert failed == failures


def test_a_path_may_be_rewritten(visit: Visit, records: Records) -> None:
    for asked in asked_of(visit, "deep"):
        (call,) = calls(records, asked)
        assert f"GET {asked.path}" == call["operation"].replace("GET ", "GET /api")


def test_a_chain_of_proxies_has_three_levels(visit: Visit, records: Records) -> None:
    for site in ("chain", "wrong"):
        for asked in asked_of(visit, site):
            (middle,) = calls(records, asked)
            (last,) = records.children[middle["id"]]
            assert (middle["server"]["name"], last["client"]["name"], last["service"]["name"]) == ("lone", "lone", "web")
            assert middle["trace"] == last["trace"] == records.of(asked.token, "edge")["trace"]


def test_an_ingress_rule_is_named_and_checked(visit: Visit, records: Records) -> None:
    for asked in visit.asked:
        record, site = records.of(asked.token, "edge"), SITES[asked.host.partition(".")[0]]
        rule = record["ingress"]
        assert (rule["kind"], rule["namespace"], rule["name"], rule["host"], rule["path"]) == (
            "Ingress", NAMESPACE, site.name, site.host, site.path,
        )  # fmt: skip
        assert rule["service"] == f"{NAMESPACE}/{site.service}:80"
        assert rule["agrees"] is (site.name != "wrong")
    assert {record["server"]["name"] for record in records.all if record["ingress"]} == {"edge"}


@pytest.mark.parametrize("site", FORWARDED)
def test_the_true_client_is_whom_the_proxy_names(visit: Visit, records: Records, site: str) -> None:
    for asked in asked_of(visit, site):
        (call,) = calls(records, asked)
        assert call["true_client"] == {"address": asked.local.rpartition(":")[0], "source": FORWARDED[site]}
        assert "forwarded-client" in call["parent_evidence"]
        assert records.of(asked.token, "edge")["true_client"] is None


def test_a_proxy_header_that_the_ingress_accepted_names_the_true_client(visit: Visit, records: Records) -> None:
    """Sent by a proxy in the cluster or outside of it: an ingress that expects none takes it for a bad request."""
    inside = 0
    for place, asked in enumerate(asked_of(visit, "behind")):
        record, client = records.of(asked.token, "edge"), f"{BALANCED}{place % REQUESTS + 1}"
        (call,) = calls(records, asked)
        assert call["true_client"] == {"address": client, "source": "X-Forwarded-For"}
        assert record["true_client"] == {"address": f"{client}:{40001 + place % REQUESTS}", "source": "PROXY protocol"}
        inside += record["client"]["name"] == "front"
    assert inside == REQUESTS


def test_a_child_outlives_a_client_that_gave_up(visit: Visit, records: Records) -> None:
    for asked in asked_of(visit, "slow"):
        record = records.of(asked.token, "edge")
        (call,) = calls(records, asked)
        assert (asked.status, record["status"]) == (None, "reset")
        assert (call["status"], call["server"]["name"]) == ("200", "app")
        assert call["end_ns"] - call["start_ns"] >= LATE_MS * 1_000_000
        assert record["end_ns"] < call["end_ns"]
        assert abs(record["latency"]["total_ns"] - asked.spent_ns) < LATE_MS / 2 * 1_000_000


def test_times_are_within_what_client_and_server_measured(visit: Visit, records: Records) -> None:
    early = 0
    for asked in visit.asked:
        record = records.of(asked.token, "edge")
        latency, line = record["latency"], records.logged[record["id"]]
        assert sum(latency["shares"].values()) == latency["total_ns"]
        if asked.status is not None:
            assert latency["total_ns"] <= asked.spent_ns + 1_000_000
            early += latency["server_ns"] < line["seconds"] * 1e9 - 1_000_000
    assert early <= 0.03 * len(visit.asked)


def test_the_pods_are_those_of_the_lab(records: Records) -> None:
    """Whoever serves is named, and nobody else: every address is one of the lab's."""
    known = {pod.addresses[0]: pod.name for pod in PODS.values()}
    for record in records.all:
        assert record["server"]["name"] == known[record["translated"]["dst"].rpartition(":")[0]]
