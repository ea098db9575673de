"""The probe: a socket filter per network namespace, and its packets as blocks of a pcapng file."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from probes.live.bpf import BpfError, Program
from probes.live.clock import Clock
from probes.live.links import Interface, Links
from probes.live.namespaces import inside
from probes.live.packets.blocks import Blocks
from probes.live.packets.selection import Selection, apply, set_share
from probes.live.packets.tc import EGRESS, INGRESS, attach_both_ways
from probes.live.pcapng import InterfaceCounters, InterfaceDescription
from probes.live.refusals import refusal
from probes.live.rings import many_rings, ring_of_each
from probes.schema import Array

SOURCE = Path(__file__).with_name("packets.c")
RING_BYTES = 64 << 20  # all rings of a namespace together: a second of 50,000 packets/s that are copied whole
MOST_RINGS = 8
FLOWS = 262_144
HEADERS_BYTES = 256  # more than the headers of any packet that is followed, tunnel included
LINK_HEADERS = 65_536  # size of the map of that name
SO_ATTACH_BPF, ETH_P_ALL = 50, 3
ETH_P_802_EX1 = 0x88B5  # for experiments (IEEE 802): no packet of a node's has it
BY_TC = 0x80


@dataclass(slots=True)
class Seen:
    """What the socket filter of one interface, or of all, counted since it began; times in ns."""

    seen: int = 0
    filtered: int = 0  # no condition held
    sampled_out: int = 0
    dropped: int = 0  # no room in the ring
    failed: int = 0  # its bytes could not be read
    submitted: int = 0  # put into the ring
    timed: int = 0
    timed_ns: int = 0

    def __add__(self, other: Seen) -> Seen:
        return Seen(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Seen)))

    @property
    def selected(self) -> int:
        """Packets that were to be kept."""
        return self.seen - self.filtered - self.sampled_out

    @property
    def cost_ns(self) -> int:
        """Time spent in the socket filter, by the packets that were timed."""
        return self.timed_ns * self.seen // self.timed if self.timed else 0


class File(Protocol):
    """Where packets go: `probes.live.segments.Segments`, or what takes its place."""

    def interface(self, description: InterfaceDescription, /) -> int:
        """The number of an observation point."""

    def write(self, blocks: Array, /) -> int:
        """Write blocks of pcapng (u1); how many packets came into the file."""


class Packets:
    """Sees every packet of the namespace `netns` (None: this process's own), and writes what `selection` lets through to `segments`."""

    def __init__(
        self, segments: File, clock: Clock, selection: Selection, *, netns: Path | None = None, ring_bytes: int = RING_BYTES,
        tc: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """See the packets of interfaces `tc` by TC programs. BpfError or OSError where the kernel does not let us."""
        self.selection, self.netns, self.share = selection, netns, selection.share
        self._segments, self._clock = segments, clock
        count = min(MOST_RINGS, os.cpu_count() or 1)
        defines = {"RINGS": count, "CONDITIONS": selection.conditions, "FLOWS": FLOWS if selection.tracks else 1} | (
            {"TC": 1} if tc else {}
        )
        self._program, self._tc = Program(SOURCE, defines), tc
        function = self._program.load("see_packet", "socket_filter")
        self._rings = many_rings(self._program, "rings", count, ring_of_each(ring_bytes, count))
        apply(selection, self._program.map)
        self._counters = self._program.map("counters")
        self._counters[ctypes.c_uint32(0)] = self._counters.Leaf()
        self._known: dict[int, Interface] = {}
        self._numbers: dict[int, int] = {}  # in the file, by ifindex
        self._read = self._written = 0  # packets
        self._tc_links: list[int] = []
        self._by_tc: set[int] = set()  # interfaces
        self._last: dict[int, Seen] = {}  # when nothing more is seen
        self._blocks = Blocks(count, self._number_of)
        with inside(netns):
            self._links = Links()
            self._socket = _packet_socket()
        try:
            self.look_for_interfaces()
            if tc:
                with inside(netns):
                    self._attach_tc()
            self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, function)
            _bind(self._socket, ETH_P_ALL)
        except (BpfError, OSError):
            self._socket.close()
            self._links.close()
            self._program.close()
            raise

    def _attach_tc(self) -> None:
        """TC programs at the interfaces that were asked for; the socket filter leaves those alone."""
        functions = {INGRESS: self._program.load("see_ingress", "sched_cls"), EGRESS: self._program.load("see_egress", "sched_cls")}
        there = {interface.name: interface for interface in self._known.values()}
        for name in self._tc:
            if name not in there:
                raise BpfError(f"there is no interface {name} (there are {', '.join(sorted(there))})")
            self._tc_links += attach_both_ways(functions, there[name].index, name)
            self._by_tc.add(there[name].index)
            self._program.map("link_header")[ctypes.c_uint32(there[name].index)] = ctypes.c_uint8(there[name].header_bytes + 1 | BY_TC)

    def look_for_interfaces(self) -> None:
        """Learn the interfaces that there are now: new ones, and those with a new name."""
        headers = self._program.map("link_header")
        for interface in self._links.interfaces():
            if self._known.get(interface.index) != interface:
                if interface.index < LINK_HEADERS:
                    by = BY_TC if interface.index in self._by_tc else 0
                    headers[ctypes.c_uint32(interface.index)] = ctypes.c_uint8(interface.header_bytes + 1 | by)
                self._introduce(interface)

    def _introduce(self, interface: Interface) -> None:
        name = f"{self.netns.name}/{interface.name}" if self.netns else interface.name
        number = self._segments.interface(
            InterfaceDescription(
                name,
                interface.link_type,
                self.selection.payload_bytes + HEADERS_BYTES,
                f"ifindex {interface.index}",
                self.selection.in_words(),
            )
        )
        self._known[interface.index], self._numbers[interface.index] = interface, number
        self._blocks.number(interface.index, number)

    def _number_of(self, ifindex: int) -> int:
        """The number in the file of an interface that nobody told about: it is looked up, or named by its index."""
        self.look_for_interfaces()
        if ifindex not in self._numbers:  # gone before anybody could ask
            self._introduce(Interface(ifindex, f"if{ifindex}"))
        return self._numbers[ifindex]

    def drain(self) -> None:
        """Write what the rings hold."""
        if all(ring.empty for ring in self._rings):
            return
        for count, blocks, taken in self._blocks.of([ring.peek() for ring in self._rings], self._clock.offset_ns):
            self._read += count
            for ring, span_bytes in zip(self._rings, taken, strict=True):
                ring.release(span_bytes)
            self._written += self._segments.write(blocks)

    def take(self, dtype: np.dtype[Any]) -> Array:
        """What the rings hold, as records of one fixed form, instead of writing it: PACKET of blocks.py and the packet's first bytes."""
        found = np.concatenate([ring.records(dtype) for ring in self._rings])
        self._read += len(found)
        return found

    def listen(self, on: bool) -> None:
        """Let packets pass unseen (and uncounted), or see them again; TC programs go on."""
        _bind(self._socket, ETH_P_ALL if on else ETH_P_802_EX1)

    def keep(self, share: float) -> None:
        """Keep `share` of the connections from now on."""
        self.share = share
        set_share(self.selection, share, self._program.map)

    def seen(self) -> dict[int, Seen]:
        """What each interface's packets came to, by ifindex (0: of those beyond the map's size)."""
        return self._last or {
            key.value: Seen(*(sum(getattr(each, name) for each in per_cpu) for name in Seen.__dataclass_fields__))
            for key, per_cpu in self._counters.items()
        }

    def statistics(self) -> dict[int, InterfaceCounters]:
        """What was counted before packets came to the file, by number in it."""
        return {
            self._numbers[ifindex]: InterfaceCounters(
                received=seen.seen, accepted=seen.selected, dropped_by_system=seen.dropped + seen.failed
            )
            for ifindex, seen in self.seen().items()
            if ifindex in self._known
        }

    def counters(self) -> dict[str, int]:
        """Packets: seen == filtered + sampled_out + failed + ring_dropped + read + (what waits in the rings)."""
        seen = sum(self.seen().values(), Seen())
        return {
            "seen": seen.seen, "filtered": seen.filtered, "sampled_out": seen.sampled_out, "failed": seen.failed,
            "ring_dropped": seen.dropped, "read": self._read, "written": self._written, "cost_ns": seen.cost_ns,
        }  # fmt: skip

    def close(self) -> None:
        """See nothing more; write what was seen."""
        for descriptor in self._tc_links:
            os.close(descriptor)
        self._socket.close()
        self.drain()
        self._links.close()
        self._last = self.seen()
        self._program.close()


def _packet_socket() -> socket.socket:
    """A socket that gets nothing (protocol 0) until its filter is there."""
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        raise refusal("a packet socket", error.errno or 0, ("CAP_NET_RAW",)) from error


def _bind(packets: socket.socket, protocol: int) -> None:
    """Packets of that protocol at every interface from now on (packet(7)); Python's own `bind` wants the name of one interface."""
    address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(protocol), 0, 0, 0, 0, b"")
    if ctypes.CDLL(None, use_errno=True).bind(packets.fileno(), address, len(address)):
        raise OSError(ctypes.get_errno(), "no packets can be seen")
