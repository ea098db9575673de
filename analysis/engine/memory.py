"""Packets in memory, traced in parts: they are looked at a piece at a time, several at once, and stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from analysis.engine.work import node_names
from probes.schema import Array, ObservationPoint, Table, size
from tracer.partitions import Deal, Links
from tracer.surroundings import Glimpse, glimpse, together

LOOKED_AT_ONCE = 1 << 18  # observations


@dataclass(frozen=True, slots=True)
class Looked:
    """What the observations from `first` on tell; `flows` has the number of each one's flow in `links`, -1 for none."""

    first: int
    links: Links
    flows: Array
    seen: Glimpse


@dataclass(frozen=True, slots=True)
class Pieces:
    """The observations of a bundle, and the pieces of them that were looked at."""

    observations: Table
    looked: list[Looked]

    @property
    def links(self) -> list[Links]:
        """Those of all pieces."""
        return [piece.links for piece in self.looked]

    @property
    def seen(self) -> Glimpse:
        """What all pieces tell."""
        return together([piece.seen for piece in self.looked], [0] * len(self.looked))

    def parts(self, dealt: Deal, threads: int) -> Array:
        """The partition of each observation, -1 for none."""
        part = np.full(size(self.observations), -1, np.min_scalar_type(-dealt.count))

        def fill(piece: Looked) -> None:
            of = np.append(dealt.of(piece.links.numbers.hashes), np.int32(-1))
            part[piece.first : piece.first + len(piece.flows)] = of[piece.flows]

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, self.looked))
        return part


def look(observations: Table, ranges: Sequence[range], points: Sequence[ObservationPoint], threads: int) -> Pieces:
    """Look at the observations in `ranges`, in so many threads."""
    names = node_names([point.node for point in points])

    def one(rows: range) -> Looked:
        table = {name: column[rows.start : rows.stop] for name, column in observations.items()}
        links = Links()
        flows = links.add(table, names)
        return Looked(rows.start, links, flows, glimpse(table, len(points)))

    pieces = [rows[at : at + LOOKED_AT_ONCE] for rows in ranges for at in range(0, len(rows), LOOKED_AT_ONCE)]
    with ThreadPoolExecutor(threads) as pool:
        return Pieces(observations, list(pool.map(one, pieces)))
