"""The packets of a request or connection as Wireshark's dissectors see them, with the places where they were captured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probes.decode import TUNNELS
from probes.decode.numbers import TCP, UDP
from probes.deep import Field, dissect
from probes.dissect import BY_NAME
from probes.dissect.tshark import known_protocols
from tracer.requests import RequestTrace
from tracer.requests.carried import Carried, Connection, Place, read_frames

_TRANSPORTS = {TCP: "tcp", UDP: "udp"}


@dataclass(frozen=True, slots=True)
class Packet:
    """One frame (numbered in `file` from 1) at one place; `time_ns` is that node's own clock; `reply`: sent by the server."""

    node: str
    interface: str
    reply: bool
    file: str
    frame: int
    time_ns: int
    captured_bytes: int
    wire_bytes: int
    layers: tuple[Field, ...]


def place_names(found: RequestTrace, places: Sequence[Place]) -> list[str]:
    """`node/interface` of each place."""
    points = found.trace.tables.points
    return [f"{points[place.point].node}/{points[place.point].interface}" for place in places]


def look(
    found: RequestTrace, connection: int, request: int | None, places: Sequence[Place], *, most: int = 0, keys: Path | None = None
) -> tuple[list[Packet], int]:
    """`(packets, how many were left out)`: those of a request (row of REQUESTS), or all of its connection's, at `places`.

    `most` is how many to dissect at each place, 0 for all. DeepError and FrameError as `probes.deep` and `tracer.requests.carried` say.
    """
    whole, packets, left_out = Connection(found, connection), [], 0
    points, observations = found.trace.tables.points, found.trace.tables.observations
    for place in places:
        room = most or None
        for carried in whole.carried(place, request):
            asked = np.flatnonzero(carried.wanted)
            chosen = asked[:room]
            left_out += len(asked) - len(chosen)
            room = None if room is None else room - len(chosen)
            if not len(chosen):
                continue
            carried = carried.until(int(chosen[-1]) + 1)  # noqa: PLW2901 - as much of it as is dissected
            frames = read_frames(found.trace.bundle, carried)
            numbers = observations["frame"][carried.rows[carried.wanted]].tolist()
            named = _decode_as(found, connection, place) | _tunnels(found, carried)
            layers = dissect(frames, carried.link_type, numbers, named, keys)
            point, file = points[place.point], points[int(observations["point"][carried.rows[0]])].file
            packets += [
                Packet(point.node, point.interface, bool(reply), file, frame.number, frame.time_ns, len(frame.content),
                       frame.wire_bytes, layers[frame.number])
                for frame, reply in zip(frames, carried.reply.tolist(), strict=True) if frame.number in layers
            ]  # fmt: skip
    return packets, left_out


def _decode_as(found: RequestTrace, connection: int, place: Place) -> dict[str, str]:
    """What to tell tshark of the server's port here: it knows protocols by their usual ports."""
    tuples, protocol = found.trace.tables.tuples, BY_NAME.get(found.dissection.protocols.get(connection, ""))
    transport = _TRANSPORTS.get(int(tuples["proto"][place.tuple]))
    if protocol is None or transport is None or protocol.name == "proxy" or protocol.layer not in known_protocols():
        return {}
    return {f"{transport}.port=={int(tuples['dport'][place.tuple])}": protocol.layer}


def _tunnels(found: RequestTrace, carried: Carried) -> dict[str, str]:
    """The same of tunnels: flannel's VXLAN has another port (8472) than the one that was assigned later."""
    observations = found.trace.tables.observations
    outer, kind = observations["outer"][carried.rows], observations["tunnel"][carried.rows]
    inside = outer >= 0
    used = set(zip(kind[inside].tolist(), observations["dport"][outer[inside]].tolist(), strict=True))
    return {f"udp.port=={port}": TUNNELS[number] for number, port in used if TUNNELS[number] in ("vxlan", "geneve")}
