"""Sums of connections as the page reads them: kinds, with their times as histograms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from analysis.histograms import middles
from analysis.kinds import HANDSHAKE, TOTAL
from analysis.records import Record
from analysis.sums import Sums


def kinds_with_times(sums: Sums) -> list[Record]:
    """Every kind with `times`: histograms of `total` and `handshake`, and of its `hops` by `step`, `path` and `node`.

    A histogram says `at` which times (ns, in order) there are how many (`counts`).
    """
    kinds: list[Record] = [json.loads(kind) | {"times": {TOTAL: None, HANDSHAKE: None, "hops": []}} for kind in sums.kinds]
    of = sums.samples["of"]
    at, counts = middles(sums.samples["bucket"]).tolist(), sums.samples["count"].tolist()
    first = np.flatnonzero(np.append(True, of[1:] != of[:-1])[: len(of)]).tolist()
    for begin, end in zip(first, [*first[1:], len(of)], strict=True):
        kind, measure = divmod(int(of[begin]), len(sums.measures))
        histogram: dict[str, Any] = {"at": at[begin:end], "counts": counts[begin:end]}
        times, name = kinds[kind]["times"], sums.measures[measure]
        if name in (TOTAL, HANDSHAKE):
            times[name] = histogram
        else:
            step, _, where = name.partition(" ")
            path, _, node = where.partition(" ")
            times["hops"].append({"step": step, "path": path or None, "node": node or None, **histogram})
    return kinds
