"""Every connection, as its sockets saw it: tuples, translations, status, ends, Service, hops; with conntrack and without."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import Any

import pytest

from .cases import CASES, Case, way
from .conftest import Recorded, key_of
from .services import MACHINES, NAMESPACE, NODES, OUTSIDE_PORT, PODS, pod_named
from .traffic import Attempt, address_of, text

Record = dict[str, Any]
Pair = tuple[Attempt, Record]

whole = pytest.mark.parametrize("points", ["any", "snap128", "live"])
whole_length = pytest.mark.parametrize("points", ["any", "live"])
evidence = pytest.mark.parametrize("ledger", [pytest.param(True, id="ledger"), pytest.param(False, id="packets")])
ways = pytest.mark.parametrize(
    ("case", "family"), [pytest.param(case, family, id=key_of(case, family)) for case in CASES for family in case.families]
)


def of(recorded: Recorded, points: str, case: Case, family: int, *, ledger: bool) -> Iterator[Pair]:
    """The attempts of a case with their records; fails where there is none."""
    matched, wanted = recorded.matched(points, ledger=ledger), key_of(case, family)
    for position, attempt in enumerate(recorded.attempts):
        if attempt.case == wanted:
            assert position in matched.pairs, f"no record of {attempt}"
            yield attempt, matched.pairs[position]


def hidden(case: Case, *, ledger: bool) -> bool:
    """Whether the original tuple cannot be known: a node translated its own call before any observation point, and no ledger tells."""
    return case.own_call and not ledger


def end(record: Record | None) -> tuple[str, str] | None:
    return None if record is None else (record["src"], record["dst"])


def owner(record: Record | None) -> tuple[str | None, str | None, str | None] | None:
    return None if record is None else (record["kind"], record["namespace"], record["name"])


def truly(place: str) -> tuple[str, str | None, str | None]:
    if place in PODS:
        return "pod", NAMESPACE, place
    return ("node", None, place) if place in NODES else ("external", None, None)


@whole
@evidence
@ways
def test_tuples(recorded: Recorded, points: str, ledger: bool, case: Case, family: int) -> None:
    for attempt, record in of(recorded, points, case, family, ledger=ledger):
        assert attempt.outcome == case.status, "the lab itself"
        assert end(record["original"]) == (None if hidden(case, ledger=ledger) else attempt.original)
        if attempt.translated:
            assert end(record["translated"]) == attempt.translated
        assert record["status"] == case.status


@whole_length
@evidence
@ways
def test_every_attempt_is_one_record(recorded: Recorded, points: str, ledger: bool, case: Case, family: int) -> None:
    numbers, wanted = recorded.matched(points, ledger=ledger).numbers, key_of(case, family)
    for attempt in recorded.attempts:
        if attempt.case == wanted and not hidden(case, ledger=ledger):
            made, found = numbers[attempt.proto, *attempt.original]
            assert found == made


@whole
@evidence
def test_nothing_else_is_a_connection(recorded: Recorded, points: str, ledger: bool) -> None:
    extra = recorded.matched(points, ledger=ledger).extra
    assert [(record["protocol"], record["original"], record["translated"], record["problems"]) for record in extra] == []


@whole_length
@evidence
@ways
def test_translations(recorded: Recorded, points: str, ledger: bool, case: Case, family: int) -> None:
    for attempt, record in of(recorded, points, case, family, ledger=ledger):
        steps = record["translations"]
        if hidden(case, ledger=ledger):
            assert steps == []
            continue
        assert tuple((step["node"], tuple(step["kinds"])) for step in steps) == case.nat
        assert all(one["after"] == other["before"] for one, other in pairwise(steps))
        if steps:
            assert steps[0]["before"] == " > ".join(attempt.original)
        if steps and attempt.translated:
            assert steps[-1]["after"] == " > ".join(attempt.translated)


@whole_length
@evidence
@ways
def test_names(recorded: Recorded, points: str, ledger: bool, case: Case, family: int) -> None:
    for attempt, record in of(recorded, points, case, family, ledger=ledger):
        if attempt.server_place:
            assert owner(record["server"]) == truly(attempt.server_place)
        if hidden(case, ledger=ledger):
            if record["client"] is not None:  # its answer was seen past the masquerade
                assert owner(record["client"]) == truly(attempt.place)
                assert record["client"]["address"] == attempt.original[0]
            assert record["service"] is None
            continue
        assert owner(record["client"]) == truly(attempt.place)
        service = case.service
        named, port = (service.name, str(service.port)) if service else (case.named, "5432" if case.named else None)
        expected = (NAMESPACE if named else None, named, port, case.via)
        assert tuple(record["service"][key] for key in ("namespace", "name", "port", "via")) == expected


@whole
@evidence
@ways
def test_hops(recorded: Recorded, points: str, ledger: bool, case: Case, family: int) -> None:
    # of IPv6 in VXLAN over IPv4 behind SLL2, 128 bytes leave 10 behind the transport layer's ports: enough for an echo only
    readable = points != "snap128" or family == 0 or case.proto == "icmp"
    for attempt, record in of(recorded, points, case, family, ledger=ledger):
        if attempt.server_place is None:
            continue
        hops = [hop for hop in record["hops"] if hop["path"] == "request"]
        passed = [place for place, _ in groupby((hop["node"], hop["interface"]) for hop in hops)]
        assert passed == way(case, attempt.server_place, bridged=recorded.bridged, tunnels=readable)
        times = [(hop["node"], hop["time_ns"]) for hop in hops]
        assert all(one[1] <= other[1] for one, other in pairwise(times) if one[0] == other[0])


@whole_length
@ways
def test_tunnels(recorded: Recorded, points: str, case: Case, family: int) -> None:
    underlay = {machine.name: machine.addresses[0] for machine in MACHINES.values()}
    for attempt, record in of(recorded, points, case, family, ledger=True):
        hops = [hop for hop in record["hops"] if hop["path"] == "request"]
        for one, other in pairwise(hops):
            if (one["interface"], other["interface"]) == ("flannel.1", "eth0"):
                here, there = (underlay[node] for node in (other["node"], next(each for each in NODES if each != other["node"])))
                assert other["tunnel"] == {"kind": "vxlan", "id": 1, "src": here, "dst": there}
        assert all(hop["tunnel"] is None for hop in hops if hop["interface"] != "eth0"), attempt


@whole_length
@evidence
@pytest.mark.parametrize("name", [case.name for case in CASES if case.status == "refused" and case.name != "nothing listens"])
def test_errors_belong_to_their_connection(recorded: Recorded, points: str, ledger: bool, name: str) -> None:
    """Every refusal but a RST is an ICMP error; each is attached, and none is left over."""
    tables = recorded.traced(points, ledger=ledger)[0].tables
    assert -1 not in tables.icmp_errors
    records = {f"c{connection + 1}" for connection in tables.icmp_errors}
    for case in (case for case in CASES if case.name == name):
        for family in case.families:
            assert all(record["id"] in records for _, record in of(recorded, points, case, family, ledger=ledger))


def test_a_reused_client_port_is_a_connection_each_time(recorded: Recorded) -> None:
    case = next(case for case in CASES if case.source_port)
    for family in case.families:
        pairs = list(of(recorded, "any", case, family, ledger=False))
        assert len({text(attempt.local) for attempt, _ in pairs}) == 1
        assert len({record["id"] for _, record in pairs}) == case.count
        assert len({end(record["translated"]) for _, record in pairs}) == case.count  # a port of its own each time


def test_the_lab_has_what_the_cases_say() -> None:
    assert {case.client for case in CASES} <= {*PODS, *MACHINES}
    assert len({key_of(case, 0) for case in CASES}) == len(CASES)
    assert text((address_of("client", 1), OUTSIDE_PORT)) == "[fd00:172:30::100]:9000"
    assert pod_named("vanished").node == "node-b"
