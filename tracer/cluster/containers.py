"""Which pod and container a cgroup is, by its path: as the kubelet and container runtimes lay them out.

The kubelet makes a cgroup per pod (kubernetes/pkg/kubelet/cm/cgroup_manager_linux.go), in systemd's way or plainly; the runtime makes the
containers' inside it. A static pod's uid there is the hash of its manifest, which its API object has in an annotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tracer.cluster.fields import dicts, string
from tracer.cluster.lives import Life

CONFIG_HASH = "kubernetes.io/config.hash"
_UID = r"pod(?P<uid>[0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{12})"
_ID = r"(?P<id>[0-9a-f]{64})"
LAYOUTS = tuple(
    re.compile(pattern)
    for pattern in (
        # containerd, CRI-O, cri-dockerd: /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope
        rf"-{_UID}\.slice/(?:cri-containerd|crio|docker|libpod)-{_ID}\.scope(?:/|$)",
        # containerd that does not know of systemd: /system.slice/containerd.service/kubepods-burstable-podUID.slice:cri-containerd:ID
        rf"-{_UID}\.slice:cri-containerd:{_ID}(?:/|$)",
        # cgroupfs: /kubepods/burstable/podUID/ID
        rf"/{_UID}/(?:crio-)?{_ID}(?:/|$)",
        # the pod's, with what is not a container: /kubepods/podUID
        rf"[-/]{_UID}(?:\.slice)?(?:[/:]|$)",
    )
)


def container_of(path: str) -> tuple[str | None, str | None]:
    """`(pod uid, container id)` of a cgroup's path, each None where it is no pod's, or no container's."""
    for layout in LAYOUTS:
        found = layout.search(path)
        if found:
            named = found.groupdict()
            return named["uid"].replace("_", "-"), named.get("id")  # systemd keeps "-" for its hierarchy
    return None, None


class Containers:
    """Pods by the containers and uids that cgroups are called by; `lives` are those of Pods."""

    def __init__(self, lives: Iterable[Life]) -> None:
        self._containers: dict[str, tuple[str, str | None]] = {}  # container id: (key of the life, container's name)
        self._pods: dict[str, str] = {}  # uid, or a static pod's hash: key of the life
        for life in lives:
            self._pods[life.key] = life.key
            for version in life.versions:
                static = string(version.item, "metadata", "annotations", CONFIG_HASH)
                if static:
                    self._pods[static] = life.key
                for statuses in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
                    for status in dicts(version.item, "status", statuses):
                        for identity in (string(status, "containerID"), string(status, "lastState", "terminated", "containerID")):
                            if identity:  # containerd://ID
                                self._containers[identity.rpartition("/")[2]] = life.key, string(status, "name")

    def find(self, path: str) -> tuple[str, str | None] | None:
        """`(key of the pod's life, container's name)` of a cgroup's path; None where it is of no pod that is known."""
        uid, container = container_of(path)
        if container in self._containers:
            return self._containers[container]
        return (self._pods[uid], None) if uid in self._pods else None
