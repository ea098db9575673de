"""The probe: a listener to conntrack's events, dumps beside it, and both in pcapng files of netlink messages."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from probes.capture.blocks import ENHANCED_PACKET, OPT_COMMENT
from probes.conntrack import remark
from probes.conntrack.messages import LINK_TYPE
from probes.live.clock import Clock
from probes.live.ledger.datagrams import COOKED, Datagrams, allowed, hear, lost, netlink_socket, require_conntrack
from probes.live.ledger.dump import Bounds, Dump, count_entries, tally
from probes.live.ledger.tap import Tap
from probes.live.pcapng import InterfaceDescription
from probes.live.refusals import BpfError
from probes.live.segments import Segments
from probes.schema import Array

NEW, UPDATE, DESTROY = 1, 2, 3  # NFNLGRP_CONNTRACK_*
SLOTS, SLOT_BYTES = 1024, 1024  # an event is 200 to 500 bytes long
DRAIN_SECONDS = 0.05  # of events at a time,
SLICE_SECONDS = 0.002  # and of a dump
HEAL_SECONDS = 10.0  # between the end of a dump and the next one that an overrun asks for


def _clock_time(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%H:%M:%S}.{time_ns // 10**6 % 1000:03} UTC"


def _remark_block(interface: int, time_ns: int, text: str) -> Array:
    """An enhanced packet block (u1) whose datagram has no message, with a comment."""
    comment = text.encode()
    options = struct.pack("=HH", OPT_COMMENT, len(comment)) + comment + bytes(-len(comment) % 4) + bytes(4)
    size = 32 + len(COOKED) + len(options)
    head = struct.pack("=7I", ENHANCED_PACKET, size, interface, time_ns >> 32, time_ns & 0xFFFF_FFFF, len(COOKED), len(COOKED))
    return np.frombuffer(head + COOKED + options + struct.pack("=I", size), "u1")


@dataclass(frozen=True, slots=True)
class Listening:
    """How to listen. Messages go through a ring, where this kernel allows it; what that has no room for waits in the socket's buffer.

    `updates` adds the events between an entry's first and last. They tell nothing that a join needs, as a translation is settled before the
    first one, and the kernel makes them, five for a TCP connection, only if somebody listens: while packets wait.
    """

    updates: bool = False
    ring_bytes: int = 1 << 24  # a power of two; 0: no ring
    buffer_bytes: int = 1 << 25  # some 20,000 events, as the kernel counts their memory


class Ledger:
    """What conntrack says in one network namespace, written to `segments`: they are this probe's alone, and end with it.

    With `events`, every new and every ended entry, beside a dump of what was there at the beginning; without, one dump at the end, by
    `close`, and nobody listens before that. Only entries that began while somebody listened end with an event (nf_conntrack_events=2,
    Linux 5.19).
    """

    def __init__(
        self, segments: Segments, clock: Clock, *, events: bool = True, listening: Listening | None = None,
        netns: Path | None = None, bounds: Bounds | None = None, say: Callable[[str], None] = lambda _line: None,
    ) -> None:  # fmt: skip
        """Listen, and begin the first dump. `say` is told what is missing, a line each. BpfError where the kernel refuses."""
        self._segments, self._clock, self._netns, self._say = segments, clock, netns, say
        self._bounds = bounds or Bounds()
        self._counts = dict.fromkeys(("seen", "written", "dropped", "overrun", "dumps", "dumps_cut", "dump_entries"), 0)
        self._dump: Dump | None = None
        self._wanted = not events  # a dump
        self._rested = 0.0  # when the next dump may begin (time.monotonic())
        self._clean_ns = clock.now_ns()  # until when nothing is missing,
        self._missing: int | None = None  # and how many events since; 0: nobody knows
        self._listener: Datagrams | None = None
        self._tap: Tap | None = None
        self._interface = segments.interface(InterfaceDescription("conntrack", LINK_TYPE, description="messages of ctnetlink"))
        self._be_ready()
        if events:
            self._listen(listening or Listening())
            self._begin_dump()

    def _be_ready(self) -> None:
        """Meet refusals, and compile or load what is compiled, before the first event waits for it."""
        require_conntrack()
        quiet = Datagrams(netlink_socket(netns=self._netns), 1, SLOT_BYTES)
        with closing(quiet.sock):
            with allowed():
                count_entries(quiet.sock)
            count = quiet.receive()
            self._write(count, self._blocks(quiet, count))
            tally(quiet, count)

    def _listen(self, how: Listening) -> None:
        self._listener = Datagrams(netlink_socket(how.buffer_bytes, self._netns), SLOTS, SLOT_BYTES)
        try:
            if how.ring_bytes:
                self._tap = self._tapped(self._listener, how.ring_bytes)
            hear(self._listener.sock, (NEW, UPDATE, DESTROY) if how.updates else (NEW, DESTROY))
        except (BpfError, OSError):
            self._stop_listening()
            raise

    def _tapped(self, listener: Datagrams, ring_bytes: int) -> Tap | None:
        try:
            tap = Tap(listener.sock, ring_bytes)
        except (BpfError, OSError) as error:
            self._say(f"conntrack's events have the time of their reading, not the kernel's: {error}")
            return None
        self._write(*tap.take(self._interface, self._clock))  # compiles
        return tap

    def _stop_listening(self) -> None:
        """Write what the ring has got, once nothing more comes."""
        if self._listener is not None:
            self._listener.sock.close()
        if self._tap is not None:
            self._write(*self._tap.take(self._interface, self._clock))
            self._tap.close()

    def drain(self) -> None:
        """Take the events that wait, then a slice of a dump."""
        if self._listener is None:
            return
        self._take_events(self._listener)
        if self._dump is None and self._wanted and time.monotonic() >= self._rested:
            self._begin_dump()
        self._take_slice(SLICE_SECONDS)

    def counters(self) -> dict[str, int]:
        """Datagrams: `seen` is `written` and `dropped`, of which `overrun` had no room in the socket's buffer. Dumps and their entries."""
        return dict(self._counts)

    def close(self) -> None:
        """Take what waits, stop listening, finish a dump that is due."""
        if self._listener is not None:
            self._take_events(self._listener)
            self._stop_listening()
            self._end_gap()
        if self._dump is None and self._wanted:
            self._begin_dump()
        if self._dump is not None:
            self._dump.hurry()
        while self._dump is not None:
            self._take_slice(DRAIN_SECONDS)
        self._segments.close()

    def _take_events(self, listener: Datagrams) -> None:
        if self._tap is not None and self._tap.has_some:
            self._write(*self._tap.take(self._interface, self._clock))
        until, count = time.monotonic() + DRAIN_SECONDS, SLOTS
        while count == SLOTS and time.monotonic() < until:
            count = listener.receive()
            if count:
                self._write(count, self._blocks(listener, count))
        missed = lost(listener.sock) - self._counts["overrun"]
        if missed or listener.errors:  # where the kernel had no memory for a message, it does not count
            listener.errors = 0
            for name in ("seen", "dropped", "overrun"):
                self._counts[name] += missed
            self._missing = (self._missing or 0) + missed
            self._wanted = True
        elif count < SLOTS:
            self._end_gap()

    def _end_gap(self) -> None:
        """Everything up to now is there, but for what is `missing`: say so."""
        now_ns = self._clock.now_ns()
        if self._missing is not None:
            between = f"between {_clock_time(self._clean_ns)} and {_clock_time(now_ns)}"
            self._remark(
                f"the ledger missed {self._missing or 'some'} events {between}: joins there rest on packets",
                "entries that lived on were dumped afterwards; record with less load",
            )
        self._missing, self._clean_ns = None, now_ns

    def _begin_dump(self) -> None:
        self._wanted = False
        self._counts["dumps"] += 1
        try:
            self._dump = Dump(netlink_socket(netns=self._netns), self._bounds)
        except OSError as error:
            self._cut(f"could not begin ({error.strerror})")

    def _take_slice(self, seconds: float) -> None:
        dump = self._dump
        if dump is None:
            return
        before = dump.entries
        try:
            for datagrams, count in dump.slices(time.monotonic() + seconds):
                self._write(count, self._blocks(datagrams, count))
        except OSError as error:
            dump.close()
            dump.cut = f"by the kernel ({error.strerror})"
        self._counts["dump_entries"] += dump.entries - before
        if dump.over:
            self._dump = None
            self._rested = time.monotonic() + HEAL_SECONDS
            if dump.cut:
                self._cut(f"was cut {dump.cut}, with {dump.entries} entries of {dump.expected or 'an unknown number'}")

    def _cut(self, how: str) -> None:
        self._counts["dumps_cut"] += 1
        self._remark(f"the dump of conntrack's entries {how}", "connections that were open already may lack theirs; raise the limit")

    def _blocks(self, datagrams: Datagrams, count: int) -> Array:
        return datagrams.blocks(count, self._interface, self._clock.now_ns())

    def _write(self, count: int, blocks: Array) -> None:
        written = self._segments.write(blocks)
        self._counts["seen"] += count
        self._counts["written"] += written
        self._counts["dropped"] += count - written

    def _remark(self, what: str, remedy: str) -> None:
        self._say(f"{what} ({remedy})")
        self._segments.write(_remark_block(self._interface, self._clock.now_ns(), remark(what, remedy)))
