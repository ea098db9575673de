"""What each partition's packets say of clocks, in a file: as large as packets are many, and never in memory as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from analysis.engine.files import content_of
from probes.schema import Array
from tracer.clocks import Clocks, compare
from tracer.clocks.bounds import Bounds, fit
from tracer.clocks.limits import limits, sample, times_seen, together
from tracer.pipeline import Reconstruction

Index = dict[str, Any]  # what is where in a file, as JSON has it
_COLUMNS = ("time_ns", "limit_ns", "ceiling")


def write_clocks(traced: Reconstruction, out: IO[bytes]) -> Index:
    """Write the times at which each node saw packets, in order, and the limits of each pair of nodes: int64, one behind the other."""
    told, times = limits(traced), times_seen(traced)
    for row in sorted(times):
        out.write(np.sort(times[row]).astype("<i8").tobytes())
    for pair in sorted(told.bounds):
        for name in _COLUMNS:
            out.write(getattr(told.bounds[pair], name).astype("<i8").tobytes())
    return {
        "used": told.used.tolist(), "times": [(row, len(times[row])) for row in sorted(times)],
        "bounds": [(*pair, len(told.bounds[pair].time_ns)) for pair in sorted(told.bounds)],
    }  # fmt: skip


class _Written:
    """One file again."""

    def __init__(self, index: Index, path: Path) -> None:
        numbers = np.frombuffer(content_of(path), "<i8")
        self.times: dict[int, Array] = {}
        self._bounds: dict[tuple[int, int], list[Array]] = {}
        place = 0
        for row, count in index["times"]:
            self.times[row], place = numbers[place : place + count], place + count
        for first, second, count in index["bounds"]:
            self._bounds[first, second] = list(numbers[place : place + 3 * count].reshape(3, count))
            place += 3 * count

    @property
    def pairs(self) -> set[tuple[int, int]]:
        return set(self._bounds)

    def bounds(self, pair: tuple[int, int]) -> list[Bounds]:
        """The limits of a pair of nodes, if there are any."""
        if pair not in self._bounds:
            return []
        time_ns, limit_ns, ceiling = self._bounds[pair]
        return [Bounds(time_ns, limit_ns, ceiling > 0)]


def clocks_of(nodes: Sequence[str], indexes: Sequence[Index], paths: Sequence[Path]) -> Clocks:
    """The clocks of `nodes`, by what all partitions wrote."""
    parts = [_Written(*each) for each in zip(indexes, paths, strict=True)]
    used = np.sum([index["used"] for index in indexes], axis=0, dtype="i8")
    pairs = sorted(set().union(*(part.pairs for part in parts)))
    fits = {pair: fit(together([bounds for part in parts for bounds in part.bounds(pair)])) for pair in pairs}
    rows = sorted(set().union(*(part.times for part in parts)))
    moments = {row: sample([part.times[row] for part in parts if row in part.times]) for row in rows}
    return compare(nodes, used, fits, moments)
