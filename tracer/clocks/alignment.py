"""Clocks: how far each node's clock was off a reference node's, at any time, with limits, told by packets alone.

`crossings` finds packets that went from one node to another, `fit` what they allow two clocks to differ by, `solve` what that means for
many clocks. A node's offset is what it recorded less what the reference's clock showed at the same moment:
`recorded = reference + offset + drift * (reference - reference_time)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.schema import Array
from tracer.clocks.bounds import Fit, fit
from tracer.clocks.crossings import MAX_DRIFT
from tracer.clocks.groups import Group, closure, consistent, solve, tied
from tracer.clocks.limits import limits, sampled, times_seen
from tracer.pipeline import Reconstruction

_LEAST_DRIFT = 1e-9


@dataclass(frozen=True, slots=True)
class NodeClock:
    """One node's clock against the reference's, at the reference time; None is unknown.

    `pairs` counts packets seen on this node and another one, `smallest_round_trip_ns` the shortest way to the reference node and back, of
    packets (along several nodes: of each part).
    """

    node: str
    offset_ns: int | None
    offset_low_ns: int | None
    offset_high_ns: int | None
    drift_ppm: float | None
    drift_low_ppm: float | None
    drift_high_ppm: float | None
    pairs: int
    smallest_round_trip_ns: int | None
    known: bool


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of all nodes (rows as in `Reconstruction.nodes`).

    `reference` is the row of the reference node (-1 without nodes), `reference_time_ns` when, on its clock, the others' offsets are known
    best (the drift's uncertainty widens limits before and after), `known` which clocks are tied to it. `group` has, per node, the row of
    the node to whose clock `align` turns its times: the reference, or, where no evidence leads there, another one.
    """

    nodes: tuple[NodeClock, ...]
    reference: int
    reference_time_ns: int
    known: Array
    group: Array
    problems: list[str]
    _groups: tuple[Group, ...]

    def align(self, node: Array, time_ns: Array) -> Array:
        """Times (int64 ns) that nodes recorded, on the clock of each node's group: the reference's for all that are `known`."""
        node, time_ns = np.broadcast_arrays(np.asarray(node), np.asarray(time_ns, "i8"))
        aligned = time_ns.copy()
        for group in self._groups:
            for place, row in enumerate(group.nodes.tolist()[1:], 1):
                mine = np.flatnonzero(node == row)
                offset = group.offset_ns[place]
                base = int(offset[0])
                recorded = group.knots_ns + offset
                since, knots = (time_ns[mine] - recorded[0]).astype("f8"), (recorded - recorded[0]).astype("f8")
                aligned[mine] -= base + np.rint(np.interp(since, knots, (offset - base).astype("f8"))).astype("i8")
        return aligned

    def uncertainty(self, node_a: Array, node_b: Array, time_ns: Array) -> Array:
        """How far (int64 ns) the difference of two nodes' aligned times may be off, either way, at a time that `align` gave.

        0 for one node, -1 for nodes that no evidence ties together.
        """
        node_a, node_b, time_ns = np.broadcast_arrays(np.asarray(node_a), np.asarray(node_b), np.asarray(time_ns, "i8"))
        uncertain = np.where(node_a == node_b, 0, -1).astype("i8")
        for group in self._groups:
            place = np.full(len(self.nodes), -1)
            place[group.nodes] = np.arange(len(group.nodes))
            rows = np.flatnonzero((place[node_a] >= 0) & (place[node_b] >= 0) & (node_a != node_b))
            one, other = place[node_a[rows]], place[node_b[rows]]
            knots = group.knots_ns
            inside = np.clip(time_ns[rows], knots[0], knots[-1])
            before = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
            share = (inside - knots[before]) / (knots[before + 1] - knots[before])
            half = group.half_ns[before, one, other] * (1 - share) + group.half_ns[before + 1, one, other] * share
            uncertain[rows] = np.ceil(half + MAX_DRIFT * np.abs(time_ns[rows] - inside)).astype("i8") + 1
        return uncertain


def clocks(traced: Reconstruction, reference: int | None = None) -> Clocks:
    """Compare the clocks of all nodes with node `reference` (a row; default: most packets seen elsewhere too, then the first name)."""
    told = limits(traced)
    return compare(traced.nodes, told.used, {pair: fit(bounds) for pair, bounds in told.bounds.items()}, _moments(traced), reference)


def compare(
    names: Sequence[str], used: Array, fits: dict[tuple[int, int], Fit], moments: dict[int, Array], reference: int | None = None
) -> Clocks:
    """The clocks of the nodes `names`, by whose rows the rest goes: `used` is as in `Limits`, `moments` are `sampled` times."""
    count = len(names)
    if reference is None:
        reference = int(np.argmax(used)) if count else -1
    groups = []
    for members in tied(fits, count):
        first = reference if reference in members else max(members, key=lambda row: (int(used[row]), -row))
        if first in moments:
            groups.append(solve([first, *(row for row in members if row != first)], fits, moments))
    group_of = np.arange(count)
    for group in groups:
        group_of[group.nodes] = group.nodes[0]
    known = group_of == reference
    mine = next((group for group in groups if group.nodes[0] == reference), None)
    best = int(np.argmin(mine.half_ns[:, 0].sum(axis=1))) if mine is not None else 0
    reference_time_ns = int(mine.knots_ns[best]) if mine is not None else 0
    table = _table(names, used, mine, best, fits, reference)
    return Clocks(table, reference, reference_time_ns, known, group_of, _problems(names, fits, groups, known), tuple(groups))


def _table(
    names: Sequence[str], used: Array, mine: Group | None, knot: int, fits: dict[tuple[int, int], Fit], reference: int
) -> tuple[NodeClock, ...]:
    """The clock of each node; `mine` is the reference's group."""
    place = {row: number for number, row in enumerate(mine.nodes.tolist())} if mine is not None else {}
    trips, drifts = _round_trips(fits, len(names)), _drifts(mine, fits)
    table = []
    for row, name in enumerate(names):
        offset: tuple[int | None, int | None, int | None] = (None, None, None)
        drift: tuple[float | None, float | None, float | None] = (None, None, None)
        if row == reference:
            offset, drift = (0, 0, 0), (0.0, 0.0, 0.0)
        elif mine is not None and row in place:
            offset, drift = _offset(mine, place[row], knot), drifts[place[row]]
        trip = trips[row, reference] if row == reference or row in place else np.inf
        known = row == reference or row in place
        table.append(NodeClock(name, *offset, *drift, int(used[row]), int(trip) if np.isfinite(trip) else None, known))
    return tuple(table)


def _moments(traced: Reconstruction) -> dict[int, Array]:
    """A sample of the times (int64) at which each node saw packets, first and last among them."""
    moments = {}
    for row, times in times_seen(traced).items():
        places = sampled(len(times))
        moments[row] = np.partition(times, places)[places]
    return moments


def _offset(group: Group, place: int, knot: int) -> tuple[int, int, int]:
    """Offset, least and greatest at one knot."""
    offset = int(group.offset_ns[place, knot])
    low, high = group.greatest_ns[knot, place, 0], group.greatest_ns[knot, 0, place]
    return offset, offset - int(np.ceil(low)) - 1, offset + int(np.ceil(high)) + 1


def _drifts(group: Group | None, fits: dict[tuple[int, int], Fit]) -> list[tuple[float, float, float]]:
    """Drift, least and greatest (ppm) of the group's nodes against its first: rates of clocks multiply along chains."""
    if group is None:
        return []
    place = {row: number for number, row in enumerate(group.nodes.tolist())}
    rates = np.full((1, len(place), len(place)), np.log1p(MAX_DRIFT))
    for (first, second), found in fits.items():
        if first in place and second in place and found.pieces:
            a, b = place[first], place[second]
            rates[0, a, b] = np.log1p(max(piece.drift[1] for piece in found.pieces))
            rates[0, b, a] = -np.log1p(min(piece.drift[0] for piece in found.pieces))
    rates[0, range(len(place)), range(len(place))] = 0
    tight, _ = consistent(rates + 1e-15, _LEAST_DRIFT)
    low, high = 1e6 * np.expm1(-tight[0, :, 0]), 1e6 * np.expm1(tight[0, 0, :])
    low[0] = high[0] = 0.0
    return list(zip(((low + high) / 2).tolist(), low.tolist(), high.tolist(), strict=True))


def _round_trips(fits: dict[tuple[int, int], Fit], count: int) -> Array:
    """Smallest round trip (ns) between every two nodes, along the shortest way (float64); infinite where there is none."""
    trips = np.full((1, count, count), np.inf)
    trips[0, range(count), range(count)] = 0
    for (first, second), found in fits.items():
        if found.round_trip_ns is not None:
            trips[0, [first, second], [second, first]] = found.round_trip_ns
    return np.asarray(closure(trips)[0])


def _problems(names: Sequence[str], fits: dict[tuple[int, int], Fit], groups: list[Group], known: Array) -> list[str]:
    """What of the clocks could not be told, and why: one line each."""
    problems = []
    for (first, second), found in sorted(fits.items()):
        pair = f"{names[first]} and {names[second]}"
        if found.uneven:
            problems.append(
                f"clocks of {pair}: packets contradict any even run (stepped often, slewed, or damaged times); "
                + ("only all differences seen limit their offset" if found.pieces else "their offset is unknown")
            )
        elif found.cuts:
            problems.append(
                f"clocks of {pair}: not one even run, {found.cuts + 1} pieces (a clock was stepped, its rate changed, or times are "
                "damaged): limits are wider around each cut"
            )
        elif found.left_out:
            problems.append(
                f"clocks of {pair}: {found.left_out} times contradict all others and were left out (damaged, or no packet's own)"
            )
        elif found.round_trip_ns is None:
            (piece,) = found.pieces
            way = (first, second) if np.isfinite(piece.greatest).all() else (second, first)
            if not known[first] or not known[second]:
                problems.append(
                    f"clocks of {pair}: packets were seen from {names[way[0]]} to {names[way[1]]} only, "
                    "which limits their offset from one side (capture replies too)"
                )
    for group in groups:
        if group.widened_ns:
            problems.append(
                f"clocks of {', '.join(names[row] for row in group.nodes.tolist())}: pairs contradict each other; limits widened"
            )
        problems += [f"clock of {names[row]} went back: its times do not say which run they belong to" for row in group.jumps]
    strangers = [name for name, tie in zip(names, known.tolist(), strict=True) if not tie]
    if strangers:
        problems.append(
            f"no packets both ways tie {', '.join(strangers)} to the reference: offset unknown (capture both ends of a connection)"
        )
    return problems
