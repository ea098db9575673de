"""Hops as JSON, without an object for each."""

from __future__ import annotations

import json
from itertools import product

import numpy as np

from analysis.ends import Ends
from analysis.hops import DIRECTIONS, PATHS, PORT_KINDS, HopRecords
from analysis.text_columns import alike, behind_first
from probes.schema import Array, take
from probes.text_rows import NULL, Rows, Texts, text_rows
from tracer.trace import Trace


class HopTexts:
    """The rows of HOPS as JSON."""

    def __init__(self, trace: Trace, ends: Ends, records: HopRecords) -> None:
        self._ends, self._records, self._table, self._observations = ends, records, trace.tables.hops, trace.tables.observations
        points = trace.tables.points
        self._resolutions = np.array([point.resolution_ns for point in points] or [0], "i8")
        self._places = [
            f'{{"node": {json.dumps(point.node)}, "interface": {json.dumps(point.interface)}, '
            f'"direction": "{way}", "path": "{path}", "src": "'
            for point, path, way in product(points, PATHS, DIRECTIONS)
        ]
        self._files = [f', "file": {json.dumps(point.file)}, "frame": ' for point in points]

    def texts(self, first: int, end: int) -> Rows:
        """Rows `first` to `end`; each has a comma before it that is not the first of its connection."""
        hops = {name: column[first:end] for name, column in self._table.items()}
        seen = take({name: self._observations[name] for name in ("direction", "frame", "point")}, hops["row"])
        code, connection = hops["tuple"], hops["connection"]
        place = (hops["point"].astype("i8") * len(PATHS) + hops["reply"]) * len(DIRECTIONS) + seen["direction"]
        kinds = [f', "port_kind": {json.dumps(kind)}, "time_ns": ' for kind in PORT_KINDS]
        offset, latency, uncertainty = self._latencies(first, end)
        return text_rows(
            len(code),
            [
                behind_first(connection), (self._places, place), *self._ends.columns("src", code),
                '", "dst": "', *self._ends.columns("dst", code),
                '", "tunnel": ', self._tunnels(hops["row"]), (kinds, self._records.port_kinds(code, connection)), hops["time_ns"],
                (self._files, seen["point"]), seen["frame"], ', "offset_ns": ', offset, ', "latency_ns": ', latency,
                ', "uncertainty_ns": ', uncertainty, "}",
            ],
        )  # fmt: skip

    def _latencies(self, first: int, end: int) -> tuple[Array, Array, Array]:
        """The time (int64 ns) of hops since the first of their path, and since the one before; and the clock's unit.

        NULL where two clocks are in it, or there is none before.
        """
        table, rows = self._table, np.arange(first, end)
        start, latency = rows - table["position"][rows], table["latency_ns"][rows]
        offset = np.where(table["node"][rows] == table["node"][start], table["time_ns"][rows] - table["time_ns"][start], NULL)
        told = latency >= 0
        return offset, np.where(told, latency, NULL), np.where(told, self._resolutions[table["point"][rows]], NULL)

    def _tunnels(self, rows: Array) -> Texts:
        """The tunnel that each observation was seen in."""
        outer, which = self._observations["outer"][rows], np.full(len(rows), -1)
        inside = np.flatnonzero((outer >= 0) & (self._observations["tunnel"][rows] > 0))
        told = [self._observations[name][rows[inside]] for name in ("tunnel", "vni")]
        ends = [self._observations[name][outer[inside]] for name in ("src_hi", "src_lo", "dst_hi", "dst_lo")]
        texts, which[inside] = alike([*told, *ends], lambda at: json.dumps(self._records.tunnels(rows[inside[at : at + 1]])[0]))
        return [*texts, "null"], np.where(which < 0, len(texts), which)
