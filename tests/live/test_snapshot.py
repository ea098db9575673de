"""One moment: snapshots of a server that pages, forgets, refuses and hangs up."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.addresses import parse
from probes.schema import Problem
from tracer.cluster import read_cluster
from tracer.live import Api, ClusterError, connect, snapshot
from tracer.live.errors import DeniedError, LoginError, UnreachableError

from .server import PATHS, PODS, Fault, Recording, Server, answer, fast, only_reads, pod


def test_a_snapshot_has_every_object_of_every_page_as_the_server_sent_it(server: Server, api: Api, tmp_path: Path) -> None:
    server.page = 7
    for number in range(23):
        server.put(pod(f"web-{number}", f"10.244.0.{number + 2}"))
    server.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "uid": "s"}, "spec": {}})
    said: list[Problem] = []
    taken = snapshot(api, said.append, backoff=fast())
    assert said == []  # Gateway API is not served here, which is no news
    assert len(taken.items) == 24
    assert [query.get("continue") for query in server.asked(PODS, "list")] == [None, "7", "14", "21"]
    assert taken.items[-1]["spec"]["futureField"] == {"kept": True}
    assert "managedFields" not in taken.items[-1]["metadata"]
    path = tmp_path / "cluster.json"
    path.write_text("".join(taken.text()))
    document = json.loads(path.read_text())
    assert document["hopline"]["kinds"] == [
        "Node",
        "Service",
        "EndpointSlice",
        "Deployment",
        "ReplicaSet",
        "Ingress",
        "IngressClass",
        "Pod",
    ]
    timeline, problems = read_cluster([path])
    assert problems == []
    owners = [timeline.owner(parse(f"10.244.0.{number + 2}"), taken.time_ns) for number in range(23)]
    assert [owner and owner.name for owner in owners] == [f"web-{number}" for number in range(23)]


def test_only_lists_and_watches_of_the_known_kinds_are_ever_asked_for(server: Server, api: Api, record: Callable[..., Recording]) -> None:
    server.put(pod("web", "10.244.0.2"))
    snapshot(api, lambda _: None)
    recording = record()
    recording.until(lambda: len([1 for _, _, query, _ in server.requests if "watch" in query]) >= 7)
    assert only_reads(server)
    assert not any("secret" in where.lower() or "configmap" in where.lower() for _, where, _, _ in server.requests)
    assert {authorisation for *_, authorisation in server.requests} == {"Bearer sesame"}


def test_an_expired_continue_token_lists_anew_in_one_piece(server: Server, api: Api) -> None:
    server.page = 2
    for number in range(5):
        server.put(pod(f"web-{number}", f"10.244.0.{number + 2}"))
    server.faults[PODS, "continue"].append(answer(410))
    taken = snapshot(api, lambda _: None)
    assert [item["metadata"]["name"] for item in taken.items] == [f"web-{number}" for number in range(5)]
    assert [("limit" in query, "continue" in query) for query in server.asked(PODS, "list")] == [
        (True, False),
        (True, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    "fault", [answer(503), answer(429, Retry_After="0"), answer(500), lambda handler, _: handler.connection.shutdown(2)]
)
def test_a_snapshot_waits_out_a_busy_server(fault: Fault, server: Server, api: Api) -> None:
    server.put(pod("web", "10.244.0.2"))
    server.faults[PODS, "list"].extend([fault, fault])
    assert len(snapshot(api, lambda _: None, backoff=fast()).items) == 1


def test_a_kind_that_is_denied_is_said_and_the_others_are_read(server: Server, api: Api) -> None:
    server.put(pod("web", "10.244.0.2"))
    server.always[PATHS["Node"]] = answer(403)
    said: list[Problem] = []
    taken = snapshot(api, said.append)
    assert [(problem.file, "403 no: 403" in problem.what) for problem in said] == [("/api/v1/nodes", True)]
    assert "list" in said[0].remedy
    assert "Node" not in taken.kinds
    assert len(taken.items) == 1


@pytest.mark.parametrize(("code", "error"), [(401, LoginError), (403, DeniedError)])
def test_where_everything_is_refused_there_is_no_snapshot(code: int, error: type[ClusterError], server: Server, api: Api) -> None:
    server.always = dict.fromkeys(PATHS.values(), answer(code))
    with pytest.raises(error) as caught:
        snapshot(api, lambda _: None)
    assert caught.value.remedy


def test_a_namespace_is_asked_for_by_its_path_and_makes_no_claim_of_completeness(server: Server, api: Api) -> None:
    server.objects = {f"/api/v1/namespaces/shop/{plural}": {} for plural in ("pods", "services")} | {"/api/v1/nodes": {}}
    said: list[Problem] = []
    taken = snapshot(api, said.append, namespace="shop")
    assert json.loads("".join(taken.text()))["hopline"].keys() == {"time_ns", "end_ns", "namespace"}
    assert {where for _, where, _, _ in server.requests} >= {"/api/v1/namespaces/shop/pods", "/api/v1/nodes"}
    assert len(said) == 5  # the kinds that this server does not have


def test_a_server_out_of_reach_is_an_error_with_a_remedy(kubeconfig: Path, server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kubeconfig.write_text(kubeconfig.read_text().replace(str(server.http.server_port), str(taken.getsockname()[1])))
        with pytest.raises(UnreachableError, match="kubeconfig"):
            snapshot(connect(kubeconfig), lambda _: None, backoff=fast())
