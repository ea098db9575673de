"""Connections between two pods on two nodes, as captures of both nodes show them: what was sent when is known to the nanosecond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import packets as p

from tracer.bundle import Bundle, read_bundle
from tracer.requests import RequestTrace, trace_requests
from tracer.trace import trace

POD_A, POD_B = "10.244.0.5", "10.244.1.7"
VETH, ETH0 = 9, 2
IN, OUT = 0, 4  # SLL2 packet types
MICROSECOND, MS = 1000, 1_000_000
START_NS = 1_795_411_500_000_000_000
HOP_NS = 20 * MICROSECOND  # inside a node
WIRE_NS = 100 * MICROSECOND
# Where a packet from pod A is seen, and how long after it was sent; one from pod B, the other way round.
WAY = (("node-a", VETH, 0), ("node-a", ETH0, HOP_NS), ("node-b", ETH0, HOP_NS + WIRE_NS), ("node-b", VETH, 2 * HOP_NS + WIRE_NS))
ACROSS_NS = WAY[-1][2]
ALL = tuple((node, interface) for node, interface, _ in WAY)


@dataclass
class Side:
    address: str
    port: int
    seq: int
    sent: int = 0


@dataclass
class Wire:
    """Collects frames by node; `clock_ns` is how far each node's clock is ahead."""

    clock_ns: dict[str, int] = field(default_factory=dict)
    frames: dict[str, list[p.Record]] = field(default_factory=lambda: {"node-a": [], "node-b": []})
    ip_id: int = 0

    def connection(self, port: int = 9999, client_port: int = 40000) -> Talk:
        return Talk(self, [Side(POD_A, client_port, client_port * 100_003), Side(POD_B, port, client_port * 90_001)])

    def see(self, at_ns: int, *, reply: bool, only: Sequence[tuple[str, int]], ttls: dict[int, bytes]) -> None:
        for place, (node, interface, _) in enumerate(WAY):
            if (node, interface) in only:
                after = WAY[len(WAY) - 1 - place][2] if reply else WAY[place][2]
                frame = p.sll2(ttls[place], interface, IN if place % 2 == reply else OUT)
                self.frames[node].append(p.Record(frame, at_ns + after + self.clock_ns.get(node, 0)))

    def write(self, folder: Path) -> Bundle:
        for node, frames in self.frames.items():
            (folder / f"{node}.pcap").write_bytes(p.pcap(sorted(frames, key=lambda each: each.time_ns), p.SLL2))
        return read_bundle([folder])

    def traced(self, folder: Path) -> RequestTrace:
        return trace_requests(trace(self.write(folder)))


@dataclass
class Talk:
    """One TCP connection on a Wire."""

    wire: Wire
    sides: list[Side]

    def send(
        self,
        at_ns: int,
        flags: str,
        payload: bytes = b"",
        *,
        reply: bool = False,
        only: Sequence[tuple[str, int]] = ALL,
        again: bool = False,
    ) -> None:
        """`at_ns` (after START_NS) is when it left its pod; `again` sends the last payload once more."""
        me, other = self.sides[reply], self.sides[not reply]
        seq = me.seq - len(payload) if again else me.seq
        self.wire.ip_id += 1

        def packet(ttl: int) -> bytes:
            segment = p.tcp(
                me.port, other.port, flags, payload, seq=seq, ack=other.seq if "A" in flags else 0, options=p.timestamps(1 + at_ns // MS, 1)
            )
            return p.ip4(me.address, other.address, segment, ttl=ttl, ip_id=self.wire.ip_id)

        ttls = {place: packet(64 - (place + 1) // 2 if not reply else 64 - (len(WAY) - place) // 2) for place in range(len(WAY))}
        self.wire.see(START_NS + at_ns, reply=reply, only=only, ttls=ttls)
        me.seq += (0 if again else len(payload)) + ("S" in flags) + ("F" in flags)

    def open(self, at_ns: int) -> Talk:
        self.send(at_ns, "S")
        self.send(at_ns + ACROSS_NS, "SA", reply=True)
        self.send(at_ns + 2 * ACROSS_NS, "A")
        return self
