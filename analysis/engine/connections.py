"""The connections of all partitions, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from analysis.engine.stitch import Stitched
from analysis.records import policy_record
from analysis.summary import Tally
from tracer.affinity import affinities
from tracer.bundle import Bundle
from tracer.policies import Policy

Record = dict[str, Any]


class Connections:
    """What partitions gave, as one: `texts[i]` are the bytes that `parts[i]` was written to. `bundle` is that of all, packets left out."""

    def __init__(self, bundle: Bundle, parts: Sequence[Stitched], texts: Sequence[memoryview]) -> None:
        self.bundle, self._parts, self._texts = bundle, parts, texts
        self.tally = Tally()
        for part in parts:
            self.tally.add(part.tally)
        sizes = [len(part.first_ns) for part in parts]
        first_ns, lowest = (np.concatenate([getattr(part, name) for part in parts] or [np.empty(0)]) for name in ("first_ns", "lowest"))
        order = np.lexsort((lowest, first_ns))
        rank = np.empty(len(order), "i8")
        rank[order] = np.arange(len(order))
        self._ranks = np.split(rank, np.cumsum(sizes)[:-1])  # of each part's rows: what is before it of all
        kept = [ranks[part.kept] for ranks, part in zip(self._ranks, parts, strict=True)]
        ranks = np.concatenate(kept or [np.empty(0, "i8")])
        order = np.argsort(ranks)
        self.numbers = ranks[order] + 1
        self._part = np.repeat(np.arange(len(parts)), [len(part.kept) for part in parts])[order]
        self._place = np.concatenate([np.arange(len(part.kept)) for part in parts] or [np.empty(0, "i8")])[order]
        self._affinities = self._check_affinities()

    def __len__(self) -> int:
        """How many were asked for."""
        return len(self.numbers)

    def lines(self, most: int | None = None) -> Iterator[str]:
        """Their records as JSON, those of the first `most`."""
        places = zip(self.numbers[:most].tolist(), self._part[:most].tolist(), self._place[:most].tolist(), strict=True)
        for number, part, place in places:
            first, end = self._parts[part].text[place : place + 2].tolist()
            text = str(self._texts[part][first:end], "ascii")
            if number in self._affinities:
                text = _with_policy(text, self._affinities[number])
            yield f'{{"id": "c{number}", "parent": null, "trace": "t{number}", {text[1:]}'

    def records(self, most: int | None = None) -> Iterator[Record]:
        """The same as they were before."""
        return (json.loads(line) for line in self.lines(most))

    def _check_affinities(self) -> dict[int, Policy]:
        asked = [(int(ranks[row]) + 1, affine) for ranks, part in zip(self._ranks, self._parts, strict=True) for row, affine in part.affine]
        return dict(affinities(sorted(asked, key=lambda each: each[0])))


def _with_policy(text: str, policy: Policy) -> str:
    record = json.loads(text)
    record["policies"].append(policy_record(policy))
    return json.dumps(record)
