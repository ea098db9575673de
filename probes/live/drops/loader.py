"""Loads drops.c, and turns what it tells into lines of NODE.drops.jsonl (docs/bundle.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from probes import addresses
from probes.decode.numbers import TCP
from probes.live.bpf import BpfError, Program
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.kernel_types import KernelTypes
from probes.live.lines import Lines
from probes.live.rings import Ring
from probes.live.symbols import Symbols
from probes.schema import Array

SOURCE = Path(__file__).with_name("drops.c")
STRUCTS = {
    "sk_buff": ("head", "network_header", "protocol", "dev", "cb"), "net_device": ("ifindex", "nd_net"), "net": ("ns",),
    "ns_common": ("inum",), "sock": ("__sk_common",),
    "sock_common": (
        "skc_family", "skc_rcv_saddr", "skc_daddr", "skc_v6_rcv_saddr", "skc_v6_daddr", "skc_num", "skc_dport", "skc_net",
    ),
}  # fmt: skip
# struct event of drops.c, with struct ends of skb.h in it.
ENDS: list[tuple[Any, ...]] = [
    ("src", ">u8", 2), ("dst", ">u8", 2), ("seq", "u4"), ("sport", "u2"), ("dport", "u2"), ("proto", "u1"), ("tcp_flags", "u1"),
    ("ends_pad", "u1", 2),
]  # fmt: skip
EVENT = np.dtype(
    [("time_ns", "i8"), ("location", "u8"), *ENDS, ("reason", "u4"), ("ifindex", "u4"), ("netns", "u4"), ("event", "u1"), ("pad", "u1", 7)]
)
EVENTS = {1: "drop", 2: "retransmit"}
TRACEPOINTS = {"on_kfree_skb": "kfree_skb", "on_tcp_retransmit_skb": "tcp_retransmit_skb"}
# Buffers that are freed in the normal course of things; the last is what code says that gives no reason.
NO_DROPS = frozenset({"SKB_NOT_DROPPED_YET", "SKB_CONSUMED", "SKB_DROP_REASON_NOT_SPECIFIED"})
RING_BYTES = 1 << 18  # some 3,000 events: what one drain may have to write
COUNTS_EVERY_NS = 1_000_000_000
STATISTICS = ("seen", "filtered", "submitted", "failed", "uncounted")


class Drops:
    """The probe. Where kernel memory may not be read it only counts, by reason and place: `why_counted` says why, else it is None."""

    def __init__(self, path: Path, clock: Clock, budget: Budget | None = None, *, details: bool = True) -> None:
        """Write to `path`. BpfError where the kernel has no reasons for drops (before 5.17), or does not let us look."""
        names = KernelTypes().constants("skb_drop_reason")
        self._reasons = {value: name.removeprefix("SKB_DROP_REASON_").removeprefix("SKB_") for value, name in names.items()}
        self.why_counted: str | None = None if details else "not asked for"
        if details:
            try:
                self._program, self._attachments = _attached({"DETAILS": 1, "RING_BYTES": RING_BYTES}, names)
            except BpfError as error:
                self.why_counted = str(error)
        if self.why_counted is not None:
            self._program, self._attachments = _attached({"DETAILS": 0}, names)
        try:
            self._ring = Ring(self._program.map("events").map_fd, RING_BYTES) if self.why_counted is None else None
            self._clock, self._symbols, self._lines = clock, Symbols(), Lines(path, budget)
        except BaseException:
            self._program.close()
            raise
        self._counted: dict[tuple[int, int, int], int] = {}
        self._since_ns = clock.now_ns()
        self._written = self._lost = 0
        self._closed: dict[str, int] | None = None

    def drain(self) -> None:
        """Write the events that are there; without details, once a second, what was counted."""
        if self._ring is not None:
            events = self._ring.records(EVENT)
            self._keep(list(self._event_lines(events)))
        elif self._clock.now_ns() >= self._since_ns + COUNTS_EVERY_NS:
            self._write_counts()

    def _keep(self, lines: list[dict[str, Any]]) -> None:
        written = self._lines.write(lines)
        self._written += written
        self._lost += len(lines) - written

    def _event_lines(self, events: Array) -> Iterator[dict[str, Any]]:
        names = self._symbols.names(events["location"][events["location"] > 0].tolist())
        times = self._clock.wall_ns(events["time_ns"]).tolist()
        for time_ns, event in zip(times, events, strict=True):
            known = bool(event["proto"])
            ports = bool(event["sport"] or event["dport"])
            yield {
                "time_ns": time_ns, **self._place(int(event["event"]), int(event["reason"]), names.get(int(event["location"]))),
                "proto": int(event["proto"]) if known else None,
                "src": addresses.text(*event["src"].tolist()) if known else None,
                "dst": addresses.text(*event["dst"].tolist()) if known else None,
                "sport": int(event["sport"]) if ports else None, "dport": int(event["dport"]) if ports else None,
                "seq": int(event["seq"]) if event["proto"] == TCP and ports else None,
                "tcp_flags": int(event["tcp_flags"]) if event["tcp_flags"] else None,
                "ifindex": int(event["ifindex"]) or None, "netns": int(event["netns"]) or None,
            }  # fmt: skip

    def _place(self, event: int, reason: int, location: str | None) -> dict[str, Any]:
        drop = EVENTS[event] == "drop"
        return {"event": EVENTS[event], "reason": self._reasons.get(reason, str(reason)) if drop else None, "location": location}

    def _write_counts(self) -> None:
        """What was counted since the last time."""
        counts = {(key.event, key.reason, key.location): value.value for key, value in self._program.map("counts").items()}
        grown = {place: value - self._counted.get(place, 0) for place, value in counts.items() if value > self._counted.get(place, 0)}
        names = self._symbols.names(location for _, _, location in grown if location)
        now_ns = self._clock.now_ns()
        lines = [
            {"time_ns": now_ns, "since_ns": self._since_ns, **self._place(event, reason, names.get(location)), "count": count}
            for (event, reason, location), count in sorted(grown.items())
        ]
        if self._lines.write(lines) == len(lines):  # else it is counted on, and written later
            self._counted, self._since_ns = counts, now_ns
            self._written += sum(grown.values())

    def counters(self) -> dict[str, int]:
        """Events: seen == filtered (no drops) + written + dropped, once drained; after `close` the last."""
        if self._closed is not None:
            return self._closed
        table = self._program.map("statistics")
        found = {name: int(table.sum(table.Key(number)).value) for number, name in enumerate(STATISTICS)}
        unwritten = found["failed"] if self._ring is not None else found["uncounted"]
        return {"seen": found["seen"], "filtered": found["filtered"], "written": self._written, "dropped": unwritten + self._lost}

    def close(self) -> None:
        """Detach, write the last events, close the file."""
        for attachment in self._attachments:
            self._program.detach(attachment)
        if self._ring is None:
            self._write_counts()
        else:
            self.drain()
        self._closed = self.counters()
        self._program.close()
        self._lines.close()


def _attached(defines: dict[str, int], reasons: dict[int, str]) -> tuple[Program, list[int]]:
    program = Program(SOURCE, defines, STRUCTS if defines["DETAILS"] else None)
    try:
        ignored = program.map("ignored")
        for value, name in reasons.items():
            if name in NO_DROPS:
                ignored[ignored.Key(value)] = ignored.Leaf(1)
        return program, [program.attach_raw_tracepoint(function, tracepoint) for function, tracepoint in TRACEPOINTS.items()]
    except BaseException:
        program.close()
        raise
