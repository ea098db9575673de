"""What a kernel said of packets that it dropped and TCP segments that it sent again: the lines of NODE.drops.jsonl (docs/drops.md).

    {"time_ns": 1795516141747624795, "event": "drop", "reason": "NETFILTER_DROP", "location": "nf_hook_slow+0xb6", "proto": 6,
     "src": "10.244.1.3", "dst": "10.244.2.7", "sport": 37822, "dport": 5000, "seq": 3735928559, "tcp_flags": 2, "ifindex": 4,
     "netns": 4026531833}
    {"time_ns": 1795516143028704226, "since_ns": 1795516142027410457, "event": "drop", "reason": "NO_SOCKET",
     "location": "__udp4_lib_rcv+0x4bc", "count": 23}

The second form is from kernels that do not let us see whose packets they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probes.addresses import parse
from probes.json_lines import read_rows, table_of, text, whole
from probes.schema import Column, Problem, Schema, Table

EVENTS = {"drop": 0, "retransmit": 1}

DROPS = Schema(
    "drops",
    (
        Column("time_ns", "i8", "ns since the epoch", "when; of counted ones, until when"),
        Column("count", "i8", "", "how many packets"),
        Column("src_hi", "u8", "", "source address, bytes 0-7"),
        Column("src_lo", "u8", "", "source address, bytes 8-15"),
        Column("dst_hi", "u8", "", "destination address, bytes 0-7"),
        Column("dst_lo", "u8", "", "destination address, bytes 8-15"),
        Column("seq", "i8", "", "TCP sequence number; -1 where not told"),
        Column("place", "i4", "", "place in `Drops.places`"),
        Column("sport", "u2", "", "source port, or ICMP identifier; 0 where not told"),
        Column("dport", "u2", "", "destination port, or ICMP identifier; 0 where not told"),
        Column("proto", "u1", "", "IANA protocol number; 0: the flow is not told"),
        Column("tcp_flags", "u1", "", "TCP flags byte; 0 where not told"),
        Column("event", "u1", "", "0 dropped, 1 TCP segment sent again"),
    ),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Why and where packets died: the kernel's reason, without SKB_DROP_REASON_, and the function that freed them; None where unknown."""

    reason: str | None
    function: str | None

    def __str__(self) -> str:
        """`NETFILTER_DROP in nf_hook_slow`."""
        return f"{self.reason or 'no reason told'} in {self.function or 'a function not told'}"


@dataclass(slots=True)
class Drops:
    """DROPS of one node, and the places they name."""

    table: Table = field(default_factory=DROPS.empty)
    places: list[Place] = field(default_factory=list)


def read_drops(content: bytes, file: str) -> tuple[Drops, list[Problem]]:
    """The drops of one file's (decompressed) content, in file order, and Problems; never raises on content.

    What was only counted is a note for each place.
    """
    places: dict[Place, int] = {}
    rows, problems = read_rows(content, file, lambda entry: _row(entry, places), "drops in JSON")
    found = Drops(table_of(DROPS, rows), list(places))
    return found, [*problems, *_counted(found, file)]


def _counted(drops: Drops, file: str) -> Iterator[Problem]:
    table = drops.table
    alone = (table["event"] == EVENTS["drop"]) & (table["proto"] == 0)
    for place in np.unique(table["place"][alone]).tolist():
        packets = int(table["count"][alone & (table["place"] == place)].sum())
        what = f"{packets:,} packets of flows not told were dropped there: {drops.places[place]}"
        yield Problem(file, what, "record on a kernel that is not locked down to see whose they were", None, "note")


def _row(entry: dict[str, Any], places: dict[Place, int]) -> tuple[int, ...]:
    location = text(entry.get("location"))
    place = Place(text(entry.get("reason")), None if location is None else location.partition("+")[0])
    told = entry.get("proto") is not None
    ends = (*parse(entry["src"]), *parse(entry["dst"])) if told else (0, 0, 0, 0)
    seq = entry.get("seq")
    return (
        whole(entry["time_ns"], 63), whole(entry.get("count", 1), 63), *ends, -1 if seq is None else whole(seq, 32),
        places.setdefault(place, len(places)), whole(entry.get("sport") or 0, 16), whole(entry.get("dport") or 0, 16),
        whole(entry["proto"], 8) if told else 0, whole(entry.get("tcp_flags") or 0, 8), EVENTS[entry["event"]],
    )  # fmt: skip
