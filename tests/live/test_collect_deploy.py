"""Agents that are there for one recording: created from the manifest, waited for, deleted."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tracer.live import Api, ClusterError, connect
from tracer.live.collecting import Deployment, agent_objects

from .cluster_server import ClusterServer, agent_pod
from .collected import PATIENCE_SECONDS, Cluster, until
from .server import ROOT
from .test_collect import QUICK, expected, fetched

MANIFEST = ROOT / "deploy" / "hopline.yaml"
ORDER = [
    "/api/v1/namespaces",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/api/v1/namespaces/hopline/serviceaccounts",
    "/apis/apps/v1/namespaces/hopline/daemonsets",
]
NAMES = ("hopline", "hopline-guest", "hopline-agent", "hopline-agent")


def becomes_ready(server: ClusterServer, node: str) -> None:
    """The cluster's part: the DaemonSet's controller starts a pod on the node and says so."""

    def start(item: dict[str, Any]) -> None:
        server.put(agent_pod(node))
        item["status"] = {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 1}

    server.on_daemonset = start


def without_agent(cluster: Cluster, node: str) -> None:
    cluster.add(node)
    cluster.server.delete(agent_pod(node))


def test_agents_come_and_go_with_the_recording(cluster: Cluster, tmp_path: Path) -> None:
    without_agent(cluster, "node-a")
    becomes_ready(cluster.server, "node-a")
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK, "--deploy", "--image", "registry.example/hopline:7")
    assert done.code == 0, done.said
    assert fetched(tmp_path / "bundle", "node-a") == expected("node-a")
    paths = [f"{path}/{name}" for path, name in zip(ORDER, NAMES, strict=True)]
    assert cluster.server.changes == [*(("POST", path) for path in ORDER), *(("DELETE", path) for path in reversed(paths))]
    assert cluster.server.created == {}


def test_what_was_there_before_stays(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("node-a")
    for item, path in zip(agent_objects(MANIFEST.read_text()), ORDER, strict=True):
        item["status"] = {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 1}
        cluster.server.created[f"{path}/{item['metadata']['name']}"] = item
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK, "--deploy")
    assert done.code == 0, done.said
    assert cluster.server.changes == [("POST", path) for path in ORDER]
    assert len(cluster.server.created) == 4


def test_what_is_denied_half_way_is_taken_back(cluster: Cluster, tmp_path: Path) -> None:
    without_agent(cluster, "node-a")
    cluster.server.denied.add(ORDER[3])
    done = cluster.collect("-o", tmp_path / "bundle", *QUICK, "--deploy")
    assert done.code == 1
    assert "daemonsets: 403" in done.said
    assert cluster.server.created == {}


def test_an_interrupted_deployment_is_taken_back(cluster: Cluster, tmp_path: Path) -> None:
    without_agent(cluster, "node-a")  # and no controller: never ready
    with subprocess.Popen(cluster.command("-o", tmp_path / "bundle", "--deploy"), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: len(cluster.server.created) == 4)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1, said
    assert cluster.server.created == {}


def test_what_cannot_be_deleted_is_named(cluster: Cluster) -> None:
    api: Api = connect(cluster.kubeconfig)
    deployment = Deployment(api, agent_objects(MANIFEST.read_text()))
    deployment.create()
    cluster.server.denied.add(f"{ORDER[1]}/hopline-guest")
    (left,) = deployment.remove()
    assert left.startswith("PriorityClass hopline-guest: ")
    assert list(cluster.server.created) == [f"{ORDER[1]}/hopline-guest"]
    assert deployment.remove() == []
    cluster.server.go_away()
    with pytest.raises(ClusterError, match="cannot be reached"):
        Deployment(api, agent_objects(MANIFEST.read_text())).create()


def test_only_what_agents_need_is_created() -> None:
    objects = agent_objects(MANIFEST.read_text(), image="elsewhere:1")
    assert [(each["kind"], each["metadata"]["name"]) for each in objects] == list(
        zip(("Namespace", "PriorityClass", "ServiceAccount", "DaemonSet"), NAMES, strict=True)
    )
    assert [each["image"] for each in objects[-1]["spec"]["template"]["spec"]["containers"]] == ["elsewhere:1"]


@pytest.mark.parametrize("text", ["", "]", "kind: DaemonSet", "kind: Deployment\nmetadata: {name: x}", "- 1"])
def test_a_manifest_without_agents_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="no manifest of agents"):
        agent_objects(text)
