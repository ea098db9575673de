"""The level of the Pod Security Standards that a pod needs (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

LEVELS = ("restricted", "baseline", "privileged")  # from the strictest
BASELINE_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
    "SETUID", "SYS_CHROOT",
}  # fmt: skip
BASELINE_SYSCTLS: set[str] = set()  # none is asked for
RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECCOMP = {"RuntimeDefault", "Localhost"}

Pod = dict[str, Any]


def containers(pod: Pod) -> list[dict[str, Any]]:
    return [container for kind in ("initContainers", "containers", "ephemeralContainers") for container in pod.get(kind, [])]


def _effective(pod: Pod, field: str) -> list[Any]:
    """A setting of every container, the pod's where the container has none."""
    of_pod = pod.get("securityContext", {}).get(field)
    return [container.get("securityContext", {}).get(field, of_pod) for container in containers(pod)]


def _capabilities(pod: Pod, change: str) -> list[set[str]]:
    return [set(c.get("securityContext", {}).get("capabilities", {}).get(change, [])) for c in containers(pod)]


def _host_ports(pod: Pod) -> Iterator[int]:
    return (port.get("hostPort", 0) for container in containers(pod) for port in container.get("ports", []))


def _seccomp(pod: Pod) -> list[Any]:
    return [(profile or {}).get("type") for profile in _effective(pod, "seccompProfile")]


# What a level asks for; a pod that fails one needs the next level.
CONTROLS: dict[str, dict[str, Callable[[Pod], bool]]] = {
    "baseline": {
        "host namespaces": lambda pod: not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
        "privileged": lambda pod: not any(_effective(pod, "privileged")),
        "capabilities": lambda pod: all(added <= BASELINE_CAPABILITIES for added in _capabilities(pod, "add")),
        "hostPath": lambda pod: not any("hostPath" in volume for volume in pod.get("volumes", [])),
        "host ports": lambda pod: not any(_host_ports(pod)),
        "seccomp": lambda pod: "Unconfined" not in _seccomp(pod),
        "proc mount": lambda pod: set(_effective(pod, "procMount")) <= {None, "Default"},
        "sysctls": lambda pod: {s["name"] for s in pod.get("securityContext", {}).get("sysctls", [])} <= BASELINE_SYSCTLS,
    },
    "restricted": {
        "volumes": lambda pod: all(set(volume) - {"name"} <= RESTRICTED_VOLUMES for volume in pod.get("volumes", [])),
        "privilege escalation": lambda pod: set(_effective(pod, "allowPrivilegeEscalation")) == {False},
        "non-root": lambda pod: set(_effective(pod, "runAsNonRoot")) == {True},
        "non-root user": lambda pod: 0 not in _effective(pod, "runAsUser"),
        "seccomp": lambda pod: set(_seccomp(pod)) <= SECCOMP,
        "capabilities": lambda pod: (
            all("ALL" in dropped for dropped in _capabilities(pod, "drop"))
            and all(added <= {"NET_BIND_SERVICE"} for added in _capabilities(pod, "add"))
        ),
    },
}


def failing(pod: Pod, level: str) -> list[str]:
    """The controls of a level that this pod does not meet, without those of the levels below."""
    return [name for name, met in CONTROLS[level].items() if not met(pod)]


def level_of(pod: Pod) -> str:
    """The strictest level that admits the pod."""
    if failing(pod, "baseline"):
        return "privileged"
    return "baseline" if failing(pod, "restricted") else "restricted"
