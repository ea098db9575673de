"""What packets between two nodes allow their clocks to differ by, at any time: all straight lines that no packet contradicts.

The offset of one clock to another is taken as a line `a + b * time`, |b| <= MAX_DRIFT. Packets one way are points that it must not pass
above ("ceilings"), packets the other way points that it must not pass below ("floors"): a linear programme of two variables. Only the
convex hulls of the points matter (Moon, Skelly, Towsley: Estimation and Removal of Clock Skew from Network Delay Measurements, INFOCOM
1999). For a given b the allowed a are an interval, whose ends are linear in b between the slopes of the hulls' edges: the allowed (a, b)
are a polygon with its corners at those slopes, and an offset is greatest and least at corners.

A clock that was stepped has no such line. Then the packets are cut, in order of time, into as few pieces as have one. Cutting as late as
possible and as early as possible says where each cut may lie; in between, all that either side says is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from probes.jit import kernel
from probes.schema import Array
from tracer.clocks.crossings import MAX_DRIFT

MAX_PIECES = 64
EVEN_NS = 30_000_000_000  # a crystal keeps its rate so long, whatever it was; over hours it wanders
MAX_DAMAGED = 0.01  # share of limits that may be left out as damaged
_ROUNDING_NS = 1.0  # more than floats lose
EVER = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits to `later clock - first clock` (ns) of two nodes, in the order of the first one's clock.

    `time_ns` and `limit_ns` are int64; `ceiling` says which limits are from above, the others are from below.
    """

    time_ns: Array
    limit_ns: Array
    ceiling: Array


@dataclass(frozen=True, slots=True)
class Piece:
    """All lines that hold from `start_ns` to `end_ns`: for each of `slopes` the least and greatest value at `time_ns`, less `offset_ns`."""

    start_ns: int
    end_ns: int
    time_ns: int
    offset_ns: int
    slopes: Array
    least: Array
    greatest: Array
    drift: tuple[float, float] = (-MAX_DRIFT, MAX_DRIFT)

    def at(self, time_ns: Array, base_ns: Array) -> tuple[Array, Array]:
        """Least and greatest offset at each time, less `base_ns` (float64; infinite where nothing limits it)."""
        since = (time_ns - self.time_ns)[:, None] * self.slopes
        base = self.offset_ns - base_ns
        return base + (self.least + since).min(axis=1), base + (self.greatest + since).max(axis=1)


@dataclass(frozen=True, slots=True)
class Fit:
    """The pieces of two nodes' offset, in order of time, and the smallest round trip between the two (ns, None without one).

    `cuts` is how often the clocks were cut apart; `uneven` where they could not be, and the pieces hold nothing but all differences seen;
    `left_out` limits contradicted all others before and after them.
    """

    pieces: list[Piece]
    round_trip_ns: int | None
    cuts: int = 0
    uneven: bool = False
    left_out: int = 0


@kernel
def _hull(times: Array, limits: Array, chosen: Array, sign: int, start: int, end: int, hull: Array) -> int:
    """Put the lower hull of `sign * limits` over the `chosen` of start:end into `hull` (rows, by time); returns its length."""
    size = 0
    for row in range(start, end):
        if not chosen[row]:
            continue
        while size > 0:
            top = hull[size - 1]
            if times[top] == times[row]:
                if sign * limits[top] <= sign * limits[row]:
                    break
                size -= 1
                continue
            if size == 1:
                break
            below = hull[size - 2]
            run, rise = times[top] - times[below], sign * (limits[top] - limits[below])
            if rise * (times[row] - times[below]) < sign * (limits[row] - limits[below]) * run:
                break
            size -= 1
        if size == 0 or times[hull[size - 1]] != times[row]:
            hull[size] = row
            size += 1
    return size


class _Corridors:
    """The polygons of lines through stretches of one pair's limits, in floats near zero."""

    def __init__(self, bounds: Bounds) -> None:
        self.time_ns, self.offset_ns = int(bounds.time_ns[0]), int(bounds.limit_ns[0])
        self.times = (bounds.time_ns - self.time_ns).astype("f8")
        self.limits = (bounds.limit_ns - self.offset_ns).astype("f8")
        self.sides = ((bounds.ceiling, 1), (~bounds.ceiling, -1))
        self.room = np.empty(len(self.times), "i8")

    def holds(self, start: int, end: int) -> bool:
        """Whether any line keeps the limits start:end."""
        return self._polygon(start, end, 0) is not None

    def lines(self, start: int, end: int) -> tuple[Array, Array, Array]:
        """`(slopes, least, greatest)` at the corners of what limits start:end, part of a stretch that `holds`, allow."""
        polygon = self._polygon(start, end, _ROUNDING_NS)
        assert polygon is not None
        return polygon

    def _polygon(self, start: int, end: int, slack_ns: float) -> tuple[Array, Array, Array] | None:
        """Corners of the allowed lines; None where the limits contradict each other by more than the slack."""
        hulls = []
        for chosen, sign in self.sides:
            rows = self.room[: _hull(self.times, self.limits, chosen, sign, start, end, self.room)].copy()
            times, limits = self.times[rows], sign * self.limits[rows]
            hulls.append((sign, times, limits, np.diff(limits) / np.diff(times)))
        edges = np.concatenate([sign * slopes for sign, _, _, slopes in hulls])
        corners = np.unique(np.concatenate([edges[np.abs(edges) < MAX_DRIFT], (-MAX_DRIFT, MAX_DRIFT)]))
        least, greatest = _ends(hulls, corners)
        gap = greatest - least  # concave in the slope
        allowed = np.flatnonzero(gap >= -slack_ns)
        if not len(allowed):
            return None
        low, high = int(allowed[0]), int(allowed[-1])
        crossings = []
        for inside, outside in ((low, low - 1), (high, high + 1)):
            if 0 <= outside < len(corners):
                share = max(0, gap[inside]) / (gap[inside] - gap[outside])
                crossings.append(corners[inside] + share * (corners[outside] - corners[inside]))
        slopes = np.unique(np.concatenate([corners[low : high + 1], crossings]))
        least, greatest = _ends(hulls, slopes)
        return slopes, np.minimum(least, greatest), np.maximum(least, greatest)

    def room_of(self, start: int, end: int) -> float:
        """Width (ns) of the widest corridor in a stretch that has lines."""
        _, least, greatest = self.lines(start, end)
        return float((greatest - least).max())

    def piece(self, start: int, end: int, from_ns: int, to_ns: int) -> Piece:
        """The piece of a stretch that has lines."""
        slopes, least, greatest = self.lines(start, end)
        drift = (float(slopes[0]), float(slopes[-1]))
        return Piece(from_ns, to_ns, self.time_ns, self.offset_ns, slopes, least, greatest, drift)

    def loose(self, start: int, end: int, from_ns: int, to_ns: int) -> Piece:
        """A piece for limits that fit no line: all of start:end, and beyond them as far as all limits of the pair are apart."""
        spread = np.ptp(self.limits)
        seen = self.limits[start:end]
        level = np.zeros(1), np.array([seen.min() - spread]), np.array([seen.max() + spread])
        return Piece(from_ns, to_ns, self.time_ns, self.offset_ns, *level)

    def round_trip(self, start: int, end: int) -> float:
        """Shortest there and back of neighbours in time, drift removed (ns); infinite where all went one way."""
        slopes, least, greatest = self.lines(start, end)
        ceiling, _ = self.sides[0]
        widest = slopes[np.argmax(np.where(np.isfinite(greatest - least), greatest - least, 0))]
        flat = (self.limits - widest * self.times)[start:end]
        side = np.where(ceiling[start:end], 1, -1)
        there_and_back = (side[:-1] * flat[:-1] + side[1:] * flat[1:])[side[:-1] != side[1:]]
        return float(there_and_back.min(initial=np.inf))


def _ends(hulls: list[tuple[int, Array, Array, Array]], slopes: Array) -> tuple[Array, Array]:
    """Least and greatest value at time 0 of lines of these slopes."""
    ends = []
    for sign, times, limits, edges in hulls:
        if not len(times):
            ends.append(np.full(len(slopes), sign * np.inf))
            continue
        touched = np.searchsorted(edges, sign * slopes)
        ends.append(sign * (limits[touched] - sign * slopes * times[touched]))
    return ends[1], ends[0]


def fit(bounds: Bounds) -> Fit:
    """What `bounds` (at least one limit) allow, in pieces."""
    corridors, count = _Corridors(bounds), len(bounds.time_ns)
    late = _cuts(corridors, count, backwards=False)
    early = None if late is None else _cuts(corridors, count, backwards=True)
    if late is None or early is None or len(late) != len(early):
        return Fit([corridors.loose(0, count, *EVER)] if _two_sided(bounds, 0, count) else [], None, uneven=True)
    if not late and not _two_sided(bounds, 0, count):
        return Fit([corridors.piece(0, count, *EVER)], None)
    # from a late cut to the next early one all limits surely belong together; what limits one side only says nothing by itself
    cores = [(start, end) for start, end in zip([0, *late], [*early, count], strict=True) if start < end]
    if late and (without := _without_damage(bounds, cores)) is not None:
        return without
    whole = [(start, end) for start, end in cores if _two_sided(bounds, start, end)]
    if not whole:
        return Fit([], None, len(late), uneven=True)
    sure = [part for start, end in whole for part in _straight(bounds, corridors, start, end)]
    pieces, trips = [], []
    twice = int(np.ptp(bounds.limit_ns)) if late else 0  # a clock that went back shows times again that lie as far from the cut
    lasts = [EVER[0], *(int(bounds.time_ns[end - 1]) - twice for _, end in sure)]
    nexts = [*(int(bounds.time_ns[start]) + twice for start, _ in sure), EVER[1]]
    for number, (start, end) in enumerate(sure):
        pieces.append(corridors.piece(start, end, lasts[number], nexts[number + 1]))
        trips.append(corridors.round_trip(start, end))
    for start, end in (core for core in cores if core not in whole):
        number = sum(first < start for first, _ in sure)
        pieces.append(corridors.loose(start, end, lasts[number], nexts[number]))
    return Fit(pieces, round(min(trips)), len(late))


def _two_sided(bounds: Bounds, start: int, end: int) -> bool:
    return bool(bounds.ceiling[start:end].any() and not bounds.ceiling[start:end].all())


def _straight(bounds: Bounds, corridors: _Corridors, start: int, end: int) -> list[tuple[int, int]]:
    """The stretch start:end in parts in which a clock whose rate changes steadily stays within the limits of lines.

    Let packets leave a corridor of width w around such a clock, which bends away from a straight line by s. Lines then have w - s of room
    in the whole, w - s / 4 in each half; and the clock stays within what they allow as long as s <= w / 2.
    """
    times = bounds.time_ns
    middle = start + int(np.searchsorted(times[start:end], (times[start] + times[end - 1]) // 2))
    halves = (start, middle), (middle, end)
    if times[end - 1] - times[start] <= EVEN_NS or not all(_two_sided(bounds, *half) for half in halves):
        return [(start, end)]
    if corridors.room_of(start, end) >= min(corridors.room_of(*half) for half in halves) * (1 - 1 / 2) / (1 - 1 / 8):
        return [(start, end)]
    return [part for half in halves for part in _straight(bounds, corridors, *half)]


def _without_damage(bounds: Bounds, cores: list[tuple[int, int]]) -> Fit | None:
    """The fit without a few limits, where one line fits all others before and after: packets' times are damaged, not the clock."""
    count = len(bounds.time_ns)
    few = [np.arange(start, end) for start, end in cores if end - start <= MAX_DAMAGED * count]
    damaged = np.concatenate([np.empty(0, "i8"), *few])
    if not 0 < len(damaged) <= MAX_DAMAGED * count:
        return None
    if not (_two_sided(bounds, 0, int(damaged[0])) and _two_sided(bounds, int(damaged[-1]) + 1, count)):
        return None
    kept = np.ones(count, bool)
    kept[damaged] = False
    rest = fit(Bounds(bounds.time_ns[kept], bounds.limit_ns[kept], bounds.ceiling[kept]))
    return None if rest.cuts or rest.uneven else replace(rest, left_out=len(damaged))


def _cuts(corridors: _Corridors, count: int, *, backwards: bool) -> list[int] | None:
    """The fewest cuts that leave pieces with lines, each as late as possible (`backwards`: as early); None where they are too many."""

    def holds(length: int) -> bool:
        return corridors.holds(*((done - length, done) if backwards else (done, done + length)))

    cuts: list[int] = []
    done = count if backwards else 0
    while left := done if backwards else count - done:
        if holds(left):
            return sorted(cuts)
        good, bad = 1, 2
        while bad < left and holds(bad):
            good, bad = bad, 2 * bad
        bad = min(bad, left)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if holds(middle) else (good, middle)
        done += -good if backwards else good
        cuts.append(done)
        if len(cuts) >= MAX_PIECES:
            return None
    return sorted(cuts)
