"""Everything that was found, as one document of plain values: what `--json` prints, and what the table and the page are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.proxy_bench.cells import Cell, by_mode, cells
from analysis.proxy_bench.fits import fit
from analysis.statistics import percentiles
from probes.live.proxy_bench.plan import BASELINE, Cost, Found, Plan, Sample
from probes.live.proxy_bench.programming import Programmed

Json = dict[str, Any]


def document(plan: Plan, found: Sequence[Found], unavailable: Mapping[str, str], machine: Mapping[str, Any]) -> Json:
    """What was found of `plan`. Times are in ns, and null where there are none; see docs/kube-proxy-modes.md for each key."""
    samples = [each for each in found if isinstance(each, Sample)]
    order = [BASELINE, *plan.modes]
    every = sorted(cells(samples), key=lambda each: (each.services, order.index(each.mode), each.target))
    return {
        "cells": [_cell(each, plan.endpoints) for each in every if each.mode != BASELINE],
        "fits": [_fit(mode, some, plan.seed) for mode, some in by_mode(samples).items()],
        "unavailable": dict(unavailable),
        "baseline": [_cell(each, plan.endpoints) for each in every if each.mode == BASELINE],
        "programming": [
            {"mode": each.mode, "services": each.services, "what": each.what, "returned_ns": each.returned_ns,
             "translated_ns": each.translated_ns}
            for each in found if isinstance(each, Programmed)
        ],
        "instrument": next((_instrument(each) for each in found if isinstance(each, Cost)), None),
        "bursts": {"counted": len(samples), "slowed": sum(each.slowed_bursts for each in every)},
        "asked": {"modes": list(plan.modes), "services": list(plan.services), "endpoints": plan.endpoints,
                  "connections": plan.connections, "rounds": plan.rounds, "caches": plan.caches, "seed": plan.seed},
        "machine": dict(machine),
    }  # fmt: skip


def _cell(cell: Cell, endpoints: int) -> Json:
    first, established = ([_number(each) for each in times] for times in (cell.first_ns, cell.established_ns))
    return {
        "mode": cell.mode, "services": cell.services, "endpoints": endpoints, "target": cell.target,
        "first_p50_ns": first[0], "first_p95_ns": first[1], "first_p99_ns": first[2],
        "established_p50_ns": established[0], "established_p95_ns": established[1], "established_p99_ns": established[2],
        "sent": cell.sent, "paired": cell.paired, "spread": _number(cell.spread, 4),
        "rounds_first_p50_ns": [_number(each) for each in cell.rounds_p50_ns],
        "unlevelled_first_p50_ns": _number(cell.unlevelled_first_p50_ns), "unlevelled_spread": _number(cell.unlevelled_spread, 4),
        "slowed_bursts": cell.slowed_bursts,
        "baseline_first_p50_ns": _number(cell.base_first_ns), "baseline_established_p50_ns": _number(cell.base_established_ns),
    }  # fmt: skip


def _fit(mode: str, samples: Sequence[Sample], seed: int) -> Json:
    line = fit(mode, samples, seed)
    return {
        "mode": mode, "start_ns": _number(line.start_ns), "slope_ns": _number(line.slope_ns, 4), "low_ns": _number(line.low_ns, 4),
        "high_ns": _number(line.high_ns, 4), "packets": line.packets,
    }  # fmt: skip


def _instrument(cost: Cost) -> Json:
    known = cost.pairs_ns[np.isfinite(cost.pairs_ns)]
    middle, low, high = percentiles(known, (0.5,))[0].tolist()
    return {
        "per_sighting_ns": _number(middle), "low_ns": _number(low), "high_ns": _number(high), "pairs": len(known),
        "own_clock_ns": _number(cost.own_ns),
    }  # fmt: skip


def _number(value: float, digits: int = 1) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
