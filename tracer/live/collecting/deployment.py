"""Agents for as long as a recording takes: created from the manifest where there are none, and deleted afterwards."""

from __future__ import annotations

import threading
import time
from typing import Any

from tracer.live.api import Api
from tracer.live.collecting.agents import CONTAINER
from tracer.live.errors import ClusterError, ConflictError, NotServedError
from tracer.live.resources import Resource

POLL_SECONDS = 1.0
# What a DaemonSet needs to run, in the order in which it is created.
_KINDS = (
    Resource("Namespace", "v1", "namespaces", namespaced=False),
    Resource("PriorityClass", "scheduling.k8s.io/v1", "priorityclasses", namespaced=False),
    Resource("ServiceAccount", "v1", "serviceaccounts"),
    Resource("DaemonSet", "apps/v1", "daemonsets"),
)


def agent_objects(manifest: str, image: str | None = None) -> list[dict[str, Any]]:
    """The DaemonSet of a rendered manifest and what it needs, with `image` in its container where one is given. ValueError without one."""
    import yaml  # noqa: PLC0415 - only where agents are put up

    try:
        documents = [each for each in yaml.safe_load_all(manifest) if isinstance(each, dict)]
        (daemons,) = (each for each in documents if each.get("kind") == "DaemonSet")
        pod = daemons["spec"]["template"]["spec"]
        (container,) = (each for each in pod["containers"] if each["name"] == CONTAINER)
        needed = {
            "Namespace": daemons["metadata"]["namespace"],
            "PriorityClass": pod.get("priorityClassName"),
            "ServiceAccount": pod.get("serviceAccountName"),
            "DaemonSet": daemons["metadata"]["name"],
        }
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no manifest of agents: {error} (one DaemonSet with a container `{CONTAINER}` is expected)") from error
    container["image"] = image or container["image"]
    return [
        each for kind in _KINDS for each in documents if each.get("kind") == kind.kind and each["metadata"]["name"] == needed[kind.kind]
    ]


class Deployment:
    """The objects that this process created. What was there before is neither changed nor deleted."""

    def __init__(self, api: Api, objects: list[dict[str, Any]]) -> None:
        self._api, self._objects = api, objects
        self._created: list[tuple[str, str]] = []  # (path, how people call it)
        self.namespace = str(objects[-1]["metadata"]["namespace"])
        self._daemons = _path(objects[-1])

    def create(self) -> None:
        """Create what is not there. Raises a `ClusterError`; what was created until then is `remove`'s."""
        for item in self._objects:
            collection = _path(item).rpartition("/")[0]
            try:
                self._api.change("POST", collection, {"fieldManager": "hopline"}, item, "application/json")
            except ConflictError:
                continue
            self._created.append((_path(item), f"{item['kind']} {item['metadata']['name']}"))

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Until the agents of all nodes are ready. Whether they are, after `seconds` at most, or when `stop` was set."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stop.is_set():
            item = self._api.get(self._daemons, {})
            status = item.get("status") or {}
            wanted = status.get("desiredNumberScheduled") or 0
            seen = (status.get("observedGeneration") or 0) >= (item["metadata"].get("generation") or 0)
            if seen and wanted and (status.get("numberReady") or 0) >= wanted:
                return True
            stop.wait(POLL_SECONDS)
        return False

    def remove(self) -> list[str]:
        """Delete what was created. What could not be deleted, and why."""
        left = []
        for path, name in reversed(self._created):
            try:
                self._api.change("DELETE", path, {}, {"propagationPolicy": "Foreground"}, "application/json")
            except NotServedError:
                continue
            except ClusterError as error:
                left.append(f"{name}: {error}")
        self._created.clear()
        return left


def _path(item: dict[str, Any]) -> str:
    (kind,) = (each for each in _KINDS if each.kind == item["kind"])
    return f"{kind.path(item['metadata'].get('namespace'))}/{item['metadata']['name']}"
