"""Connections that are too many to be told one by one: how many are of a kind, how long they took, and the worst of them.

Sums of parts give the same sums in whatever order, and over whatever tree, they are put together (`merge`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from analysis.histograms import HISTOGRAMS, histograms, merged
from analysis.kinds import kind_of, measured, reason_of
from analysis.records import Record
from probes.schema import Array, Column, Schema, Table, size, take

OF_EACH_KIND = 20  # that are held of every kind, so that each can be looked at

HELD = Schema(
    "held",
    (
        Column("kind", "i8", "", "row of `kinds`"),
        Column("total_ns", "i8", "ns", "how long it lasted"),
        Column("first_ns", "i8", "ns since the epoch", "its first packet"),
        Column("lowest", "u8", "", "lowest hash of its tuples"),
        Column("part", "i8", "", "the partition that has it"),
        Column("row", "i8", "", "which one it is there"),
    ),
)


@dataclass(slots=True)
class Sums:
    """Connections by kind.

    `kinds` (JSON of `kind_of`) are in order, `counts` (i8) says how many are of each. `samples` are HISTOGRAMS (ns) of
    `kind * len(measures) + measure`; `measures` are in order. `problems` say how often what could not be told. `held` (HELD) are the `most`
    longest, and the longest of every kind, longest first.
    """

    kinds: list[str]
    counts: Array
    measures: list[str]
    samples: Table
    problems: Counter[str]
    held: Table
    most: int

    def save(self, file: IO[bytes]) -> None:
        """Write all of it to `file`, for `load`."""
        told = json.dumps([self.kinds, self.measures, self.problems, self.most]).encode()
        np.savez(file, allow_pickle=False, told=np.frombuffer(told, "u1"), counts=self.counts, **self.samples, **_named(self.held))

    @classmethod
    def load(cls, file: IO[bytes]) -> Sums:
        """What `save` wrote; ValueError where it is not that."""
        with np.load(file, allow_pickle=False) as kept:
            kinds, measures, problems, most = json.loads(kept["told"].tobytes())
            samples = {name: kept[name] for name in HISTOGRAMS.empty()}
            held = {name: kept[key] for name, key in zip(HELD.empty(), _named(HELD.empty()), strict=True)}
            return cls(kinds, kept["counts"], measures, samples, Counter(problems), held, most)

    def chosen(self) -> Table:
        """No more than `most` of `held`: for a half those of each kind in turn, else the longest."""
        rank = _ranks(self.held["kind"])
        turns = np.argsort(rank, kind="stable")
        of_kinds = turns[: min(self.most // 2, np.count_nonzero(rank < OF_EACH_KIND))]
        others = np.setdiff1d(np.arange(len(rank)), of_kinds)
        return take(self.held, np.sort(np.append(of_kinds, others[: self.most - len(of_kinds)])))


class Summing:
    """Sums of one partition's connections, as their records come, in the order of its rows."""

    def __init__(self) -> None:
        self.kinds: list[int] = []  # of each row
        self._kinds: dict[str, int] = {}
        self._measures: dict[str, int] = {}
        self._of: list[tuple[int, int]] = []
        self._numbers: list[int] = []
        self._problems: Counter[str] = Counter()

    def add(self, record: Record) -> int:
        """Take in one record; the number that its kind has for now."""
        kind = self._kinds.setdefault(json.dumps(kind_of(record)), len(self._kinds))
        self.kinds.append(kind)
        for measure, ns in measured(record):
            self._of.append((kind, self._measures.setdefault(measure, len(self._measures))))
            self._numbers.append(ns)
        self._problems.update(map(reason_of, record["problems"]))
        return kind

    def sums(self, held: Table, most: int) -> Sums:
        """All of it; `held` are its rows, without their kinds."""
        of, numbers = np.array(self._of, "i8").reshape(-1, 2), np.array(self._numbers, "i8")
        samples = histograms(of[:, 0] * len(self._measures) + of[:, 1], numbers)
        counts = np.bincount(np.array(self.kinds, "i8"), minlength=len(self._kinds)).astype("i8")
        held = {"kind": np.array(self.kinds, "i8")} | held
        return merge([Sums(list(self._kinds), counts, list(self._measures), samples, self._problems, held, most)])


def merge(several: Sequence[Sums]) -> Sums:
    """The sums of all of them; of one, the same in order."""
    kinds, measures = (sorted({name for each in several for name in getattr(each, names)}) for names in ("kinds", "measures"))
    kind_numbers, measure_numbers = ({name: number for number, name in enumerate(names)} for names in (kinds, measures))
    counts, samples, held = np.zeros(len(kinds), "i8"), [], []
    problems: Counter[str] = Counter()
    for each in several:
        kind, measure = (
            np.array([kind_numbers[name] for name in each.kinds], "i8"),
            np.array([measure_numbers[name] for name in each.measures], "i8"),
        )
        np.add.at(counts, kind, each.counts)
        old_kind, old_measure = np.divmod(each.samples["of"], max(1, len(each.measures)))
        samples.append(each.samples | {"of": kind[old_kind] * len(measures) + measure[old_measure]})
        held.append(each.held | {"kind": kind[each.held["kind"]]})
        problems.update(each.problems)
    most = several[0].most
    return Sums(
        kinds,
        counts,
        measures,
        merged(HISTOGRAMS.concat(samples)),
        Counter(dict(sorted(problems.items()))),
        _worst(HELD.concat(held), most),
        most,
    )


def tree(parts: Sequence[int], load: Callable[[int], Sums]) -> Sums:
    """The sums of `parts` (one or more): of halves, of their halves, so that few are in memory at a time."""
    if len(parts) == 1:
        return load(parts[0])
    half = len(parts) // 2
    return merge([tree(parts[:half], load), tree(parts[half:], load)])


def _worst(held: Table, most: int) -> Table:
    """What may be among the `most` longest of all, and the longest of its kind, whatever else there is."""
    held = take(held, np.lexsort((held["row"], held["part"], held["lowest"], held["first_ns"], -held["total_ns"])))
    return take(held, (np.arange(size(held)) < most) | (_ranks(held["kind"]) < OF_EACH_KIND))


def _ranks(kinds: Array) -> Array:
    """How many before it are of the same kind."""
    order = np.argsort(kinds, kind="stable")
    ordered = kinds[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(kinds)])
    ranks = np.empty(len(kinds), "i8")
    ranks[order] = np.arange(len(kinds)) - np.repeat(first, np.diff(np.append(first, len(kinds))))
    return ranks


def _named(held: Table) -> Table:
    return {f"held_{name}": column for name, column in held.items()}
