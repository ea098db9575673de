"""The two recordings: a snapshot of every kind, and a watch of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from probes.schema import Problem
from tracer.live.api import Api, Backoff
from tracer.live.errors import ClusterError, DeniedError, LoginError, NotServedError
from tracer.live.following import Follower, Say
from tracer.live.listing import Listing, list_patiently
from tracer.live.resources import RESOURCES, Resource

Clock = Callable[[], int]  # nanoseconds since the epoch


@dataclass(slots=True)
class Snapshot:
    """The cluster at one moment, between `time_ns` (nothing in it is older) and `end_ns` (nothing in it is newer)."""

    time_ns: int
    end_ns: int
    kinds: list[str]
    namespace: str | None
    items: list[dict[str, Any]] = field(default_factory=list)

    def text(self) -> Iterator[str]:
        """The file, piece by piece: a List as `kubectl get -o json` prints it, one object per line, its time before the items."""
        about: dict[str, Any] = {"time_ns": self.time_ns, "end_ns": self.end_ns}
        # `kinds` says of which kinds the list is complete: a namespace's objects are not all there are.
        about |= {"kinds": self.kinds} if self.namespace is None else {"namespace": self.namespace}
        head = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "hopline": about}
        yield json.dumps(head)[:-1] + ', "items": ['
        for place, item in enumerate(self.items):
            yield ("," if place else "") + "\n" + json.dumps(item, separators=(",", ":"))
        yield "\n]}\n"


def snapshot(
    api: Api,
    say: Say,
    *,
    namespace: str | None = None,
    resources: Sequence[Resource] = RESOURCES,
    clock: Clock = time.time_ns,
    backoff: Backoff | None = None,
) -> Snapshot:
    """List every kind once. Kinds that are denied or not served are told to `say` and left out.

    Raises a `ClusterError` where the server cannot be reached or denies everything.
    """
    begun = clock()
    found = _lists(api, namespace, resources, say, time.sleep, backoff or Backoff())
    taken = Snapshot(begun, clock(), [resource.kind for resource, _ in found], namespace)
    for _, listing in found:
        taken.items += listing.items
    return taken


def watch(
    api: Api,
    write: Callable[[bytes], object],
    say: Say,
    stop: threading.Event,
    *,
    namespace: str | None = None,
    resources: Sequence[Resource] = RESOURCES,
    clock: Clock = time.time_ns,
    backoff: Callable[[], Backoff] = Backoff,
) -> int:
    """Write every object as ADDED, then every change, one JSON line each, until `stop` is set.

    Each line is `{"ts": seconds since the epoch at which it was received, "type": …, "object": …}`, given to `write` whole. Returns the
    number of lines. Raises a `ClusterError` where the server cannot be reached to begin with or denies everything, OSError where `write`
    fails; later failures are told to `say` and overcome.
    """
    sink = _Sink(write, stop, clock)
    followers = []
    for resource, listing in _lists(api, namespace, resources, say, stop.wait, backoff()):
        follower = Follower(api, resource, namespace, sink.emit, say, stop)
        follower.backoff = backoff()
        follower.start(listing)
        followers.append(threading.Thread(target=follower.run, name=f"watch {resource.plural}", daemon=True))
    for thread in followers:
        thread.start()
    stop.wait()
    api.close()
    for thread in followers:
        thread.join(1.0)
    sink.close()
    if sink.failure is not None:
        raise sink.failure
    return sink.lines


class _Sink:
    """Where all followers write: one line at a time, times never going back."""

    def __init__(self, write: Callable[[bytes], object], stop: threading.Event, clock: Clock) -> None:
        self._write, self._stop, self._clock = write, stop, clock
        self._lock = threading.Lock()
        self._latest = 0
        self._open = True
        self.lines = 0
        self.failure: OSError | None = None

    def emit(self, how: str, item: dict[str, Any]) -> None:
        with self._lock:
            if not self._open:
                return
            self._latest = max(self._latest, self._clock())
            # Microseconds: more digits than a float of seconds since the epoch holds would be invented.
            line = json.dumps({"ts": round(self._latest / 1e9, 6), "type": how, "object": item}, separators=(",", ":"))
            try:
                self._write(line.encode() + b"\n")
            except OSError as error:
                self.failure, self._open = error, False
                self._stop.set()
            else:
                self.lines += 1

    def close(self) -> None:
        with self._lock:
            self._open = False


def _lists(
    api: Api, namespace: str | None, resources: Sequence[Resource], say: Say, wait: Callable[[float], object], backoff: Backoff
) -> list[tuple[Resource, Listing]]:
    found: list[tuple[Resource, Listing]] = []
    refusal: ClusterError | None = None
    for resource in resources:
        try:
            found.append((resource, list_patiently(api, resource, namespace, wait, backoff)))
        except NotServedError as error:
            if not resource.optional:
                say(Problem(resource.path(namespace), error.what, error.remedy))
                refusal = refusal or error
        except LoginError:
            raise
        except DeniedError as error:
            say(Problem(resource.path(namespace), error.what, error.remedy))
            refusal = error
    if not found:
        raise refusal or NotServedError(f"{api.host} serves none of the kinds asked for", "is this the API server's address?")
    return found
