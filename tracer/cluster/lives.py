"""From sightings of objects (in a dump, in a watch event) to their lives: one per UID, with its versions in order of time.

A dump seldom says when it was taken. What bounds its time are the timestamps inside the objects; what orders it against others are
resourceVersions. Only a watch event's time is exact.
"""

from __future__ import annotations

import bisect
import enum
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tracer.cluster.fields import Object, created_ns, latest_ns, resource_version, string
from tracer.cluster.history import FOREVER_NS, NEVER_NS, Claim, History

# What names, Services and the later reports need. Anything else in a dump (Secrets, ConfigMaps) is dropped unread.
KINDS = frozenset(
    (
        *("Pod", "Node", "Service", "EndpointSlice", "Ingress", "IngressClass", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet"),
        *("Job", "CronJob", "Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute", "NetworkPolicy"),
    )
)


class How(enum.Enum):
    """What made an object visible."""

    LISTED = "LISTED"
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Sighting:
    """An object seen once. `time_ns`: when, None where unknown; `floor_ns`: it was seen no earlier than then."""

    how: How
    item: Object
    time_ns: int | None = None
    floor_ns: int = NEVER_NS


@dataclass(frozen=True, slots=True)
class Roll:
    """A complete list of some kinds at a known moment: what is not in it did not exist then."""

    time_ns: int
    kinds: frozenset[str]
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Version:
    """One state of an object, from `start_ns` (to the second unless `exact`) until the next version or the end of the life.

    `seen_ns`: when it was first seen, by the recorder's clock; FOREVER_NS where nothing tells.
    """

    start_ns: int
    exact: bool
    item: Object
    seen_ns: int = FOREVER_NS


@dataclass(slots=True)
class Life:
    """One object from creation to deletion. `end_ns` is when it was certainly gone, `seen_ns` when it was last certainly there."""

    key: str
    kind: str
    namespace: str | None
    name: str
    versions: list[Version] = field(default_factory=list)
    seen_ns: int = NEVER_NS
    end_ns: int = FOREVER_NS
    end_exact: bool = False

    @property
    def last(self) -> Object:
        """The latest state known."""
        return self.versions[-1].item

    def spans(self) -> list[tuple[int, int, Object]]:
        """`(start_ns, end_ns, object)` of every version that lasted."""
        ends = [version.start_ns for version in self.versions[1:]] + [FOREVER_NS]
        spans = [(v.start_ns, min(end, self.end_ns), v.item) for v, end in zip(self.versions, ends, strict=True)]
        return [span for span in spans if span[0] < span[1]]

    def at(self, time_ns: int) -> Object | None:
        """The state at that time, None where the object did not exist."""
        place = bisect.bisect_right(self.versions, time_ns, key=lambda version: version.start_ns)
        return self.versions[place - 1].item if place and time_ns < self.end_ns else None


def key_of(item: Object) -> str:
    """The object's UID; where a dump lacks it, kind, namespace and name (two lives under one name then look like one)."""
    uid = string(item, "metadata", "uid")
    return uid or f"{item.get('kind')}/{string(item, 'metadata', 'namespace') or ''}/{string(item, 'metadata', 'name')}"


def lives(sightings: Iterable[Sighting], rolls: Iterable[Roll] = ()) -> dict[str, Life]:
    """The life of every object seen, by key. Sightings of kinds outside `KINDS` and nameless ones are left out."""
    seen: dict[str, list[Sighting]] = {}
    incarnation: dict[str, int] = {}
    for sighting in sightings:
        if string(sighting.item, "kind") not in KINDS or string(sighting.item, "metadata", "name") is None:
            continue
        key = key_of(sighting.item)
        if "/" in key and sighting.how is How.ADDED and any(s.how is How.DELETED for s in seen.get(key, ())):
            # Without UIDs, an ADDED after a DELETED is another object of the same name.
            incarnation[key] = incarnation.get(key, 0) + 1
            seen[f"{key}#{incarnation[key]}"] = seen.pop(key)
        seen.setdefault(key, []).append(sighting)
    found = {key: _life(key, group) for key, group in seen.items()}
    for roll in rolls:
        for life in found.values():
            if life.kind in roll.kinds and life.key not in roll.keys and life.seen_ns < roll.time_ns < life.end_ns:
                life.end_ns = roll.time_ns
    return found


def _life(key: str, sightings: list[Sighting]) -> Life:
    first = sightings[0].item
    life = Life(key, str(first["kind"]), string(first, "metadata", "namespace"), str(first["metadata"]["name"]))
    ordered = _ordered(sightings)
    floor = NEVER_NS  # the state before the next one was seen as late as this
    for sighting in ordered:
        if life.versions and _same(life.last, sighting.item):
            life.versions[-1] = _sooner(life.versions[-1], sighting, alone=len(life.versions) == 1)
        else:
            life.versions.append(_version(sighting, floor, first=not life.versions))
        floor = max(floor, sighting.floor_ns, life.versions[-1].start_ns, sighting.time_ns or NEVER_NS)
    ends = [s for s in ordered if s.how is How.DELETED]
    life.seen_ns = max((max(s.floor_ns, s.time_ns or NEVER_NS) for s in ordered if s.how is not How.DELETED), default=NEVER_NS)
    if ends:
        exact = [s.time_ns for s in ends if s.time_ns is not None]
        life.end_ns = min(exact) if exact else max(latest_ns(ends[-1].item) or NEVER_NS, floor)
        life.end_exact = bool(exact)
        life.seen_ns = life.end_ns
    return life


def _ordered(sightings: list[Sighting]) -> list[Sighting]:
    # A deletion is the last thing that happens to a UID; before it, resourceVersions tell the order, else times do.
    versions = [resource_version(s.item) for s in sightings]
    if all(version is not None for version in versions):
        ranks = [version or 0 for version in versions]
    else:
        ranks = [s.time_ns if s.time_ns is not None else latest_ns(s.item) or NEVER_NS for s in sightings]
    places = sorted(range(len(sightings)), key=lambda i: (sightings[i].how is How.DELETED, ranks[i], i))
    return [sightings[i] for i in places]


def _same(one: Object, other: Object) -> bool:
    version = resource_version(one)
    return one == other if version is None else version == resource_version(other)


def _version(sighting: Sighting, floor: int, *, first: bool) -> Version:
    if first:
        # Whatever it was seen in, it has been there since it was created; nothing contradicts that it was in this state.
        created = created_ns(sighting.item)
        seen = FOREVER_NS if sighting.time_ns is None else sighting.time_ns
        # The recorder's clock may be behind the API server's: what was seen was there.
        return Version(NEVER_NS if created is None else min(created, seen), exact=False, item=sighting.item, seen_ns=seen)
    if sighting.time_ns is not None and sighting.how is not How.LISTED:
        return Version(max(sighting.time_ns, floor), exact=True, item=sighting.item)
    return Version(max(floor, latest_ns(sighting.item) or NEVER_NS), exact=False, item=sighting.item)


def _sooner(version: Version, sighting: Sighting, *, alone: bool) -> Version:
    """`version`, with the exact time at which a watch delivered the same state."""
    event = sighting.how in (How.ADDED, How.MODIFIED) and sighting.time_ns is not None
    if alone or version.exact or not event or sighting.time_ns is None:
        return version
    return replace(version, start_ns=max(version.start_ns, sighting.time_ns), exact=True)


def changes(found: Iterable[Life]) -> History[int]:
    """The moments at which any of these objects changed, each moment its own holder."""
    moments = sorted({moment for life in found for start, end, _ in life.spans() for moment in (start, end)})
    return History(Claim.certain(start, start, end) for start, end in itertools.pairwise([*moments, FOREVER_NS]))
