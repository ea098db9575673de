"""What a long-running command serves on its port."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from probes.live.metrics import Endpoint, Family, address_of, probe_counters


class Process:
    """Something with counters that may not be ready yet."""

    def __init__(self) -> None:
        self.seen, self.reason = 0, None

    def families(self) -> Iterator[Family]:
        yield probe_counters({"packets": {"seen": self.seen, "written": self.seen - 2, "dropped": 2}})
        yield Family("hopline_recordings", "Recordings kept.", "gauge", {(): 3.0})

    def unready(self) -> str | None:
        return self.reason


def get(endpoint: Endpoint, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{host}:{endpoint.port}{path}", timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_the_counters_of_this_moment() -> None:
    process = Process()
    endpoint = Endpoint("127.0.0.1:0", process.families, process.unready)
    try:
        for process.seen in (23, 101):
            status, text = get(endpoint, "/metrics")
            samples = {(s.name, *s.labels.values()): s.value for family in text_string_to_metric_families(text) for s in family.samples}
            assert status == 200
            assert samples == {
                ("hopline_probe_events_total", "packets", "seen"): process.seen,
                ("hopline_probe_events_total", "packets", "written"): process.seen - 2,
                ("hopline_probe_events_total", "packets", "dropped"): 2,
                ("hopline_recordings",): 3,
            }
    finally:
        endpoint.close()


def test_health_is_being_there_and_readiness_has_a_reason() -> None:
    process = Process()
    endpoint = Endpoint("127.0.0.1:0", process.families, process.unready)
    try:
        assert (get(endpoint, "/healthz"), get(endpoint, "/readyz")) == ((200, "ok\n"), (200, "ok\n"))
        process.reason = "no space left"
        assert (get(endpoint, "/healthz"), get(endpoint, "/readyz")) == ((200, "ok\n"), (503, "no space left\n"))
        assert get(endpoint, "/else")[0] == 404
    finally:
        endpoint.close()
    with pytest.raises(OSError, match="refused"):
        get(endpoint, "/healthz")


@pytest.mark.parametrize(("listen", "hosts"), [("[::1]:0", ["[::1]"]), (":0", ["[::1]", "127.0.0.1"])])
def test_ipv6_and_both_families(listen: str, hosts: list[str]) -> None:
    endpoint = Endpoint(listen, Process().families)
    try:
        assert [get(endpoint, "/healthz", host) for host in hosts] == [(200, "ok\n")] * len(hosts)
    finally:
        endpoint.close()


@pytest.mark.parametrize("listen", ["9474", "::1:80", "host:", "host:http", ":65536", ""])
def test_an_address_that_is_none_is_said(listen: str) -> None:
    with pytest.raises(ValueError, match="ADDRESS:PORT"):
        address_of(listen)
