"""TLS ends at the ingress: read with the client's key log, and what is told without it."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.requests import RequestRecorder

from .shop import SITES
from .shopping import Asked, Records, Shop, Visit

CONNECTIONS = 23
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
HOST = SITES["secret"].host


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.log"


@pytest.fixture(scope="module")
def visit(shop: Shop, keys: Path) -> Visit:
    def secretly(shop: Shop) -> Iterator[Asked]:
        for number in range(CONNECTIONS):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(shop.folder / "certificate.pem")
            context.minimum_version = context.maximum_version = VERSIONS[number % 2]
            context.keylog_filename = str(keys)
            with shop.visitor(door="edge-tls", secret=context, host=HOST) as visitor:
                for request in range(1 + number % 3):
                    yield visitor.ask(next(shop.tokens), HOST, f"/items/{1 + number + request}")

    return shop.visit("secret", secretly)


def test_with_keys_requests_are_read_as_in_clear(visit: Visit, keys: Path) -> None:
    records = Records(visit, RequestRecorder(visit.traced(keys)))
    assert records.lost == []
    assert all(right for _, _, right in records.told())
    for asked in visit.asked:
        record = records.of(asked.token, "edge")
        assert (record["operation"], record["status"], record["host"]) == (f"GET {asked.path}", "200", HOST)
        assert record["tls"]["server_name"] == HOST
        assert record["ingress"]["name"] == "secret"
        assert record["ingress"]["agrees"] is True
        assert record["latency"]["total_ns"] <= asked.spent_ns + 1_000_000
    first = Counter(bool([part for part in record["latency"]["parts"] if part["kind"] == "tls"]) for record in records.on("edge"))
    assert first[True] == CONNECTIONS


def test_without_keys_a_connection_is_a_request_that_could_not_be_read(visit: Visit) -> None:
    records = visit.records
    served = records.on("edge")
    assert len(served) == CONNECTIONS
    versions = Counter(record["tls"]["version"] for record in served)
    assert sorted(versions.values()) == [CONNECTIONS // 2, CONNECTIONS - CONNECTIONS // 2]
    for record in served:
        assert (record["operation"], record["unread"], record["host"], record["ingress"]) == (None, "encrypted", HOST, None)
        parts = {part["kind"] for part in record["latency"]["parts"]}
        assert {"connect", "tls"} <= parts


def test_without_keys_what_the_ingress_called_still_belongs_to_the_connection(visit: Visit) -> None:
    """One after another: the only connection that was open is the one that was served."""
    records = visit.records
    local = {asked.token: asked.local for asked in visit.asked}
    calls = [record for record in records.all if record["client"]["name"] == "edge"]
    assert len(calls) == len(visit.asked)
    for call in calls:
        parent = records.by_id[call["parent"]]
        assert parent["original"]["src"] == local[records.token[call["id"]]]
