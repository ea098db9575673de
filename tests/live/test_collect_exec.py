"""Commands in containers over WebSockets, and what a Service's watch tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tracer.live import Api, ClusterError, connect
from tracer.live import executing as executing_module
from tracer.live.collecting import EndpointChanges
from tracer.live.errors import BusyError, DeniedError, LoginError, NotServedError, UnreachableError

from . import cluster_server
from .cluster_server import Container, cut_after
from .collected import Cluster


@pytest.fixture(params=["v4.channel.k8s.io", "v5.channel.k8s.io"])
def run(request: pytest.FixtureRequest, cluster: Cluster) -> Callable[..., tuple[bytes, bytes, int | None]]:
    """Run a command in a container: its outputs and exit code."""
    cluster.server.protocol = request.param
    cluster.server.containers["pod"] = Container([], {"PATH": "/usr/bin:/bin"})
    api: Api = connect(cluster.kubeconfig)

    def command(*words: str, pod: str = "pod") -> tuple[bytes, bytes, int | None]:
        execution = api.execute("hopline", pod, "agent", words)
        pieces = list(execution.pieces())
        out, errors = (b"".join(content for each, content in pieces if each == channel) for channel in (1, 2))
        return out, errors, execution.code

    return command


def test_output_errors_and_code_are_the_commands(run: Callable[..., Any]) -> None:
    assert run("sh", "-c", "printf 'a\\0\\377\\n'; printf b >&2; exit 23") == (b"a\0\xff\n", b"b", 23)
    assert run("true", "", "") == (b"", b"", 0)
    assert run("printf", "%s|", "a b", "--", "&c=d", "é") == ("a b|--|&c=d|é|".encode(), b"", 0)


def test_much_output_arrives_whole(run: Callable[..., Any]) -> None:
    out, _, code = run("sh", "-c", "seq 1 1000003")
    assert (code, out) == (0, b"".join(b"%d\n" % number for number in range(1, 1000004)))


def test_a_connection_that_breaks_is_no_end(cluster: Cluster, run: Callable[..., Any]) -> None:
    cluster.server.exec_faults["pod", "seq 9999"].append(cut_after(100))
    with pytest.raises(UnreachableError, match="broke"):
        run("sh", "-c", "seq 9999")


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, LoginError), (403, DeniedError), (404, NotServedError), (429, BusyError), (500, BusyError), (400, ClusterError)],
)
def test_a_refusal_is_told_by_its_kind(status: int, error: type[ClusterError], cluster: Cluster, run: Callable[..., Any]) -> None:
    cluster.server.exec_faults["pod", "x"].append(status)
    with pytest.raises(error, match=f"no: {status}") as caught:
        run("sh", "-c", "x")
    assert type(caught.value) is error
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        ({"status": "Failure", "reason": "InternalError", "message": "container not running"}, ClusterError, "container not running"),
        ({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "x"}]}}, ClusterError, "Failure"),
        (["Success"], UnreachableError, "status is none"),
    ],
)
def test_a_status_without_an_exit_code_is_an_error(
    status: object, error: type[ClusterError], word: str, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    monkeypatch.setattr(cluster_server, "_status", lambda _: status)
    with pytest.raises(error, match=word) as caught:
        run("true")
    assert type(caught.value) is error


def test_a_silent_command_is_given_up_and_a_talking_one_not(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing_module, "QUIET_SECONDS", 1.0)
    assert run("sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done")[2] == 0
    with pytest.raises(UnreachableError, match="ended before the command did"):
        run("sh", "-c", "sleep 5")


def test_waiting_ends_when_the_operator_says_so(cluster: Cluster, run: Callable[..., Any]) -> None:
    class EnoughError(Exception):
        pass

    def tick() -> None:
        raise EnoughError

    execution = connect(cluster.kubeconfig).execute("hopline", "pod", "agent", ["sleep", "5"])
    with pytest.raises(EnoughError):
        list(execution.pieces(tick))


def endpoints(*addresses: str, service: str = "web", namespace: str = "shop", kind: str = "EndpointSlice", **more: Any) -> bytes:
    item = {
        "kind": kind,
        "metadata": {"namespace": namespace, "name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"port": 8080}, {"port": 9090}],
        **more,
    }
    return json.dumps({"ts": 100.5, "type": "MODIFIED", "object": item}).encode()


@pytest.mark.parametrize(
    ("line", "added"),
    [
        (endpoints("10.244.0.2"), []),
        (endpoints("10.244.0.2", "10.244.0.3"), [("10.244.0.3", 8080), ("10.244.0.3", 9090)]),
        (endpoints("fd00:0::3"), [("fd00::3", 8080), ("fd00::3", 9090)]),
        (endpoints("10.244.0.3", service="other"), []),
        (endpoints("10.244.0.3", namespace="other"), []),
        (endpoints("10.244.0.3", kind="Pod"), []),
        (endpoints("example.test", addressType="FQDN"), []),
        (endpoints("10.244.0.3", ports=None), []),
        (endpoints("10.244.0.3", ports=[{"name": "any"}]), []),
        (endpoints(endpoints=None), []),
    ],
)
def test_endpoints_that_recorders_were_not_told_of(line: bytes, added: list[tuple[str, int]]) -> None:
    changes = EndpointChanges("shop", "web", [("10.244.0.2", 8080), ("10.244.0.2", 9090)])
    changes.take(line)
    assert changes.added == dict.fromkeys(added, 100.5)
