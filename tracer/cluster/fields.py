"""Raw API objects, read without trusting them: a missing or malformed field is None or empty, never an exception.

Objects are JSON as the API server sent it, or what somebody's script made of it. Times are int nanoseconds since the epoch.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from probes import addresses

Object = dict[str, Any]
SECOND_NS = 1_000_000_000


def at(value: Any, *path: str) -> Any:
    """What lies at `path` inside nested dicts; None where a step is missing or is no dict."""
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def string(value: Any, *path: str) -> str | None:
    """Non-empty text at `path`, else None."""
    found = at(value, *path)
    return found if isinstance(found, str) and found else None


def number(value: Any, *path: str) -> int | None:
    """A whole number at `path`, else None (bool is no number)."""
    found = at(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def dicts(value: Any, *path: str) -> list[Object]:
    """The dicts of the list at `path`; empty where there is none (Go writes empty lists as null)."""
    found = at(value, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def strings(value: Any, *path: str) -> list[str]:
    """The non-empty texts of the list at `path`."""
    found = at(value, *path)
    return [item for item in found if isinstance(item, str) and item] if isinstance(found, list) else []


def address(text: str | None) -> addresses.Address | None:
    """`probes.addresses.parse`, None where `text` is no address ("None", "", a host name)."""
    if not text:
        return None
    try:
        return addresses.parse(text)
    except ValueError:
        return None


def time_ns(text: Any) -> int | None:
    """Time of an RFC 3339 text (metav1.Time has seconds, metav1.MicroTime microseconds), else None."""
    if not isinstance(text, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * SECOND_NS + moment.microsecond * 1000


def created_ns(item: Object) -> int | None:
    """metadata.creationTimestamp."""
    return time_ns(at(item, "metadata", "creationTimestamp"))


def latest_ns(item: Object) -> int | None:
    """The latest moment that the object itself tells of: it was in this state no earlier than then (to the second).

    deletionTimestamp lies a grace period in the future, so that the period is taken off. The EndpointSlice annotation is
    discovery.k8s.io's trigger time. status.conditions' heartbeats count: they are when the status was written.
    """
    metadata = item.get("metadata")
    found = [
        created_ns(item),
        time_ns(at(item, "status", "startTime")),
        time_ns(at(metadata, "annotations", "endpoints.kubernetes.io/last-change-trigger-time")),
    ]
    found += [time_ns(entry.get("time")) for entry in dicts(metadata, "managedFields")]
    for condition in dicts(item, "status", "conditions"):
        found += [time_ns(condition.get(name)) for name in ("lastTransitionTime", "lastUpdateTime", "lastHeartbeatTime")]
    deletion = time_ns(at(metadata, "deletionTimestamp"))
    if deletion is not None:
        found.append(deletion - (number(metadata, "deletionGracePeriodSeconds") or 0) * SECOND_NS)
    return max((moment for moment in found if moment is not None), default=None)


def resource_version(item: Object) -> int | None:
    """metadata.resourceVersion as a number (comparable since KEP-5504, and in practice always with etcd), else None."""
    text = string(item, "metadata", "resourceVersion")
    return int(text) if text is not None and text.isdecimal() and text.isascii() else None


def controller(item: Object) -> tuple[str, str, str | None] | None:
    """`(kind, name, uid)` of the controlling owner reference, None where there is none."""
    for reference in dicts(item, "metadata", "ownerReferences"):
        kind, name = string(reference, "kind"), string(reference, "name")
        if reference.get("controller") is True and kind and name:
            return kind, name, string(reference, "uid")
    return None
