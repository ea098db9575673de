"""What packets say of clocks before anything is made of it: of all of a bundle's connections, or of some, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.schema import Array, Table, take
from tracer.clocks.bounds import Bounds
from tracer.clocks.crossings import crossings
from tracer.clocks.groups import MAX_KNOTS
from tracer.pipeline import Reconstruction


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits per pair of nodes (rows, the lower one first), and how many (int64) of the packets behind them each node saw (`used`)."""

    used: Array
    bounds: dict[tuple[int, int], Bounds]


def limits(traced: Reconstruction) -> Limits:
    """Those of all packets that several nodes saw."""
    seen, count = crossings(traced), len(traced.nodes)
    used = np.bincount(seen["sender"], minlength=count) + np.bincount(seen["receiver"], minlength=count)
    return Limits(used, _pairs(seen))


def together(parts: Sequence[Bounds]) -> Bounds:
    """The limits of one pair of nodes that several parts told."""
    return _in_order(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("time_ns", "limit_ns", "ceiling")))


def times_seen(traced: Reconstruction) -> dict[int, Array]:
    """When (int64 ns, by its own clock) each node saw packets, in any order; by row of the node."""
    time_ns = traced.observations["time_ns"][traced.sighting_rows]
    node = np.array([traced.nodes.index(point.node) for point in traced.points] or [0])[traced.observations["point"][traced.sighting_rows]]
    return {row: time_ns[node == row] for row in np.unique(node).tolist()}


def sampled(count: int) -> Array:
    """Which places (int64) of `count` times in order are looked at: the first, the last, and some between."""
    return np.unique(np.linspace(0, count - 1, MAX_KNOTS).astype("i8"))


def sample(parts: Sequence[Array]) -> Array:
    """The `sampled` times (int64) of all `parts` together, each of which is in order. None of them is copied."""
    places = sampled(sum(map(len, parts)))
    low, high = (np.full(len(places), choose(part[end] for part in parts if len(part))) for choose, end in ((min, 0), (max, -1)))
    while (low < high).any():  # the lowest time up to which there are more than `places`
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        enough = sum(np.searchsorted(part, middle, side="right") for part in parts) > places
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return low


def _pairs(seen: Table) -> dict[tuple[int, int], Bounds]:
    """Limits per pair of nodes (the lower row first), in order of the first one's clock."""
    ceiling = seen["sender"] < seen["receiver"]
    first, second = np.minimum(seen["sender"], seen["receiver"]), np.maximum(seen["sender"], seen["receiver"])
    time_ns = np.where(ceiling, seen["left_ns"], seen["arrived_ns"])
    other_ns = np.where(ceiling, seen["arrived_ns"], seen["left_ns"])
    limit_ns = other_ns - time_ns + np.where(ceiling, 1, -1) * seen["resolution_ns"]
    columns = {"pair": first.astype("i8") << 32 | second, "time_ns": time_ns, "limit_ns": limit_ns, "ceiling": ceiling}
    columns = take(columns, np.argsort(columns["pair"], kind="stable"))
    names, start = np.unique(columns["pair"], return_index=True)
    ends = np.append(start, len(ceiling))[1:]
    return {
        (name >> 32, name & 0xFFFF_FFFF): _in_order(*(columns[column][a:b] for column in ("time_ns", "limit_ns", "ceiling")))
        for name, a, b in zip(names.tolist(), start.tolist(), ends.tolist(), strict=True)
    }


def _in_order(time_ns: Array, limit_ns: Array, ceiling: Array) -> Bounds:
    order = np.lexsort((ceiling, limit_ns, time_ns))  # by all there is: whoever told it first does not matter
    return Bounds(time_ns[order], limit_ns[order], ceiling[order])
