"""The judge of what is recorded in the VM sees every fact that is missing or wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from vm.truth import FACTS, Call, judge

CLIENT, VIP, SNAT, POD = "10.244.1.10:40001", "10.96.0.10:80", "10.244.1.1:50001", "10.244.2.12:8080"
CALL = Call("t00001", "pod to ClusterIP", "shop/front", "shop/web", CLIENT, VIP, 7, "200", SNAT, POD, "shop/web-b")
RECORD: dict[str, Any] = {
    "id": "r1", "start_ns": 8, "parent": None, "status": "200", "original": {"proto": "tcp", "src": CLIENT, "dst": VIP},
    "translated": {"proto": "tcp", "src": SNAT, "dst": POD}, "client": {"kind": "pod", "namespace": "shop", "name": "front"},
    "server": {"kind": "pod", "namespace": "shop", "name": "web-b"}, "service": {"namespace": "shop", "name": "web", "via": "ClusterIP"},
    "problems": [],
}  # fmt: skip
FAR = RECORD | {"id": "r2", "original": {"proto": "tcp", "src": SNAT, "dst": POD}}
NODE = {"kind": "node", "namespace": None, "name": "node-a"}


def test_what_is_right_is_exact() -> None:
    found = judge([CALL], [RECORD])
    assert (found.judged, found.exact, found.wrong, found.told) == (1, 1, 0, [])
    assert {fact for fact, _ in found.tally} == set(FACTS)


@pytest.mark.parametrize(
    ("fact", "records", "verdict"),
    [
        ("translated", [RECORD | {"translated": RECORD["original"]}], "wrong"),
        ("translated", [RECORD | {"translated": None}], "missing"),
        ("client", [RECORD | {"client": NODE}], "wrong"),
        ("server", [RECORD | {"server": NODE}], "wrong"),
        ("server", [RECORD | {"server": None}], "missing"),
        ("service", [RECORD | {"service": {"namespace": "shop", "name": "self", "via": "ClusterIP"}}], "wrong"),
        ("service", [RECORD | {"service": None}], "missing"),
        ("parent", [RECORD | {"parent": "r7"}], "wrong"),
        ("status", [RECORD | {"status": "404"}], "wrong"),
        ("unjoined", [RECORD, FAR], "wrong"),
        ("unjoined", [RECORD, RECORD | {"id": "r2"}], "wrong"),
        ("translated", [], "missing"),
    ],
)
def test_what_is_not_is_told(fact: str, records: list[dict[str, Any]], verdict: str) -> None:
    found = judge([CALL], records)
    assert found.tally[fact, verdict] == 1
    assert found.told
    assert (found.wrong > 0) == (verdict == "wrong")
    assert found.exact == (fact == "unjoined")


def test_a_service_that_was_not_asked_for_is_wrong() -> None:
    assert judge([replace(CALL, service=None)], [RECORD]).tally["service", "wrong"] == 1


def test_of_what_nobody_accepted_only_the_client_s_side_is_judged() -> None:
    refused = replace(CALL, status="refused", peer=None, local=None, server=None)
    found = judge([refused], [RECORD | {"status": "refused", "server": None, "translated": None}])
    assert (found.exact, found.wrong) == (1, 0)
