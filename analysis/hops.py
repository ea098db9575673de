"""One hop as a record: where it was seen, as what, and in which frame of which file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from probes.addresses import endpoint
from probes.decode import TUNNELS
from probes.schema import ObservationPoint, Table
from tracer.names import Named
from tracer.trace import Trace

Record = dict[str, Any]
DIRECTIONS = ("unknown", "in", "out")


def address_of(tuples: Table, code: int, side: str) -> tuple[int, int]:
    """(hi, lo) of a tuple's "src" or "dst"."""
    return int(tuples[f"{side}_hi"][code]), int(tuples[f"{side}_lo"][code])


class HopColumns:
    """The rows of a table of hops (HOPS or REQUEST_HOPS) as records, but for their latencies."""

    def __init__(self, trace: Trace, hops: Table, src: Callable[[int], str], dst: Callable[[int], str]) -> None:
        self._trace, self._src, self._dst = trace, src, dst
        self.columns = {name: column.tolist() for name, column in hops.items()}
        observations = trace.tables.observations
        self.columns |= {name: observations[name][hops["row"]].tolist() for name in ("direction", "frame", "outer", "tunnel", "vni")}
        self.columns["file"] = observations["point"][hops["row"]].tolist()  # a point may be spread over several files

    def record(self, row: int, named: Named) -> Record:
        """The hop at `row`, of a connection that is called `named`."""
        seen, points = self.columns, self._trace.tables.points
        code, point = seen["tuple"][row], points[seen["point"][row]]
        return {
            "node": point.node, "interface": point.interface, "direction": DIRECTIONS[seen["direction"][row]],
            "path": "reply" if seen["reply"][row] else "request", "src": self._src(code), "dst": self._dst(code),
            "tunnel": self._tunnel(row), "port_kind": self._port_kind(code, named), "time_ns": seen["time_ns"][row],
            "file": points[seen["file"][row]].file, "frame": seen["frame"][row],
        }  # fmt: skip

    def resolution_ns(self, row: int) -> int:
        """The unit of the time stamps where this hop was seen."""
        point: ObservationPoint = self._trace.tables.points[self.columns["point"][row]]
        return point.resolution_ns

    def _port_kind(self, code: int, named: Named) -> str | None:
        """Which of the four ports a hop's tuple leads to (a reply's: comes from); None where no Service is involved."""
        if named.service is None or named.service.via == "Headless":
            return None
        ends = (self._src(code), self._dst(code))
        if named.original >= 0 and self._dst(named.original) in ends:
            return "nodePort" if named.service.via == "NodePort" else "port"
        return "containerPort" if named.translated >= 0 and self._dst(named.translated) in ends else None

    def _tunnel(self, row: int) -> Record | None:
        outer, kind = self.columns["outer"][row], self.columns["tunnel"][row]
        if outer < 0 or not kind:
            return None
        src, dst = (endpoint(*address_of(self._trace.tables.observations, outer, side), None) for side in ("src", "dst"))
        return {"kind": TUNNELS[kind], "id": self.columns["vni"][row], "src": src, "dst": dst}
