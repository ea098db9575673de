"""Packets in memory, traced in parts: each capture is looked at by itself, several at a time, and never put into one table with others."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from analysis.engine.work import node_names
from probes.capture import Capture
from probes.schema import Array, Table, size
from tracer.captures import Packets
from tracer.partitions import Cut, Deal, Links, cut_out
from tracer.surroundings import Glimpse, glimpse, together

LOOKED_AT_ONCE = 1 << 18  # observations


@dataclass(frozen=True, slots=True)
class Looked:
    """What a piece of a capture tells; `flows` has the number of each row's flow in `links`, -1 for none."""

    links: Links
    flows: Array
    seen: Glimpse


@dataclass(frozen=True, slots=True)
class Pieces:
    """The captures of a bundle, and the pieces of each that were looked at."""

    packets: Packets
    looked: list[list[Looked]]

    @property
    def links(self) -> list[Links]:
        """Those of all pieces."""
        return [piece.links for pieces in self.looked for piece in pieces]

    @property
    def seen(self) -> Glimpse:
        """What all pieces tell."""
        first_points = zip(self.packets.first_points, self.looked, strict=True)
        return together([piece.seen for pieces in self.looked for piece in pieces], [base for base, pieces in first_points for _ in pieces])

    def parts(self, dealt: Deal, threads: int) -> partial[Table]:
        """What gives the packets of each partition."""

        def cut(capture: Capture, pieces: list[Looked]) -> Cut:
            of = [np.append(dealt.of(piece.links.numbers.flows), np.int32(-1))[piece.flows] for piece in pieces]
            return Cut(capture.observations, np.concatenate([np.empty(0, "i4"), *of]), dealt.count)

        with ThreadPoolExecutor(threads) as pool:
            return partial(cut_out, list(pool.map(cut, self.packets.captures, self.looked)), self.packets.first_points)


def look(packets: Packets, threads: int) -> Pieces:
    """Look at all captures, in so many threads."""

    def one(capture: Capture, first: int, end: int) -> Looked:
        table = {name: column[first:end] for name, column in capture.observations.items()}
        links, (name,) = Links(), node_names([capture.node])
        flows = links.add(table, np.full(len(capture.points), name))
        return Looked(links, flows, glimpse(table, len(capture.points)))

    with ThreadPoolExecutor(threads) as pool:
        asked = [
            [pool.submit(one, capture, first, end) for first, end in pairwise(_bounds(size(capture.observations)))]
            for capture in packets.captures
        ]
        return Pieces(packets, [[each.result() for each in pieces] for pieces in asked])


def _bounds(rows: int) -> Sequence[int]:
    return [*range(0, rows, LOOKED_AT_ONCE), rows]
