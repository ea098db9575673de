"""Questions asked of `Frames`: plain functions that give a DataFrame each and change nothing.

What is smaller than its uncertainty is not ranked and not averaged; how many such there are is always said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.columns import NUMBER, REAL, TABLES, TEXT
from analysis.frames.tables import Frames, series
from analysis.latency import SHARES
from analysis.statistics import LEVEL, percentiles, smallest_sample, wilson
from probes.schema import Array

PERCENTS = (50, 90, 95, 99)
# A whole connection's time tells how long it was used; an attempt's, how long it took to be given up.
ATTEMPTS = ("refused", "timeout")


@dataclass(frozen=True, slots=True)
class Measure:
    """What is timed: rows of Frames, with a column `separable`; the column with the time (ns); the columns that group them."""

    rows: Callable[[Frames], pd.DataFrame]
    time: str
    keys: tuple[str, ...] = ()


def _requests(time: str) -> Callable[[Frames], pd.DataFrame]:
    def rows(frames: Frames) -> pd.DataFrame:
        found = frames.requests
        told = found[time].where(~found["whole"] | found["status"].isin(ATTEMPTS))
        return found.assign(**{time: told}, separable=told > found["uncertainty_ns"])

    return rows


def _hops(frames: Frames) -> pd.DataFrame:
    return frames.hops[frames.hops["kind"].notna()]


MEASURES = {
    "service": Measure(_requests("total_ns"), "total_ns", ("service_namespace", "service_name")),
    "operation": Measure(_requests("total_ns"), "total_ns", ("protocol", "operation")),
    "node pair": Measure(_requests("network_ns"), "network_ns", ("client_node", "server_node")),
    "hop kind": Measure(_hops, "latency_ns", ("kind",)),
    "kube-proxy mode": Measure(lambda frames: frames.parts[frames.parts["kind"] == "nat"], "duration_ns", ("mode", "first_packet")),
}
RANKINGS = {
    "requests": Measure(_requests("total_ns"), "total_ns"),
    "hops": Measure(_hops, "latency_ns"),
    "parts": Measure(lambda frames: frames.parts, "duration_ns"),
}


def latency_by(frames: Frames, by: str, *, level: float = LEVEL, seed: int = 0) -> pd.DataFrame:
    """Percentiles of latency per group, `by` one of MEASURES; ValueError for another.

    Columns: the measure's keys (null where not told), `n`, `not_separable` and `unknown` (left out of `n`), `uncertainty_ns` (the largest
    of the n: by the clocks, no percentile is further off than this), and for p50, p90, p95, p99 `pNN_ns`, `pNN_low_ns`, `pNN_high_ns`:
    what chance leaves open, by bootstrap (`analysis.statistics.percentiles`). `note` says where n is too small for an interval, and where
    leaving out the smallest made percentiles too high. The same `seed` gives the same intervals.
    """
    measure = _chosen(MEASURES, by)
    rows, keys = measure.rows(frames), list(measure.keys)
    group = rows.groupby(keys, dropna=False)
    groups, number = group.size().reset_index()[keys], group.ngroup().to_numpy()
    known, ranked = _ranked(rows, measure.time)

    def count(which: Array) -> Array:
        return np.bincount(number[which], minlength=len(groups))

    n, left_out = count(ranked), count(known & ~ranked)
    order = np.flatnonzero(ranked)[np.argsort(number[ranked], kind="stable")]
    ends = np.cumsum(n)
    times, apart = (rows[name].to_numpy("i8", na_value=0)[order] for name in (measure.time, "uncertainty_ns"))
    of_group = [slice(end - size, end) for end, size in zip(ends.tolist(), n.tolist(), strict=True)]
    quantiles = tuple(percent / 100 for percent in PERCENTS)
    found = np.array([percentiles(times[mine], quantiles, level=level, seed=seed) for mine in of_group]).reshape(-1, len(PERCENTS), 3)
    columns: dict[str, Any] = {
        "n": _whole(n), "not_separable": _whole(left_out), "unknown": _whole(count(~known)),
        "uncertainty_ns": _whole(np.array([apart[mine].max() if apart[mine].size else np.nan for mine in of_group])),
    }  # fmt: skip
    for place, percent in enumerate(PERCENTS):
        columns |= {f"p{percent}{end}_ns": _whole(found[:, place, column]) for column, end in enumerate(("", "_low", "_high"))}
    columns["note"] = series([_note(*each, level) for each in zip(n.tolist(), left_out.tolist(), strict=True)], TEXT)
    return groups.assign(**columns)


def slowest(frames: Frames, n: int = 10, of: str = "requests") -> pd.DataFrame:
    """The `n` slowest rows of a table, slowest first; `of` is requests, hops or parts (ValueError for another).

    What was left out is counted in the result's `attrs`: "not_separable" and "unknown".
    """
    measure = _chosen(RANKINGS, of)
    rows = measure.rows(frames)
    known, ranked = _ranked(rows, measure.time)
    found = rows[ranked].sort_values(measure.time, ascending=False, kind="stable").head(n)[list(TABLES[of])].reset_index(drop=True)
    found.attrs.update(not_separable=int(np.count_nonzero(known & ~ranked)), unknown=int(np.count_nonzero(~known)))
    return found


def errors(frames: Frames, *, level: float = LEVEL) -> pd.DataFrame:
    """Failed requests by Service, operation and status, most first.

    Columns: `service_namespace`, `service_name`, `protocol`, `operation`, `status`, `n`, `of` (all requests of that Service and operation,
    also those whose status is not known), `share` (n / of), `share_low` and `share_high` (`analysis.statistics.wilson`).
    """
    asked = ["service_namespace", "service_name", "protocol", "operation"]
    requests = frames.requests.assign(of=frames.requests.groupby(asked, dropna=False)["id"].transform("size"))
    failed = requests[requests["error"].fillna(False)].groupby([*asked, "status"], dropna=False)
    found = failed.agg(n=("id", "size"), of=("of", "first")).reset_index()
    n, of = (found[name].to_numpy("i8") for name in ("n", "of"))
    low, high = wilson(n, of, level)
    bounds = {"share": n / of, "share_low": low, "share_high": high}
    found = found.assign(n=_whole(n), of=_whole(of), **{name: series(values.tolist(), REAL) for name, values in bounds.items()})
    return found.sort_values("n", ascending=False, kind="stable").reset_index(drop=True)


def shares(frames: Frames) -> pd.DataFrame:
    """Where the time of root requests went, their trees included: every nanosecond once, what passes in a child is the child's.

    Columns: `spent` (network, proxy, server, database, dns, unknown), `requests` (roots with some of it), `total_ns`, `share` of all.
    Whole connections are left out: how long they were kept open was nobody's doing. They are counted in `attrs["unknown"]`.
    """
    roots = frames.requests[frames.requests["parent"].isna()]
    timed = ~roots["whole"] | roots["status"].isin(ATTEMPTS)
    spent = roots.loc[timed, [f"tree_{share}_ns" for share in SHARES]].to_numpy("i8", na_value=0)
    total = spent.sum(axis=0)
    share = total / total.sum() if total.sum() else np.full(len(SHARES), np.nan)
    found = pd.DataFrame(
        {
            "spent": series(SHARES, TEXT), "requests": _whole((spent > 0).sum(axis=0)), "total_ns": _whole(total),
            "share": series([None if np.isnan(each) else each for each in share.tolist()], REAL),
        }
    )  # fmt: skip
    found.attrs["unknown"] = int(np.count_nonzero(~timed))
    return found


def _chosen(known: dict[str, Measure], name: str) -> Measure:
    if name not in known:
        raise ValueError(f"{name!r}: not one of {', '.join(known)}")
    return known[name]


def _ranked(rows: pd.DataFrame, time: str) -> tuple[Array, Array]:
    """Which rows have a time, and which of them one that can be told from zero (bool)."""
    known = rows[time].notna().to_numpy()
    return known, known & rows["separable"].to_numpy(bool, na_value=False)


def _whole(values: Array) -> pd.Series[Any]:
    """A column of whole numbers, null where a value is NaN."""
    return series([None if np.isnan(each) else round(each) for each in values.tolist()], NUMBER)


def _note(n: int, left_out: int, level: float) -> str | None:
    least = {percent: smallest_sample(percent / 100, level) for percent in PERCENTS}
    short = [f"p{percent} takes {needed}" for percent, needed in least.items() if n < needed]
    notes = ["too few for intervals: " + ", ".join(short)] if short else []
    if left_out:
        notes.append(f"percentiles are too high: {left_out} of {n + left_out} are smaller than their uncertainty")
    return "; ".join(notes) or None
