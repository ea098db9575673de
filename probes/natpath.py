"""How long the kernel's NAT functions took with connections' first packets: the lines of NODE.natpath.jsonl (docs/natpath.md).

    {"time_ns": 1795516141747624795, "inside_ns": 84000, "function": "nft_do_chain", "hook": "prerouting", "depth": 1, "type": "nat",
     "table": "kube-proxy", "chain": "nat-prerouting", "proto": 6, "src": "10.244.1.3", "dst": "10.96.0.10", "sport": 37822, "dport": 80}

One line per call of a function, when it returned. The tuple is the connection's original one, as conntrack has it on that node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from probes.addresses import parse
from probes.json_lines import read_rows, table_of, text, whole
from probes.schema import Column, Problem, Schema, Table

NATPATH = Schema(
    "natpath",
    (
        Column("time_ns", "i8", "ns since the epoch", "when the function was entered"),
        Column("inside_ns", "i8", "ns", "until it returned"),
        Column("src_hi", "u8", "", "original tuple: source address, bytes 0-7"),
        Column("src_lo", "u8", "", "source address, bytes 8-15"),
        Column("dst_hi", "u8", "", "destination address, bytes 0-7"),
        Column("dst_lo", "u8", "", "destination address, bytes 8-15"),
        Column("step", "i4", "", "place in `NatPath.steps`"),
        Column("sport", "u2", "", "source port, or ICMP identifier"),
        Column("dport", "u2", "", "destination port, or ICMP identifier"),
        Column("proto", "u1", "", "IANA protocol number"),
        Column("depth", "u1", "", "timed calls around this one"),
    ),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A function, at which hook, and the `type` (nat, filter, …), table and chain of the rules it evaluated; None where not told."""

    function: str
    hook: str | None
    type: str | None
    table: str | None
    chain: str | None


@dataclass(slots=True)
class NatPath:
    """NATPATH of one node, and the steps it names."""

    table: Table = field(default_factory=NATPATH.empty)
    steps: list[Step] = field(default_factory=list)


def read_natpath(content: bytes, file: str) -> tuple[NatPath, list[Problem]]:
    """The calls of one file's (decompressed) content, in file order, and Problems; never raises on content."""
    steps: dict[Step, int] = {}
    rows, problems = read_rows(content, file, lambda entry: _row(entry, steps), "calls of NAT functions in JSON")
    return NatPath(table_of(NATPATH, rows), list(steps)), problems


def _row(entry: dict[str, Any], steps: dict[Step, int]) -> tuple[int, ...]:
    function = text(entry["function"])
    if function is None:
        raise ValueError(function)
    step = Step(function, *(text(entry.get(name)) for name in ("hook", "type", "table", "chain")))
    return (
        whole(entry["time_ns"], 63), whole(entry["inside_ns"], 63), *parse(entry["src"]), *parse(entry["dst"]),
        steps.setdefault(step, len(steps)), whole(entry["sport"], 16), whole(entry["dport"], 16), whole(entry["proto"], 8),
        whole(entry["depth"], 8),
    )  # fmt: skip
