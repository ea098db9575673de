"""Many clocks from limits between pairs of them: the tightest chains, and one offset for each clock that all limits allow.

Everything is told at a few moments ("knots") of one clock, the group's reference, over the capture and densest where packets are. Between
two knots offsets are lines, so limits interpolated between limits that hold at both knots hold too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.schema import Array
from tracer.clocks.bounds import Fit
from tracer.clocks.crossings import MAX_DRIFT

MAX_KNOTS = 65
MATRIX_CELLS = 4_000_000  # knots are fewer where nodes are many
_ROUNDING_NS = 1.0  # floats near the differences of clocks, not near times


@dataclass(frozen=True, slots=True)
class Group:
    """Clocks that evidence ties together, at knots.

    `nodes` (rows, the reference first), `knots_ns` (int64, on the reference's clock), `offset_ns` (int64, node by knot: the node's clock
    less the reference's), `half_ns` (float64, knot by node by node: how far two offsets' difference may be off), `greatest_ns` (float64,
    knot by node by node: greatest offset of the second node to the first, less that of `offset_ns`). `widened_ns`: by how much limits that
    contradicted each other around a circle of nodes were all loosened. `jumps`: nodes whose clock went back by more than a knot.
    """

    nodes: Array
    knots_ns: Array
    offset_ns: Array
    half_ns: Array
    greatest_ns: Array
    widened_ns: float
    jumps: tuple[int, ...]


def closure(limits: Array) -> Array:
    """The tightest limits that follow from `limits` (n, k, k) by chains: Floyd and Warshall's shortest paths, knot by knot."""
    tight = limits.copy()
    for middle in range(tight.shape[1]):
        np.minimum(tight, tight[:, :, middle, None] + tight[:, None, middle, :], out=tight)
    return tight


def consistent(limits: Array, least_step: float) -> tuple[Array, float]:
    """`(closure, loosened)`: the closure of `limits`, all loosened alike where they contradict each other around a circle."""
    apart = ~np.eye(limits.shape[1], dtype=bool)
    loosened = 0.0
    while True:
        with np.errstate(over="ignore"):
            tight = closure(limits + loosened * apart)
        if np.diagonal(tight, axis1=1, axis2=2).min() >= 0:
            return tight, loosened
        loosened = max(4 * loosened, least_step)


def tied(fits: dict[tuple[int, int], Fit], count: int) -> list[list[int]]:
    """Nodes that limit each other from both sides, directly or by chains; the rows of each group in order."""
    reach = np.eye(count, dtype=bool)
    for (first, second), found in fits.items():
        for piece in found.pieces:
            reach[first, second] |= bool(np.isfinite(piece.greatest).all())
            reach[second, first] |= bool(np.isfinite(piece.least).all())
    for middle in range(count):
        reach |= reach[:, middle, None] & reach[None, middle, :]
    mutual = reach & reach.T
    return [np.flatnonzero(mutual[node]).tolist() for node in range(count) if not mutual[node, :node].any()]


class _Group:
    """One group while it is solved; nodes are counted from 0, the reference is 0."""

    def __init__(self, nodes: list[int], fits: dict[tuple[int, int], Fit]) -> None:
        place = {node: number for number, node in enumerate(nodes)}
        self.count = len(nodes)
        self.fits = {(place[a], place[b]): found for (a, b), found in fits.items() if found.pieces and a in place and b in place}
        self.tree = self._tree()

    def _tree(self) -> list[tuple[int, int]]:
        """`(known, new)` for every node but the reference: along pairs that say most, by width in the middle of their evidence."""
        widths = {}
        for pair, found in self.fits.items():
            low, high = found.pieces[0].at(np.array([found.pieces[0].time_ns]), np.zeros(1))
            widths[pair] = float((high - low)[0])
        steps, reached = [], {0}
        while len(reached) < self.count:
            border = [pair for pair in widths if len(reached & set(pair)) == 1]
            first, second = min(border, key=lambda pair: (widths[pair], pair))
            steps.append((first, second) if first in reached else (second, first))
            reached |= {first, second}
        return steps

    def _middle(self, first: int, second: int, time_ns: Array) -> Array:
        """About how much the second clock is ahead of the first when the first shows `time_ns` (int64); the pair is stored so."""
        pieces = self.fits[first, second].pieces
        offset = np.zeros(len(time_ns), "i8")
        for piece in pieces:
            here = (time_ns >= piece.start_ns) & (time_ns <= piece.end_ns)
            low, high = piece.at(time_ns, np.full(len(time_ns), piece.offset_ns))
            level = np.where(np.isinf(low), high, np.where(np.isinf(high), low, (low + high) / 2))
            offset[here] = piece.offset_ns + np.rint(level[here]).astype("i8")
        return offset

    def rough(self, knots_ns: Array) -> Array:
        """About what every clock is ahead of the reference's at its `knots_ns` (int64, node by knot)."""
        offset = np.zeros((self.count, len(knots_ns)), "i8")
        for known, new in self.tree:
            time_ns = knots_ns + offset[known]
            if (known, new) in self.fits:
                offset[new] = offset[known] + self._middle(known, new, time_ns)
                continue
            there = time_ns - self.fits[new, known].pieces[0].offset_ns
            for _ in range(4):  # the pair is in the new clock's order; each round is 2000 times nearer
                there = time_ns - self._middle(new, known, there)
            offset[new] = there - knots_ns
        return offset

    def limits(self, knots_ns: Array, offset_ns: Array, doubt_ns: Array) -> Array:
        """Limits (knot, first, second) to second less first, less that of `offset_ns`, whose error is at most `doubt_ns` (node by knot)."""
        limits = np.full((len(knots_ns), self.count, self.count), np.inf)
        limits[:, range(self.count), range(self.count)] = 0
        for (first, second), found in self.fits.items():
            time_ns = knots_ns + offset_ns[first]
            base = offset_ns[second] - offset_ns[first]
            steepest = max(abs(drift) for piece in found.pieces for drift in piece.drift)
            room = _ROUNDING_NS + steepest * doubt_ns[first]
            around = np.ceil(doubt_ns[first]).astype("i8")
            beside = np.stack([np.append(time_ns[:1], time_ns[:-1]), time_ns, np.append(time_ns[1:], time_ns[-1:])])
            earlier, later = beside.min(axis=0) - around, beside.max(axis=0) + around
            low, high = np.full(len(knots_ns), np.inf), np.full(len(knots_ns), -np.inf)
            for piece in found.pieces:  # all that holds anywhere between the knots beside this one
                here = (piece.start_ns <= later) & (piece.end_ns >= earlier)
                least, greatest = piece.at(time_ns, base)
                low, high = np.where(here, np.minimum(low, least), low), np.where(here, np.maximum(high, greatest), high)
            limits[:, first, second], limits[:, second, first] = high + room, room - low
        return limits


def solve(nodes: list[int], fits: dict[tuple[int, int], Fit], moments_ns: dict[int, Array]) -> Group:
    """The GROUP of `nodes` (the reference first), over the times of packets that each node recorded, a sample of which are `moments_ns`."""
    group = _Group(nodes, fits)
    knots_ns = _knots(group, [moments_ns[node] for node in nodes])
    offset_ns, tight = _without_doubt(group, knots_ns)
    width = np.median((tight[:, 0, :] + tight[:, :, 0]).max(axis=1))
    knots_ns = _apart(knots_ns, int(8 * width))  # estimates move within limits from knot to knot: slowly, or clocks would seem to go back
    offset_ns, tight = _without_doubt(group, knots_ns)
    doubt = 2 * np.maximum(tight[:, 0, :], tight[:, :, 0]).T + _ROUNDING_NS
    limits = group.limits(knots_ns, offset_ns, doubt)
    tight, widened = consistent(limits, _ROUNDING_NS)
    chosen = _central(tight)
    jumps = np.flatnonzero((_pace(knots_ns, offset_ns + np.rint(chosen.T).astype("i8")) < 0.5).any(axis=1))
    if len(jumps):
        offset_ns, limits = _timeless(limits, offset_ns, jumps)
        tight, widened = consistent(limits, _ROUNDING_NS)
        chosen = _central(tight)
    rounded = np.rint(chosen.T).astype("i8")
    tight = tight - (chosen[:, None, :] - chosen[:, :, None])
    offset_ns = offset_ns + rounded
    half = np.maximum(tight, tight.transpose(0, 2, 1)) + _ROUNDING_NS
    half = _seen_from_aligned_time(half, _pace(knots_ns, offset_ns))
    return Group(np.array(nodes), knots_ns, offset_ns, half, tight, widened, tuple(nodes[jump] for jump in jumps.tolist()))


def _knots(group: _Group, moments_ns: list[Array]) -> Array:
    """Knots (int64) from the first to the last packet of all nodes: half of them evenly in time, half evenly by packets."""
    many = int(np.clip(MATRIX_CELLS // group.count**2, 4, MAX_KNOTS))
    behind = group.rough(moments_ns[0][:1])[:, 0]
    mapped = []
    for node, times in enumerate(moments_ns):
        mapped.append(times - group.rough(times - behind[node])[node])
    pool = np.sort(np.concatenate(mapped))
    by_packets = pool[np.linspace(0, len(pool) - 1, many // 2).astype("i8")]
    evenly = pool[0] + (pool[-1] - pool[0]) // (many - many // 2) * np.arange(many - many // 2)
    return np.unique(np.concatenate([by_packets, evenly, pool[-1:] + 1]))


def _apart(knots_ns: Array, gap_ns: int) -> Array:
    """Those of the knots that are `gap_ns` apart, the last one always; two of them at least, beyond all others where those are too near."""
    kept = [int(knots_ns[0])]
    last = int(knots_ns[-1])
    if last - kept[0] < 2 * gap_ns:
        return np.array([kept[0] - gap_ns, last + gap_ns])
    for knot in knots_ns[1:-1].tolist():
        if knot - kept[-1] >= gap_ns and last - knot >= gap_ns:
            kept.append(knot)
    return np.array([*kept, last])


def _without_doubt(group: _Group, knots_ns: Array) -> tuple[Array, Array]:
    """Rough offsets at knots, and their tightest limits if they were right."""
    offset_ns = group.rough(knots_ns)
    return offset_ns, consistent(group.limits(knots_ns, offset_ns, np.zeros(offset_ns.shape)), _ROUNDING_NS)[0]


def _pace(knots_ns: Array, offset_ns: Array) -> Array:
    """How fast each clock runs from knot to knot, the reference's being 1 (float64, node by knots less one)."""
    return np.asarray(1 + np.diff(offset_ns, axis=1) / np.diff(knots_ns))


def _seen_from_aligned_time(half: Array, pace: Array) -> Array:
    """`half` for readers who know aligned times only, which are off themselves: meanwhile clocks drift, and slow ones show less."""
    slowest = np.minimum(np.pad(pace, ((0, 0), (1, 0)), constant_values=1), np.pad(pace, ((0, 0), (0, 1)), constant_values=1))
    stretch = np.maximum(1, 1 / slowest.T)
    off = 2 * MAX_DRIFT * half[:, 0, :]
    half = half * np.maximum(stretch[:, :, None], stretch[:, None, :]) + off[:, :, None] + off[:, None, :]
    half[:, range(half.shape[1]), range(half.shape[1])] = 0
    return np.asarray(half)


def _timeless(limits: Array, offset_ns: Array, jumps: Array) -> tuple[Array, Array]:
    """Limits that hold at all knots for nodes whose own time does not say at which knot they were; their offsets become constant."""
    level = offset_ns.copy()
    level[jumps] = offset_ns[jumps, offset_ns.shape[1] // 2][:, None]
    moved = (level - offset_ns).T.astype("f8")
    loose = limits - (moved[:, None, :] - moved[:, :, None])
    for jump in jumps.tolist():
        loose[:, jump, :] = loose[:, jump, :].max(axis=0)
        loose[:, :, jump] = loose[:, :, jump].max(axis=0)
    return level, loose


def _central(tight: Array) -> Array:
    """A value for each node that all limits allow (float64, knot by node; the first node's is 0).

    The pair that is known best gets the middle of its limits, then the next best of what is left, and so on.
    """
    tight = tight.copy()
    count = tight.shape[1]
    part = np.arange(count)
    for _ in range(count - 1):
        width = (tight + tight.transpose(0, 2, 1)).sum(axis=0)
        width[part[:, None] == part[None, :]] = np.inf
        first, second = np.unravel_index(np.argmin(width), width.shape)
        middle = ((tight[:, first, second] - tight[:, second, first]) / 2)[:, None, None]
        forth = tight[:, :, first, None] + middle + tight[:, None, second, :]
        back = tight[:, :, second, None] - middle + tight[:, None, first, :]
        tight = np.minimum(tight, np.minimum(forth, back))
        part[part == part[second]] = part[first]
    return np.asarray((tight[:, 0, :] - tight[:, :, 0]) / 2)
