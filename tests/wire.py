"""Packets as rows of the OBSERVATIONS table, for tests of reconstruction that need no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probes import addresses
from probes.decode.numbers import ACK, FIN, OUT, PORTS, RST, SEQUENCE, SYN, TCP, TIMESTAMPS, UDP
from probes.schema import OBSERVATIONS, ObservationPoint, Table
from tracer.pipeline import Reconstruction, reconstruct

MS = 1_000_000
START_NS = 1_795_411_500_000_000_000
FLAGS = {"S": SYN, "A": ACK, "F": FIN, "R": RST, ".": 0}
Row = dict[str, Any]


def end(text: str) -> tuple[int, int, int]:
    address, _, port = text.rpartition(":")
    return *addresses.parse(address.strip("[]")), int(port)


def packet(ms: float, src: str, dst: str, flags: str = "A", *, point: int = 0, length: int = 0, **columns: int) -> Row:
    """A TCP packet (`flags` of "SAFR."), or with proto=UDP a datagram; times are ms after START_NS."""
    (src_hi, src_lo, sport), (dst_hi, dst_lo, dport) = end(src), end(dst)
    row: Row = {
        "time_ns": START_NS + round(ms * MS), "outer": -1, "src_hi": src_hi, "src_lo": src_lo, "sport": sport, "dst_hi": dst_hi,
        "dst_lo": dst_lo, "dport": dport, "proto": TCP, "ttl": 64, "direction": OUT, "point": point, "payload_bytes": length,
        "known": PORTS | SEQUENCE | TIMESTAMPS, "tcp_flags": sum(FLAGS[flag] for flag in flags), "tsval": 1000 + round(ms), "tsecr": 1,
        "ip_id": 1 + round(ms * 10) % 65535,
    }  # fmt: skip
    row |= columns
    return row if row["proto"] == TCP else row | {"known": row["known"] & PORTS, "tcp_flags": 0, "tsval": 0, "tsecr": 0}


def datagram(ms: float, src: str, dst: str, *, point: int = 0, payload: int = 7, **columns: int) -> Row:
    return packet(ms, src, dst, point=point, length=40, proto=UDP, payload_hash=payload, **columns)


def table(rows: Sequence[Row]) -> Table:
    made = {column.name: np.array([row.get(column.name, 0) for row in rows], column.dtype) for column in OBSERVATIONS.columns}
    made["frame"] = np.arange(1, len(rows) + 1, dtype="i8")
    return OBSERVATIONS.check(made)


def points(*names: str) -> list[ObservationPoint]:
    """Observation points by "node/interface"."""
    return [ObservationPoint(*name.split("/"), number, f"{name.split('/')[0]}.pcap", 276) for number, name in enumerate(names)]


def traced(rows: Sequence[Row], *names: str, ledgers: Mapping[str, Table] | None = None) -> Reconstruction:
    return reconstruct(table(rows), points(*(names or ("node-a/eth0",))), ledgers or {})


def tuple_of(found: Reconstruction, code: int) -> str | None:
    """A tuple's code as "src > dst"."""
    if code < 0:
        return None
    tuples = found.tuples
    ends = (
        addresses.endpoint(*(int(tuples[name][code]) for name in names))
        for names in (("src_hi", "src_lo", "sport"), ("dst_hi", "dst_lo", "dport"))
    )
    return " > ".join(ends)
