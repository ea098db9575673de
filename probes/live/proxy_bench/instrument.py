"""hopline's packets probe as the instrument: both interfaces of the node, one kernel clock, records of one fixed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.live.clock import Clock
from probes.live.links import Links
from probes.live.namespaces import inside
from probes.live.packets import Packets, Selection
from probes.live.pcapng import InterfaceDescription
from probes.live.proxy_bench.road import CLIENT_LINK, SERVER_LINK, Road
from probes.schema import Array

RING_BYTES = 16 << 20  # of a node: what three bursts leave in it
CAPTURED = 96  # bytes: the shortest record that packets.c makes holds all headers of what is sent here

# `struct packet` of packets.c, and an Ethernet, IPv4 and TCP header after it (in network order).
RECORD = np.dtype([
    ("time_ns", "u8"), ("ifindex", "u4"), ("wire_bytes", "u4"), ("captured_bytes", "u2"), ("kind", "u1"), ("pad", "u1", 5),
    ("mac", "u1", 12), ("ethertype", ">u2"),
    ("version_length", "u1"), ("tos", "u1"), ("total_bytes", ">u2"), ("ip_id", ">u2"), ("fragment", ">u2"), ("ttl", "u1"), ("proto", "u1"),
    ("ip_sum", ">u2"), ("src", ">u4"), ("dst", ">u4"),
    ("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1"), ("window", ">u2"),
    ("tcp_sum", ">u2"), ("urgent", ">u2"), ("rest", "u1", 42),
])  # fmt: skip


class _Nowhere:
    """Where packets go that are never written: they are read from the rings as they are."""

    def interface(self, _description: InterfaceDescription) -> int:
        """Every observation point has the same number: nobody asks for it."""
        return 0

    def write(self, _blocks: Array) -> int:
        """What is left in the rings at the end is of no use."""
        return 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the probe counted: packets, those lost because a ring was full or the packet unreadable, and its own time per packet (ns)."""

    packets: int
    lost: int
    own_ns: float


class Instrument:
    """The probe on a road's node. BpfError or OSError where the kernel does not let us."""

    def __init__(self, road: Road) -> None:
        self._packets = Packets(
            _Nowhere(), Clock(), Selection(payload_bytes=0), netns=road.netns("node"), ring_bytes=RING_BYTES
        )  # fmt: skip
        with inside(road.netns("node")):
            links = Links()
            there = {link.name: link.index for link in links.interfaces()}
            links.close()
        self.client_ifindex, self.server_ifindex = there[CLIENT_LINK], there[SERVER_LINK]

    def take(self) -> Array:
        """What was seen since the last time, as RECORDs in no particular order."""
        return self._packets.take(RECORD)

    def listen(self, on: bool) -> None:
        """See packets, or none until told otherwise: they then pass as if there were no probe."""
        self._packets.listen(on)

    def seen(self) -> Seen:
        """What was counted so far."""
        counted = self._packets.counters()
        return Seen(counted["seen"], counted["failed"] + counted["ring_dropped"], counted["cost_ns"] / max(counted["seen"], 1))

    def close(self) -> None:
        """See nothing more."""
        self._packets.close()
