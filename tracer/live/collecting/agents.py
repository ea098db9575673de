"""The pods that record: one per node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from probes.schema import Problem
from tracer.live.api import Api
from tracer.live.errors import ClusterError

CONTAINER = "agent"
_SYSTEM = "kubernetes.io/os"  # a node's label


@dataclass(frozen=True, slots=True)
class Agent:
    """Where a node's recorder is."""

    node: str
    namespace: str
    pod: str
    container: str = CONTAINER


def find_agents(api: Api, namespace: str, selector: str, nodes: Sequence[str], say: Callable[[Problem], None]) -> list[Agent]:
    """The running agents of `nodes` (of all, where none is named), by node. Nodes without one are told to `say`.

    Raises a `ClusterError` where pods cannot be listed.
    """
    path = f"/api/v1/namespaces/{namespace}/pods"
    newest: dict[str, tuple[str, Agent]] = {}
    for pod in api.get(path, {"labelSelector": selector}).get("items") or []:
        node = str(pod["spec"].get("nodeName") or "")
        if node and _records(pod):
            found = (str(pod["metadata"].get("creationTimestamp")), Agent(node, namespace, str(pod["metadata"]["name"])))
            newest[node] = max(newest.get(node, found), found, key=lambda each: each[0])  # while a DaemonSet is rolled out there may be two
    for node in sorted(set(nodes or _nodes(api, say)) - newest.keys()):
        remedy = f"nothing is recorded there; see `kubectl -n {namespace} get pods -o wide -l {selector}`"
        say(Problem(node, "no agent runs on this node", remedy))
    return [agent for node, (_, agent) in sorted(newest.items()) if not nodes or node in nodes]


def _records(pod: dict[str, Any]) -> bool:
    """Whether a pod's agent can be asked now."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any(status.get("name") == CONTAINER and "running" in (status.get("state") or {}) for status in statuses)


def _nodes(api: Api, say: Callable[[Problem], None]) -> list[str]:
    try:
        nodes = api.get("/api/v1/nodes", {}).get("items") or []
        return [str(node["metadata"]["name"]) for node in nodes if (node["metadata"].get("labels") or {}).get(_SYSTEM, "linux") == "linux"]
    except ClusterError as error:
        say(Problem("nodes", error.what, f"{error.remedy}; nodes without an agent are not noticed"))
        return []
