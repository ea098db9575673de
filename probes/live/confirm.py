"""The ledger by kprobe: each connection once, with its final tuples, as `new` lines of NODE.conntrack.jsonl.

Cheaper than a listener of conntrack's events, which doubles what a first packet takes. It has no ids and tells no ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from probes.conntrack.jsonl import write_jsonl
from probes.conntrack.rows import EVENTS
from probes.live.bpf import Program
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.event_lines import EventLines
from probes.live.namespaces import OWN
from probes.schema import LEDGER, Array, Table

SOURCE = Path(__file__).with_name("confirm.c")
STRUCTS = {
    "sk_buff": ("head", "network_header", "protocol", "_nfct"), "net": ("ns",), "ns_common": ("inum",),
    "nf_conn": ("tuplehash", "status", "ct_net"), "nf_conntrack_tuple_hash": ("tuple",), "nf_conntrack_tuple": ("src", "dst"),
}  # fmt: skip
# struct confirmed of confirm.c, with struct direction of conntrack.h in it twice.
_DIRECTION: list[tuple[Any, ...]] = [("src", ">u8", 2), ("dst", ">u8", 2), ("sport", "u2"), ("dport", "u2")]
CONFIRMED = np.dtype([("time_ns", "i8"), ("original", _DIRECTION), ("reply", _DIRECTION), ("proto", "u1"), ("pad", "u1", 7)])
FUNCTION = "__nf_conntrack_confirm"
RING_BYTES = 1 << 20  # some 10,000 connections


class Confirmed(EventLines):
    """The probe. The connections of the namespace it is made in, or of the one at `netns`."""

    FORM = CONFIRMED

    def __init__(self, path: Path, clock: Clock, budget: Budget | None = None, *, netns: Path = OWN) -> None:
        """Write to `path`. BpfError where the kernel has no kprobes or no conntrack, or does not let us look."""
        self._clock = clock
        program = Program(SOURCE, {"NETNS": netns.stat().st_ino, "RING_BYTES": RING_BYTES}, STRUCTS)
        try:
            program.attach_kretprobe("on_leave", FUNCTION)
            program.attach_kprobe("on_enter", FUNCTION)
        except BaseException:
            program.close()
            raise
        super().__init__(program, "events", RING_BYTES, path, budget)

    def _text(self, events: Array) -> Iterable[str]:
        return write_jsonl(_ledger(events, self._clock.wall_ns(events["time_ns"])))


def _ledger(events: Array, times_ns: Array) -> Table:
    """LEDGER rows of CONFIRMED records."""
    known: Table = {"time_ns": times_ns, "proto": events["proto"]}
    for way in ("original", "reply"):
        for end in ("src", "dst"):
            known |= {f"{way}_{end}_hi": events[way][end][:, 0], f"{way}_{end}_lo": events[way][end][:, 1]}
        known |= {f"{way}_{port}": events[way][port] for port in ("sport", "dport")}
    rest = {"start_ns": -1, "id": -1, "event": EVENTS["new"], "flags": 0}
    columns = {name: np.full(len(events), value) for name, value in rest.items()} | known
    return LEDGER.check({column.name: columns[column.name].astype(column.dtype) for column in LEDGER.columns})
