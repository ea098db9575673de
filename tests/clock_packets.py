"""Packets between nodes whose clocks are known to be wrong, for tests of what the packets tell about those clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from probes.schema import OBSERVATIONS, ObservationPoint, Table
from tracer.pipeline import Reconstruction, reconstruct

START_NS = 1_795_411_478_000_000_000
SECOND = 1_000_000_000
INTERFACES = ("veth", "eth0")
TCP, ACK, PSH = 6, 16, 8
PORTS_SEQUENCE_TIMESTAMPS = 7

Clock = Callable[[int], int]


def clock(offset_ns: int = 0, drift: float = 0.0, *, step_ns: int = 0, step_at_ns: int = 0) -> Clock:
    """What a clock shows at a true time: `offset_ns` at START_NS, running `drift` fast, `step_ns` more from `step_at_ns` on."""

    def shows(true_ns: int) -> int:
        return true_ns + offset_ns + round(drift * (true_ns - START_NS)) + (step_ns if true_ns >= step_at_ns else 0)

    return shows


@dataclass
class Wire:
    """Collects what nodes record of packets, and reconstructs."""

    clocks: dict[str, Clock]
    resolution_ns: int = 1
    rows: list[dict[str, int]] = field(default_factory=list)
    sent: int = 0

    @property
    def points(self) -> list[ObservationPoint]:
        return [
            ObservationPoint(node, name, 1, f"{node}.pcap", 1, self.resolution_ns) for node in sorted(self.clocks) for name in INTERFACES
        ]

    def send(
        self, path: Sequence[str], true_ns: int, delays_ns: Sequence[int], *, port: int = 40_000, reply: bool = False, ip_id: int = -1,
        only: Sequence[str] = INTERFACES,
    ) -> None:  # fmt: skip
        """One TCP segment through the nodes of `path`: `delays_ns` per link, 1 us inside each node, which takes one off the TTL."""
        self.sent += 1
        ends = {"src_lo": 0xFFFF_0A00_0001, "dst_lo": 0xFFFF_0A00_0002, "sport": port, "dport": 80}
        if reply:
            ends = {"src_lo": ends["dst_lo"], "dst_lo": ends["src_lo"], "sport": 80, "dport": port}
        header = ends | {
            "proto": TCP, "known": PORTS_SEQUENCE_TIMESTAMPS, "tcp_flags": ACK | PSH, "seq": 1000 + 100 * self.sent,
            "ack": 5000 + 100 * self.sent,
            "tsval": self.sent, "tsecr": self.sent, "payload_bytes": 100, "payload_hash": self.sent,
            "ip_id": self.sent % 60_000 + 1 if ip_id < 0 else ip_id, "outer": -1,
        }  # fmt: skip
        now = true_ns
        for hop, node in enumerate(path):
            if hop:
                self._see(node, "eth0", now, header | {"ttl": 64 - hop, "direction": 1}, only)
                now += 1000
            if hop in (0, len(path) - 1):
                self._see(node, "veth", now, header | {"ttl": 64 - hop - (hop > 0), "direction": 1 if hop == 0 else 2}, only)
                now += 1000
            if hop < len(path) - 1:
                self._see(node, "eth0", now, header | {"ttl": 63 - hop, "direction": 2}, only)
                now += delays_ns[hop]

    def _see(self, node: str, interface: str, true_ns: int, header: dict[str, int], only: Sequence[str]) -> None:
        if node not in self.clocks or interface not in only:
            return
        names = sorted(self.clocks)
        time_ns = self.clocks[node](true_ns) // self.resolution_ns * self.resolution_ns
        self.rows.append(header | {"point": len(INTERFACES) * names.index(node) + INTERFACES.index(interface), "time_ns": time_ns})

    def reconstruct(self, order: Sequence[int] | None = None) -> Reconstruction:
        """All that was recorded; `order` gives another order of the observation points and their packets."""
        points = self.points
        order = range(len(points)) if order is None else order
        place = {point: number for number, point in enumerate(order)}
        rows = sorted(self.rows, key=lambda row: (place[row["point"]], row["time_ns"]))
        table: Table = {
            column.name: np.array(
                [row.get(column.name, 0) if column.name != "point" else place[row["point"]] for row in rows], column.dtype
            )
            for column in OBSERVATIONS.columns
        }
        table["src_hi"] = table["dst_hi"] = np.zeros(len(rows), "u8")
        return reconstruct(OBSERVATIONS.check(table), [points[number] for number in order], {})
