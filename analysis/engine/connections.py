"""The connections of all partitions, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.engine.stitch import Stitched
from analysis.record_texts import policy_record
from analysis.summary import Tally
from analysis.sums import Sums
from tracer.affinity import affinities
from tracer.bundle import Bundle
from tracer.policies import Policy

Record = dict[str, Any]
LOOKED_AT = 1 << 12  # records of connections that are kept in memory


class Connections:
    """What partitions gave, as one: `texts[i]` are the bytes that `parts[i]` was written to. `bundle` is that of all, packets left out.

    `sums` are of all connections, if they were asked for.
    """

    def __init__(self, bundle: Bundle, parts: Sequence[Stitched], texts: Sequence[memoryview], sums: Sums | None = None) -> None:
        self.bundle, self.sums, self._parts, self._texts = bundle, sums, parts, texts
        self.tally = Tally()
        for part in parts:
            self.tally.add(part.tally)
        sizes = [len(part.first_ns) for part in parts]
        first_ns, lowest = (np.concatenate([getattr(part, name) for part in parts] or [np.empty(0)]) for name in ("first_ns", "lowest"))
        order = np.lexsort((lowest, first_ns))
        rank = np.empty(len(order), "i8")
        rank[order] = np.arange(len(order))
        self.ranks = np.split(rank, np.cumsum(sizes)[:-1])  # of each part's rows: what is before it of all
        kept = [ranks[part.kept] for ranks, part in zip(self.ranks, parts, strict=True)]
        ranks = np.concatenate(kept or [np.empty(0, "i8")])
        order = np.argsort(ranks)
        self.numbers = ranks[order] + 1
        self._part = np.repeat(np.arange(len(parts)), [len(part.kept) for part in parts])[order]
        # where each one's text is; those that were not written, as nobody asked for so many, have none
        places = [(part.text, np.arange(len(part.kept))) for part in parts]
        self._first, self._end = (
            np.concatenate([text.take(at + side, mode="clip") for text, at in places] or [np.empty(0, "i8")])[order] for side in (0, 1)
        )
        self._affinities = self._check_affinities()

    def __len__(self) -> int:
        """How many were asked for."""
        return len(self.numbers)

    def lines(self, most: int | None = None) -> Iterator[bytes]:
        """Their records as JSON (ASCII), those of the first `most`."""
        where = (column[:most].tolist() for column in (self.numbers, self._part, self._first, self._end))
        return (self._line(*each) for each in zip(*where, strict=True))

    def records(self, most: int | None = None) -> Iterator[Record]:
        """The same as they were before."""
        return (json.loads(line) for line in self.lines(most))

    def held(self) -> tuple[list[Record], list[int]]:
        """The records that `sums` chose, in order, and which of their kinds each is of."""
        assert self.sums is not None
        chosen = self.sums.chosen()
        found = []
        for kind, part, row in zip(*(chosen[name].tolist() for name in ("kind", "part", "row")), strict=True):
            place = int(np.searchsorted(self._parts[part].kept, row))
            found.append((int(self.ranks[part][row]) + 1, part, *self._parts[part].text[place : place + 2].tolist(), kind))
        found.sort()
        return [json.loads(self._line(*each)) for *each, _ in found], [kind for *_, kind in found]

    def _line(self, number: int, part: int, first: int, end: int) -> bytes:
        text: bytes | memoryview = self._texts[part][first + 1 : end]  # behind its brace
        if number in self._affinities:
            text = _with_policy(bytes(self._texts[part][first:end]), self._affinities[number])[1:]
        return b'{"id": "c%d", "parent": null, "trace": "t%d", ' % (number, number) + text

    def each(self) -> Sequence[Record]:
        """The same by place, where all were asked for; those that were looked at last are in memory."""
        return _Each(lambda at: self._line(at + 1, int(self._part[at]), int(self._first[at]), int(self._end[at])), len(self))

    def _check_affinities(self) -> dict[int, Policy]:
        asked = [(int(ranks[row]) + 1, affine) for ranks, part in zip(self.ranks, self._parts, strict=True) for row, affine in part.affine]
        return dict(affinities(sorted(asked, key=lambda each: each[0])))


class _Each(Sequence[Record]):
    """Records of the connections whose lines `line` makes."""

    def __init__(self, line: Callable[[int], bytes], count: int) -> None:
        self._record = lru_cache(LOOKED_AT)(lambda at: json.loads(line(at)))
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(self._count))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return self._record(at)


def _with_policy(text: bytes, policy: Policy) -> bytes:
    record = json.loads(text)
    record["policies"].append(policy_record(policy))
    return json.dumps(record).encode()
