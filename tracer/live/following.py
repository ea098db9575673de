"""One kind, followed: list, watch from there, and list anew when the server has forgotten where we were."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from probes.schema import Problem
from tracer.live.api import Api, Backoff, failure
from tracer.live.errors import BusyError, ClusterError, GoneError, UnreachableError
from tracer.live.listing import Listing, list_all, whole
from tracer.live.resources import Resource

WATCH_SECONDS = 290  # asked of the server (timeoutSeconds), as client-go asks for five to ten minutes
QUIET_SECONDS = 90.0  # bookmarks come about once a minute: longer silence may be a dead connection, and resuming costs little
TRIES_BEFORE_LISTING = 5  # failures in a row after which the resourceVersion itself is doubted

Emit = Callable[[str, dict[str, Any]], None]  # type of the event, object
Say = Callable[[Problem], None]


class Known:
    """The objects of one kind that have been reported, so that a new list can be told as events."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[str, bytes]] = {}  # key: (resourceVersion, JSON); text is a tenth of the dicts' size

    def event(self, how: str, item: dict[str, Any]) -> None:
        """Take note of an event."""
        key, version = _identity(item)
        if how == "DELETED":
            self._objects.pop(key, None)
        else:
            self._objects[key] = (version, json.dumps(item).encode())

    def listed(self, items: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """The events that lead from what was known to `items`: deletions first, so that an address is free before it is taken."""
        now = {_identity(item)[0]: item for item in items}
        gone = [key for key in self._objects if key not in now]
        events = [("DELETED", json.loads(self._objects[key][1])) for key in gone]
        for key, item in now.items():
            if key not in self._objects:
                events.append(("ADDED", item))
            elif self._objects[key][0] != _identity(item)[1]:
                events.append(("MODIFIED", item))
        return events


def _identity(item: dict[str, Any]) -> tuple[str, str]:
    metadata = item.get("metadata") or {}
    return str(metadata.get("uid") or (metadata.get("namespace"), metadata.get("name"))), str(metadata.get("resourceVersion"))


class Follower:
    """Follows one kind until `stop` is set. `emit` gets every change; `say` what the operator should know."""

    def __init__(self, api: Api, resource: Resource, namespace: str | None, emit: Emit, say: Say, stop: threading.Event) -> None:
        self._api, self._resource, self._namespace = api, resource, namespace
        self._emit, self._say, self._stop = emit, say, stop
        self._known = Known()
        self._version: str | None = None
        self._failures = 0
        self._told = False
        self.backoff = Backoff()
        self.quiet_seconds = QUIET_SECONDS

    @property
    def path(self) -> str:
        """The collection that is followed."""
        return self._resource.path(self._namespace)

    def start(self, listing: Listing) -> None:
        """Report a list: everything in it the first time, the differences later."""
        for how, item in self._known.listed(listing.items):
            self._change(how, item)
        self._version = listing.resource_version

    def run(self) -> None:
        """Watch until `stop`; every failure is followed by another try, sooner or later."""
        while not self._stop.is_set():
            try:
                if self._version is None:
                    self.start(list_all(self._api, self._resource, self._namespace))
                self._watch(self._version or "")
                self._failures = 0
            except ClusterError as error:
                if not self._stop.is_set():
                    self._after(error)

    def _after(self, error: ClusterError) -> None:
        """Wait, and decide where to go on. Broken connections are daily bread; what lasts is said once."""
        self._failures += 1
        if isinstance(error, GoneError) or self._failures % TRIES_BEFORE_LISTING == 0:
            self._version = None
        lasting = self._failures >= TRIES_BEFORE_LISTING or not isinstance(error, GoneError | BusyError | UnreachableError)
        if lasting and not self._told:
            self._told = True
            self._say(Problem(self.path, error.what, f"{error.remedy}; trying on, changes meanwhile are caught up with later"))
        self._stop.wait(max(self.backoff.seconds(), error.after_seconds if isinstance(error, BusyError) else 0.0))

    def _watch(self, version: str) -> None:
        """One watch request, to its end."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        began, events = time.monotonic(), 0
        for line in self._api.lines(self.path, query, self.quiet_seconds):
            if self._stop.is_set():
                return
            self._take(line)
            events += 1
            self._failures, self._told = 0, False
            self.backoff.reset()
        if not events and time.monotonic() - began < 1.0:
            raise UnreachableError(f"{self.path}: the server ends watches at once", "a proxy between may not pass streams on")

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            how, item = str(event["type"]), event["object"]
            version = str(item["metadata"].get("resourceVersion") or "") if how != "ERROR" else ""
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreachableError(f"{self.path}: a line of the watch is no event: {error}", "the watch is resumed") from error
        if how == "ERROR":
            # A Status object; its code is what an HTTP status would have been, had the answer not begun already.
            code = item.get("code") if isinstance(item, dict) else None
            raise failure(code if isinstance(code, int) else 500, self.path, json.dumps(item).encode())
        if how != "BOOKMARK":
            self._change(how, whole(item, self._resource))
        self._version = version or self._version

    def _change(self, how: str, item: dict[str, Any]) -> None:
        self._known.event(how, item)
        self._emit(how, item)
