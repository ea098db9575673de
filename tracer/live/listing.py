"""All objects of one kind, page by page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tracer.live.api import Api, Backoff
from tracer.live.errors import BusyError, GoneError, UnreachableError
from tracer.live.resources import Resource

PAGE = 500  # objects; kubectl's and client-go's size
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects of one kind, and the resourceVersion to watch from."""

    items: list[dict[str, Any]]
    resource_version: str


def list_all(api: Api, resource: Resource, namespace: str | None = None) -> Listing:
    """List a kind in pages of `PAGE`. Raises a `ClusterError`.

    A continue token lives about five minutes; where it has expired (410), the list is made anew and in one piece, as client-go does:
    a list that could not be paged in time once will not be the next time.
    """
    try:
        return _pages(api, resource, namespace, {"limit": str(PAGE)})
    except GoneError:
        return _pages(api, resource, namespace, {})


def list_patiently(
    api: Api, resource: Resource, namespace: str | None, wait: Callable[[float], object], backoff: Backoff, attempts: int = ATTEMPTS
) -> Listing:
    """`list_all`, tried again where the server is out of reach or busy; the last error is raised."""
    for _ in range(attempts - 1):
        try:
            return list_all(api, resource, namespace)
        except (UnreachableError, BusyError) as error:
            wait(max(backoff.seconds(), error.after_seconds if isinstance(error, BusyError) else 0.0))
    return list_all(api, resource, namespace)


def _pages(api: Api, resource: Resource, namespace: str | None, query: dict[str, str]) -> Listing:
    items: list[dict[str, Any]] = []
    query = dict(query)
    while True:
        page = api.get(resource.path(namespace), query)
        metadata = page.get("metadata") or {}
        items += [whole(item, resource) for item in page.get("items") or [] if isinstance(item, dict)]
        if not metadata.get("continue"):
            return Listing(items, str(metadata.get("resourceVersion") or ""))
        query["continue"] = str(metadata["continue"])


def whole(item: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """The object with its kind and apiVersion, which items of a typed list lack, and without managedFields (half its size, for servers)."""
    complete = {"kind": resource.kind, "apiVersion": resource.api_version, **item}
    metadata = complete.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        complete["metadata"] = {name: value for name, value in metadata.items() if name != "managedFields"}
    return complete
