"""Decoded packets as sightings of connections at observation points, without the joining that finds out whose they are.

No `__init__.py` beside this file: a package called `requests` would stand before the library of that name, which others import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import packets as p

from probes.schema import Table
from tracer.requests.streams import segments

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
HEADERS = 40  # bytes of IPv4 and TCP, both without options


@dataclass(frozen=True)
class Sighting:
    """A packet of a connection, `ms` after p.START_NS. `snaplen` cuts the frame."""

    ms: float
    packet: bytes
    reply: bool = False
    node: int = 0
    point: int = 0
    snaplen: int | None = None
    connection: int = 0


def tcp(ms: float, flags: str, seq: int, payload: bytes = b"", *, reply: bool = False, **place: int) -> Sighting:
    """A TCP packet; sequence numbers wrap."""
    ends, ports = ((SERVER, CLIENT), (80, 40000)) if reply else ((CLIENT, SERVER), (40000, 80))
    return Sighting(ms, p.ip4(*ends, p.tcp(*ports, flags, payload, seq=seq % (1 << 32))), reply, **place)


def udp(ms: float, payload: bytes, *, reply: bool = False, **place: int) -> Sighting:
    ends, ports = ((SERVER, CLIENT), (53, 40000)) if reply else ((CLIENT, SERVER), (40000, 53))
    return Sighting(ms, p.ip4(*ends, p.udp(*ports, payload)), reply, **place)


def decoded(seen: Sequence[Sighting]) -> tuple[Table, Table]:
    """The OBSERVATIONS and SEGMENTS of `seen`, which may be in any order."""
    seen = sorted(seen, key=lambda each: (each.connection, each.node, each.ms))
    frames = [p.Record(each.packet[: each.snaplen], p.START_NS + round(each.ms * 1e6), len(each.packet)) for each in seen]
    observations = p.read(p.pcap(frames, p.RAW)).observations
    assert observations["frame"].tolist() == list(range(1, len(seen) + 1))
    columns = {name: np.array([getattr(each, name) for each in seen], "i4") for name in ("connection", "reply", "node", "point")}
    return observations, segments(
        observations, np.arange(len(seen)), columns["connection"], columns["reply"] == 0, columns["node"], columns["point"],
        np.zeros(len(seen), "i4"), observations["payload_hash"].astype("u8"),
    )  # fmt: skip


def spans(table: Table, *more: str) -> list[tuple[int, ...]]:
    """(start, end, …) of each segment."""
    return list(zip(*(table[name].tolist() for name in ("start", "end", *more)), strict=True))
