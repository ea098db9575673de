"""What `conntrack -E -o timestamp,id` would print on each node."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from analysis.synth.clocks import Clocks
from analysis.synth.objects import dotted
from analysis.synth.traffic import MIDDLE, ORIGINAL, TRANSLATED
from analysis.synth.ways import NAMES
from probes.schema import Array, Table

PRINTED_LATE_NS, ESTABLISHED_NS = 80_000_000, 1_000_000
_MIDDLE_WAYS = np.array([name.startswith("other-node") for name in NAMES])
_REMOTE_WAYS = np.array([name.endswith("-remote") for name in NAMES])

Steps = list[tuple[int, int, int]]  # (node, stage before, stage after)


def steps(way: int, places: list[int]) -> Steps:
    """The entries that a conversation has: what each node on its way makes of it, the untranslated included."""
    first, middle, last, *_ = places
    found = [(first, ORIGINAL, MIDDLE), (middle, MIDDLE, TRANSLATED)] if _MIDDLE_WAYS[way] else [(first, ORIGINAL, TRANSLATED)]
    return [*found, (last, TRANSLATED, TRANSLATED)] if _REMOTE_WAYS[way] else found


class Ledger:
    """Writes the lines; each entry has an id of its own."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks, self._entries = clocks, count(1)

    def lines(self, conversations: Table, ended_ns: Array) -> Iterator[tuple[int, int, str]]:
        """`(node, time printed on its clock, line)` of all entries; `ended_ns` is when a conversation's are destroyed, -1 never."""
        columns = (conversations[name].tolist() for name in ("way", "places", "ends", "start_ns"))
        for way, places, ends, start_ns, end_ns in zip(*columns, ended_ns.tolist(), strict=True):
            for node, before, after in steps(way, places):
                identity = next(self._entries) * 2654435761 & 0xFFFF_FFFF
                new, established = _entry(ends[before], ends[after], identity)
                for time_ns, line in (
                    (start_ns, f"    [NEW] {new}"),
                    (start_ns + ESTABLISHED_NS, f" [UPDATE] {established}"),
                    (end_ns - PRINTED_LATE_NS, f"[DESTROY] {established}"),
                ):
                    if time_ns > 0:
                        printed = self._clocks.shown_ns(node, time_ns + PRINTED_LATE_NS)
                        yield node, printed, f"[{printed // 10**9}.{printed % 10**9 // 1000:06d}]\t{line}\n"


def _entry(before: list[int], after: list[int], identity: int) -> tuple[str, str]:
    """A new entry, and one that is established."""
    source, sport, destination, dport = before
    back, back_port, answering, answering_port = after
    original = f"src={dotted(source)} dst={dotted(destination)} sport={sport} dport={dport}"
    reply = f"src={dotted(answering)} dst={dotted(back)} sport={answering_port} dport={back_port}"
    start, end = "ipv4     2 tcp      6", f"id={identity}"
    return f"{start} 120 SYN_SENT {original} [UNREPLIED] {reply} {end}", f"{start} 432000 ESTABLISHED {original} {reply} [ASSURED] {end}"
