"""Cluster metadata files in, a `Timeline` out. The only file I/O of this folder."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from probes.schema import Problem
from tracer.cluster.documents import documents
from tracer.cluster.fields import Object, at, dicts, latest_ns, number, string
from tracer.cluster.history import NEVER_NS
from tracer.cluster.lives import KINDS, How, Roll, Sighting, key_of
from tracer.cluster.timeline import Timeline

EVENTS = {"ADDED": How.ADDED, "MODIFIED": How.MODIFIED, "DELETED": How.DELETED}
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(slots=True)
class Sources:
    """What the files read so far tell."""

    sightings: list[Sighting] = field(default_factory=list)
    rolls: list[Roll] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_cluster(paths: Sequence[Path]) -> tuple[Timeline, list[Problem]]:
    """The timeline that `paths` tell together, in any order, and what could not be read.

    Each is a dump (a List, lists per kind, single objects; JSON or YAML) or a watch (one event per line, or kubectl's
    `--output-watch-events`), plain, .gz or .zst. Never raises for what is in a file.
    """
    sources = Sources()
    for path in paths:
        raw = _content(path, sources.problems)
        if raw is None:
            continue
        content, cut = _decompress(raw)
        read = documents(path.name, _text(content))
        if cut:
            last = read.problems.pop().what if read.problems else "nothing else is missing"
            what, remedy = f"the compressed file is cut off: {last}", "what could be unpacked is used; copy it again"
            read.problems.append(Problem(path.name, what, remedy, len(content)))
        sources.problems += read.problems
        before = len(sources.sightings)
        _take(read.found, sources)
        if len(sources.sightings) == before and not read.problems:
            what, remedy = "no Kubernetes objects of use in it", f"expected are dumps or watches of {', '.join(sorted(KINDS)[:6])}…"
            sources.problems.append(Problem(path.name, what, remedy))
    return Timeline(sources.sightings, sources.rolls), sources.problems


def _take(found: Iterable[Any], sources: Sources) -> None:
    events = Events(sources)
    loose: list[Object] = []
    for document in found:
        for one in document if isinstance(document, list) else [document]:
            if not isinstance(one, dict):
                continue
            if isinstance(one.get("object"), dict) and isinstance(one.get("type"), str):
                events.take(one)
            elif isinstance(one.get("items"), list):
                _listed(_items(one), one, sources)
            else:
                loose.append(one)
    if loose:
        _listed(loose, {}, sources)


def _items(document: Object) -> list[Object]:
    """The items of a List; those of a typed list (PodList) carry no kind of their own."""
    kind = string(document, "kind") or "List"
    shared = {"kind": kind.removesuffix("List")} if kind not in ("List", "Table") and kind.endswith("List") else {}
    return [item if "kind" in item else {**shared, **item} for item in dicts(document, "items")]


def _listed(items: list[Object], document: Object, sources: Sources) -> None:
    """One moment: everything in it was there together, no earlier than the latest time any of it tells."""
    used = [item for item in items if string(item, "kind") in KINDS]
    taken = number(document, "hopline", "time_ns")
    floor = max((moment for item in used if (moment := latest_ns(item)) is not None), default=NEVER_NS) if taken is None else taken
    sources.sightings += [Sighting(How.LISTED, item, taken, floor) for item in used]
    kinds = at(document, "hopline", "kinds")
    if taken is not None and isinstance(kinds, list) and "hopline/cut-off" not in document:
        complete = frozenset(kind for kind in kinds if isinstance(kind, str))
        ended = number(document, "hopline", "end_ns") or taken
        sources.rolls.append(Roll(ended, complete, frozenset(key_of(item) for item in used)))


@dataclass(slots=True)
class Events:
    """The events of one file. Without times of their own, each happened no earlier than what came before it tells."""

    sources: Sources
    reached: int = NEVER_NS

    def take(self, event: dict[str, Any]) -> None:
        """Add one event; BOOKMARK and ERROR events change nothing."""
        how, item = EVENTS.get(event["type"]), event["object"]
        if how is None or string(item, "kind") not in KINDS:
            return
        stamp = event.get("ts")
        if isinstance(stamp, int | float) and not isinstance(stamp, bool) and 0 <= stamp < 1e12:
            # A float of seconds has about 0.2 us resolution; via its text, no digits are added.
            time = round(stamp * 1e6) * 1000
            self.sources.sightings.append(Sighting(how, item, time, time))
            return
        own = latest_ns(item)
        if own is not None and (how is not How.ADDED or own > self.reached):
            self.reached = max(self.reached, own)
        floor = max(self.reached, own or NEVER_NS)
        time_or_none = None if how is How.ADDED or floor == NEVER_NS else floor
        self.sources.sightings.append(Sighting(how, item, time_or_none, own or NEVER_NS))


def _content(path: Path, problems: list[Problem]) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}", "check the path and its permissions", None, "error"))
        return None


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # PowerShell's `>` writes UTF-16
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace")


def _decompress(raw: bytes) -> tuple[bytes, bool]:
    """(content, whether it is cut off), by the magic number and not by the name."""
    if raw.startswith(GZIP_MAGIC):
        return _gunzip(raw)
    if not raw.startswith(ZSTD_MAGIC):
        return raw, False
    out = io.BytesIO()
    try:
        with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as reader:
            while chunk := reader.read(1 << 20):
                out.write(chunk)
    except zstandard.ZstdError:
        return out.getvalue(), True
    return out.getvalue(), False


def _gunzip(raw: bytes) -> tuple[bytes, bool]:
    out, rest = io.BytesIO(), raw
    while rest.startswith(GZIP_MAGIC):  # a gzip file may be several members (RFC 1952, 2.2)
        member = zlib.decompressobj(wbits=31)
        try:
            out.write(member.decompress(rest))
            out.write(member.flush())
        except zlib.error:
            return out.getvalue(), True
        if not member.eof:
            return out.getvalue(), True
        rest = member.unused_data
    return out.getvalue(), False
