"""How long kernels' NAT functions took (`probes.natpath`), tied to the translations that they made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from probes.natpath import NatPath, Step
from tracer.flows import Flows
from tracer.pipeline import Reconstruction

SCHEDULERS = frozenset({"ip_vs_schedule"})  # what chooses a backend where no rules do


@dataclass(frozen=True, slots=True)
class Call:
    """One function that the connection's first packet went through on a node: when it was entered, and how long until it returned."""

    step: Step
    time_ns: int
    inside_ns: int
    depth: int

    @property
    def evaluates(self) -> bool:
        """Whether this is the walk of NAT's rules itself, or IPVS's choice."""
        return self.step.type == "nat" or self.step.function in SCHEDULERS


def evaluations(flows: Flows, tables: Reconstruction, natpaths: Mapping[str, NatPath]) -> dict[int, list[Call]]:
    """The calls of each row of `translations` that was measured, in the order of time."""
    rows = {
        place: row
        for row, place in enumerate(zip(*(tables.translations[name].tolist() for name in ("connection", "node", "before")), strict=True))
    }
    found: dict[int, list[Call]] = {}
    for name in sorted(set(natpaths) & set(tables.nodes)):
        node, table, steps = tables.nodes.index(name), natpaths[name].table, natpaths[name].steps
        codes = flows.codes(table)
        for at in np.lexsort((table["depth"], table["time_ns"])).tolist():
            code, time_ns = int(codes[at]), int(table["time_ns"][at])
            whose = flows.of_tuple(node, code, time_ns) if code >= 0 else None
            row = rows.get((whose[0], node, code)) if whose else None
            if row is not None:
                call = Call(steps[table["step"][at]], time_ns, int(table["inside_ns"][at]), int(table["depth"][at]))
                found.setdefault(row, []).append(call)
    return {row: _of_one_packet(calls) for row, calls in found.items()}


def _of_one_packet(calls: list[Call]) -> list[Call]:
    """The first packet's: where it was sent again before conntrack confirmed it, steps repeat."""
    seen: set[tuple[Step, int]] = set()
    for number, call in enumerate(calls):
        if (call.step, call.depth) in seen:
            return calls[:number]
        seen.add((call.step, call.depth))
    return calls
