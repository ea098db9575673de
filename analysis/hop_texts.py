"""Hops as JSON, without an object for each: where each was seen, as what, and in which frame of which file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product

import numpy as np

from analysis.ends import Ends
from analysis.text_columns import alike, behind_first
from probes.addresses import text
from probes.decode import TUNNELS
from probes.schema import Array, Table, take
from probes.text_rows import NULL, Rows, Texts, text_rows
from tracer.trace import Trace

DIRECTIONS, PATHS = ("unknown", "in", "out"), ("request", "reply")
PORT_KINDS = (None, "port", "nodePort", "containerPort")


class HopTexts:
    """The rows of a table of hops (HOPS or REQUEST_HOPS) as JSON.

    `connections` has the connection of each, `owners` (integers) whose list it stands in: its connection's, or its request's.
    """

    def __init__(self, trace: Trace, ends: Ends, hops: Table, connections: Array, owners: Array) -> None:
        self._ends, self._hops, self._connections, self._owners = ends, hops, connections, owners
        self._observations = trace.tables.observations
        points = trace.tables.points
        self._places = [
            f'{{"node": {json.dumps(point.node)}, "interface": {json.dumps(point.interface)}, '
            f'"direction": "{way}", "path": "{path}", "src": "'
            for point, path, way in product(points, PATHS, DIRECTIONS)
        ]
        self._files = [f', "file": {json.dumps(point.file)}, "frame": ' for point in points]  # a point may be spread over several
        self._original, self._translated = (
            np.array([getattr(each, name) for each in trace.named], "i8") for name in ("original", "translated")
        )
        vias = [None if each.service is None else each.service.via for each in trace.named]
        self._has_service = np.array([via not in (None, "Headless") for via in vias], bool)
        self._by_node_port = np.array([via == "NodePort" for via in vias], bool)

    def texts(self, first: int, end: int, time_ns: Array, latencies: Sequence[str | Texts | Array]) -> Rows:
        """Rows `first` to `end`, seen at `time_ns`; each has a comma before it that is not the first of its owner.

        `latencies` are columns of `latency_texts`.
        """
        hops = {name: column[first:end] for name, column in self._hops.items()}
        seen = take({name: self._observations[name] for name in ("direction", "frame", "point")}, hops["row"])
        code = hops["tuple"]
        place = (hops["point"].astype("i8") * len(PATHS) + hops["reply"]) * len(DIRECTIONS) + seen["direction"]
        kinds = [f', "port_kind": {json.dumps(kind)}, "time_ns": ' for kind in PORT_KINDS]
        return text_rows(
            len(code),
            [
                behind_first(self._owners[first:end]), (self._places, place), *self._ends.columns("src", code),
                '", "dst": "', *self._ends.columns("dst", code),
                '", "tunnel": ', self._tunnels(hops["row"]), (kinds, self._port_kinds(code, self._connections[first:end])), time_ns,
                (self._files, seen["point"]), seen["frame"], *latencies, "}",
            ],
        )  # fmt: skip

    def _port_kinds(self, codes: Array, connections: Array) -> Array:
        """Which of the four ports each tuple leads to (a reply's: comes from), in PORT_KINDS; none where no Service is involved."""
        original, translated = self._original[connections], self._translated[connections]
        leads = [
            self._has_service[connections] & (target >= 0)
            & (self._ends.same(target, "dst", codes, "src") | self._ends.same(target, "dst", codes, "dst"))
            for target in (original, translated)
        ]  # fmt: skip
        return np.select(leads, [1 + self._by_node_port[connections], np.full(len(codes), 3)], 0)

    def _tunnels(self, rows: Array) -> Texts:
        """The tunnel that each observation was seen in."""
        outer, which = self._observations["outer"][rows], np.full(len(rows), -1)
        inside = np.flatnonzero((outer >= 0) & (self._observations["tunnel"][rows] > 0))
        kind, vni = (self._observations[name][rows[inside]] for name in ("tunnel", "vni"))
        ends = [self._observations[name][outer[inside]] for name in ("src_hi", "src_lo", "dst_hi", "dst_lo")]

        def told(at: int) -> str:
            src_hi, src_lo, dst_hi, dst_lo = (int(column[at]) for column in ends)
            return json.dumps({"kind": TUNNELS[kind[at]], "id": int(vni[at]), "src": text(src_hi, src_lo), "dst": text(dst_hi, dst_lo)})

        texts, which[inside] = alike([kind, vni, *ends], told)
        return [*texts, "null"], np.where(which < 0, len(texts), which)


def latency_texts(offset: Array, latency: Array, uncertainty: Array) -> list[str | Texts | Array]:
    """Columns of hops' times (int64 ns, NULL: not known): since the first of their path, since the one before, how far that may be off."""
    return [', "offset_ns": ', offset, ', "latency_ns": ', latency, ', "uncertainty_ns": ', uncertainty]


def one_clock(hops: Table, resolutions: Array, first: int, end: int) -> list[str | Texts | Array]:
    """Such columns of rows `first` to `end` of HOPS: as each node's own clock has it, nothing where two are in it.

    `resolutions` (int64 ns) are the clocks' units by observation point.
    """
    rows = np.arange(first, end)
    start, latency = rows - hops["position"][rows], hops["latency_ns"][rows]
    offset = np.where(hops["node"][rows] == hops["node"][start], hops["time_ns"][rows] - hops["time_ns"][start], NULL)
    told = latency >= 0
    return latency_texts(offset, np.where(told, latency, NULL), np.where(told, resolutions[hops["point"][rows]], NULL))
