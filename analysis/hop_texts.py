"""Hops as JSON, without an object for each: what `json.dumps` makes of the hops of `Recorder.records`, from columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product

import numpy as np

from analysis.hops import DIRECTIONS, PATHS, PORT_KINDS, HopRecords
from probes.addresses import endpoint
from probes.schema import Array, Table, take
from probes.text_rows import Texts, text_rows
from tracer.trace import Trace
from tracer.tuples import distinct, mix


class HopTexts:
    """The rows of HOPS as JSON."""

    def __init__(self, trace: Trace, records: HopRecords) -> None:
        self._records, self._observations = records, trace.tables.observations
        tuples, points = trace.tables.tuples, trace.tables.points
        self._addresses, self._src, self._dst = _addresses(tuples)
        self._sport, self._dport = tuples["sport"], tuples["dport"]
        self._places = [
            f', {{"node": {json.dumps(point.node)}, "interface": {json.dumps(point.interface)}, '
            f'"direction": "{way}", "path": "{path}", "src": "'
            for point, path, way in product(points, PATHS, DIRECTIONS)
        ]
        self._files = [f', "file": {json.dumps(point.file)}, "frame": ' for point in points]

    def texts(self, hops: Table, latencies: Sequence[Array]) -> tuple[Array, Array]:
        """`(bytes, bounds)` of `hops` (`probes.text_rows`), each with ", " before it.

        `latencies` are offset_ns, latency_ns and uncertainty_ns, NULL where there is none.
        """
        seen = take({name: self._observations[name] for name in ("direction", "frame", "point")}, hops["row"])
        code = hops["tuple"]
        place = (hops["point"].astype("i8") * len(PATHS) + hops["reply"]) * len(DIRECTIONS) + seen["direction"]
        kinds = [f', "port_kind": {json.dumps(kind)}, "time_ns": ' for kind in PORT_KINDS]
        offset, latency, uncertainty = latencies
        return text_rows(
            len(code),
            [
                (self._places, place), (self._addresses, self._src[code]), self._sport[code],
                '", "dst": "', (self._addresses, self._dst[code]), self._dport[code],
                '", "tunnel": ', self._tunnels(hops["row"]), (kinds, self._records.port_kinds(code, hops["connection"])), hops["time_ns"],
                (self._files, seen["point"]), seen["frame"], ', "offset_ns": ', offset, ', "latency_ns": ', latency,
                ', "uncertainty_ns": ', uncertainty, "}",
            ],
        )  # fmt: skip

    def _tunnels(self, rows: Array) -> Texts:
        """The tunnel that each observation was seen in."""
        outer, which = self._observations["outer"][rows], np.zeros(len(rows), "i8")
        inside = np.flatnonzero((outer >= 0) & (self._observations["tunnel"][rows] > 0))
        told = [self._observations[name][rows[inside]] for name in ("tunnel", "vni")]
        ends = [self._observations[name][outer[inside]] for name in ("src_hi", "src_lo", "dst_hi", "dst_lo")]
        _, first, number = distinct(mix(*told, *ends))
        which[inside] = number + 1
        return ["null", *map(json.dumps, self._records.tunnels(rows[inside][first]))], which


def _addresses(tuples: Table) -> tuple[list[str], Array, Array]:
    """What stands before the port of each tuple's source and destination: `(texts, which of a source, which of a destination)`."""
    hi, lo = (np.concatenate([tuples[f"{side}_{half}"] for side in ("src", "dst")]) for half in ("hi", "lo"))
    _, first, number = distinct(mix(hi, lo))
    texts = [endpoint(*both, 0)[:-1] for both in zip(hi[first].tolist(), lo[first].tolist(), strict=True)]
    src, dst = np.split(number, 2)
    return texts, src, dst
