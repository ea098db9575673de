"""Hops as records: where each was seen, as what, and in which frame of which file."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.ends import Ends
from probes.addresses import text
from probes.decode import TUNNELS
from probes.schema import Array, Table
from tracer.trace import Trace

Record = dict[str, Any]
DIRECTIONS, PATHS = ("unknown", "in", "out"), ("request", "reply")
PORT_KINDS = (None, "port", "nodePort", "containerPort")


class HopRecords:
    """The rows of a table of hops (HOPS or REQUEST_HOPS) as records, but for their latencies; `connections` has the connection of each."""

    def __init__(self, trace: Trace, hops: Table, connections: Array, ends: Ends) -> None:
        self._hops, self._connections, self._ends = hops, connections, ends
        self._observations = trace.tables.observations
        self._places = [(point.node, point.interface) for point in trace.tables.points]
        # a point may be spread over several files
        self._files = [point.file for point in trace.tables.points]
        self._original, self._translated = (
            np.array([getattr(each, name) for each in trace.named], "i8") for name in ("original", "translated")
        )
        vias = [None if each.service is None else each.service.via for each in trace.named]
        self._has_service = np.array([via not in (None, "Headless") for via in vias], bool)
        self._by_node_port = np.array([via == "NodePort" for via in vias], bool)

    def records(self, first: int, end: int) -> list[Record]:
        """The hops of rows `first` to `end`."""
        hops = {name: column[first:end] for name, column in self._hops.items()}
        seen = {name: self._observations[name][hops["row"]] for name in ("direction", "frame", "point")}
        self._ends.learn(hops["tuple"])
        kinds, tunnels = self.port_kinds(hops["tuple"], self._connections[first:end]).tolist(), self.tunnels(hops["row"])
        columns = (hops["point"], seen["direction"], hops["reply"], hops["tuple"], hops["time_ns"], seen["point"], seen["frame"])
        places, files, src, dst = self._places, self._files, self._ends.src, self._ends.dst
        return [
            {
                "node": places[point][0], "interface": places[point][1], "direction": DIRECTIONS[direction], "path": PATHS[reply],
                "src": src[code], "dst": dst[code], "tunnel": tunnel, "port_kind": PORT_KINDS[kind], "time_ns": time,
                "file": files[file], "frame": frame,
            }
            for (point, direction, reply, code, time, file, frame), kind, tunnel in zip(
                zip(*(column.tolist() for column in columns), strict=True), kinds, tunnels, strict=True
            )
        ]  # fmt: skip

    def port_kinds(self, codes: Array, connections: Array) -> Array:
        """Which of the four ports each tuple leads to (a reply's: comes from), in PORT_KINDS; none where no Service is involved."""
        original, translated = self._original[connections], self._translated[connections]
        leads = [
            self._has_service[connections] & (target >= 0)
            & (self._ends.same(target, "dst", codes, "src") | self._ends.same(target, "dst", codes, "dst"))
            for target in (original, translated)
        ]  # fmt: skip
        return np.select(leads, [1 + self._by_node_port[connections], np.full(len(codes), 3)], 0)

    def tunnels(self, rows: Array) -> list[Record | None]:
        """The tunnel that each observation was seen in."""
        table = self._observations
        found: list[Record | None] = [None] * len(rows)
        inside = np.flatnonzero((table["outer"][rows] >= 0) & (table["tunnel"][rows] > 0))
        inner, outer = rows[inside], table["outer"][rows[inside]]
        src, dst = ([table[f"{side}_{half}"][outer].tolist() for half in ("hi", "lo")] for side in ("src", "dst"))
        columns = zip(inside.tolist(), table["tunnel"][inner].tolist(), table["vni"][inner].tolist(), *src, *dst, strict=True)
        for at, kind, vni, src_hi, src_lo, dst_hi, dst_lo in columns:
            found[at] = {"kind": TUNNELS[kind], "id": vni, "src": text(src_hi, src_lo), "dst": text(dst_hi, dst_lo)}
        return found
