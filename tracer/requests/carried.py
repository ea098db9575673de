"""Which frames carried a request at each observation point, and their bytes, read from their captures once more."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from probes.capture import read_capture, read_payloads
from probes.deep import Frame, pcap
from probes.dissect import Exchange
from probes.schema import Array, Table, take
from tracer.bundle import Bundle
from tracer.requests import RequestTrace
from tracer.requests.payloads import open_again
from tracer.tuples import mix, reverse_codes

MOST_CONTEXT = 10_000  # frames of the connection before those asked for that are read with them
# What a frame must still show when it is read again.
_UNCHANGED = ("src_hi", "src_lo", "dst_hi", "dst_lo", "proto", "ip_id", "seq", "ack", "payload_bytes", "payload_hash", "captured_bytes")


class FrameError(Exception):
    """Frames cannot be read again; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Place:
    """An observation point, and the tuple under which the client's packets were seen there."""

    point: int
    tuple: int


@dataclass(frozen=True, slots=True)
class Carried:
    """Frames in one file: `rows` of observations (ascending by frame), of which those where `wanted` (bool) carried what was asked for."""

    path: Path
    link_type: int
    rows: Array
    wanted: Array
    reply: Array  # bool

    def until(self, end: int) -> Carried:
        """The first `end` of them."""
        return replace(self, rows=self.rows[:end], wanted=self.wanted[:end], reply=self.reply[:end])


class Connection:
    """All sightings of one connection (its row), place by place."""

    def __init__(self, found: RequestTrace, connection: int) -> None:
        tables = found.trace.tables
        low, high = np.searchsorted(tables.sighting_connections, [connection, connection + 1])
        self._found, self._bundle = found, found.trace.bundle
        self._part = slice(int(low), int(high))
        self._reverse = reverse_codes(tables.tuples)
        table = found.dissection.segments
        low, high = np.searchsorted(table["connection"], [connection, connection + 1])
        self._segments: Table = {name: column[low:high] for name, column in table.items()}
        own = tables.hops["connection"] == connection
        self._hops = take(tables.hops, np.flatnonzero(own))

    def places(self, request: int | None = None) -> list[Place]:
        """Where the connection was seen, or one of its requests (row of REQUESTS): in the order of its path, the client's door first."""
        hops = self._hops
        if request is not None:
            all_hops = self._found.requests.hops
            hops = take(all_hops, np.flatnonzero(all_hops["request"] == request))
        codes = np.where(hops["reply"] > 0, self._reverse[hops["tuple"]], hops["tuple"])
        there = [Place(*pair) for pair in zip(hops["point"].tolist(), codes.tolist(), strict=True)]
        answers = int(np.count_nonzero(hops["reply"] == 0))
        return list(dict.fromkeys([*there[:answers], *reversed(there[answers:])]))

    def carried(self, place: Place, request: int | None = None) -> list[Carried]:
        """The frames at `place`, file by file; `wanted` are those of one request (row of REQUESTS), or all."""
        tables = self._found.trace.tables
        rows, codes = tables.sighting_rows[self._part], tables.sighting_tuples[self._part]
        reply = ~tables.sighting_forward[self._part]
        here = (tables.sighting_points[self._part] == place.point) & (np.where(reply, self._reverse[codes], codes) == place.tuple)
        here &= self._first(np.flatnonzero(here), len(here))
        rows, reply = rows[here], reply[here]
        exchange = None if request is None else self._found.requests.exchange(request)
        wanted = np.ones(len(rows), bool) if exchange is None else np.isin(rows, self._bytes_of(place, exchange))
        points = tables.observations["point"][rows]
        origins = self._bundle.origins
        found = []
        for path in dict.fromkeys(origins[point] for point in points.tolist()):
            mine = np.flatnonzero([origins[point] == path for point in points.tolist()])
            mine = mine[np.unique(tables.observations["frame"][rows[mine]], return_index=True)[1]]
            asked = np.flatnonzero(wanted[mine])
            if len(asked):
                mine = mine[max(0, int(asked[0]) - MOST_CONTEXT) : int(asked[-1]) + 1]
                found.append(Carried(path, tables.points[place.point].link_type, rows[mine], wanted[mine], reply[mine]))
        return found

    def _first(self, at: Array, size: int) -> Array:
        """Mask of the first sighting of each packet among `at`: where a capture does not tell interfaces apart, it shows one twice.

        A packet is known again by its IP ID; without one, what looks the same may have been sent again.
        """
        tables = self._found.trace.tables
        seen = take(tables.observations, tables.sighting_rows[self._part][at])
        key = mix(tables.sighting_identities[self._part][at], seen["ip_id"], seen["payload_bytes"], seen["tcp_flags"], seen["seq"])
        order = np.lexsort((seen["time_ns"], key))
        again = np.zeros(len(at), bool)
        again[1:] = (key[order][1:] == key[order][:-1]) & (seen["ip_id"][order][1:] != 0)
        mask = np.ones(size, bool)
        mask[at[order][again]] = False
        return mask

    def _bytes_of(self, place: Place, exchange: Exchange) -> Array:
        """Rows of the observations that carried a byte of the exchange at `place`."""
        part = self._segments
        reply = part["reply"] > 0
        code = np.where(reply, self._reverse[part["tuple"]], part["tuple"])
        carried = np.zeros(len(reply), bool)
        for side, name in ((False, "request"), (True, "response")):
            start, end = getattr(exchange, f"{name}_start"), getattr(exchange, f"{name}_end")
            carried |= (reply == side) & (part["start"] < end) & (part["end"] > start) & (start >= 0)
        rows: Array = part["row"][carried & (part["point"] == place.point) & (code == place.tuple)]
        return rows


def read_frames(bundle: Bundle, carried: Carried) -> list[Frame]:
    """The frames of `carried.rows`. FrameError where their file is not there, cannot be read, or is not what it was."""
    seen = {name: bundle.observations[name][carried.rows] for name in ("frame", "time_ns", "wire_bytes", "captured_bytes")}
    size = seen["captured_bytes"].astype("i8")
    try:
        with open_again(bundle, carried.path) as stream:
            arena = read_payloads(stream, carried.path.name, seen["frame"], np.zeros(len(size), "i8"), size).tobytes()
    except OSError as error:
        raise FrameError(f"{carried.path} cannot be read again: {error.strerror} (check that it is still there)") from None
    ends = np.cumsum(size).tolist()
    columns = zip(*(seen[name].tolist() for name in ("frame", "time_ns", "wire_bytes")), [0, *ends], ends, strict=False)
    frames = [Frame(number, time_ns, wire, arena[begin:end]) for number, time_ns, wire, begin, end in columns]
    changed = next(_changed(bundle.observations, carried, frames), None)
    if changed is not None:
        raise FrameError(f"{carried.path} has changed since it was read: frame {changed} is another packet now (run hopline again)")
    return frames


def _changed(observations: Table, carried: Carried, frames: list[Frame]) -> Iterator[int]:
    """Numbers of the frames that are not what they were when they were observed."""
    outermost = carried.rows
    while (outer := observations["outer"][outermost]).max(initial=-1) >= 0:
        outermost = np.where(outer >= 0, outer, outermost)
    again = read_capture(io.BytesIO(b"".join(pcap(frames, carried.link_type, numbered=False))), carried.path.name, "").observations
    again = take(again, np.flatnonzero(again["outer"] < 0))
    place = {number: row for row, number in enumerate(again["frame"].tolist())}
    for index, row in enumerate(outermost.tolist()):
        now = place.get(index + 1)
        if now is None or any(observations[name][row] != again[name][now] for name in _UNCHANGED):
            yield frames[index].number
