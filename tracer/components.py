"""Which legs are one connection: a union-find that also keeps which way each leg runs.

Joining two sightings of one packet says more than "same connection": it says both run the same way. A leg's two directions oppose each
other, so one bit per leg (its `parity` against the connection's) orients everything that is ever joined.
"""

from __future__ import annotations

import numpy as np

from probes.jit import bare, inside
from probes.schema import Array


@inside
def _root(parent: Array, parity: Array, leg: int) -> tuple[int, int]:
    """The root of `leg` and the parity against it; compresses the path."""
    root, total = leg, 0
    while parent[root] != root:
        total ^= parity[root]
        root = parent[root]
    here, rest = leg, total
    while parent[here] != root and here != root:
        following, step = parent[here], parity[here]
        parent[here], parity[here] = root, rest
        rest ^= step
        here = following
    return root, total


@bare
def join(parent: Array, parity: Array, known: Array, one: Array, other: Array, opposed: Array) -> int:
    """Join legs `one[i]` and `other[i]`, running the same way where `opposed[i]` is 0; returns how many joins contradicted earlier ones.

    Roots of which different things are `known` stay apart.
    """
    contradictions = 0
    for index in range(len(one)):
        root_a, parity_a = _root(parent, parity, one[index])
        root_b, parity_b = _root(parent, parity, other[index])
        turned = parity_a ^ parity_b ^ opposed[index]
        if root_a == root_b:
            contradictions += turned
            continue
        if min(known[root_a], known[root_b]) >= 0 and known[root_a] != known[root_b]:
            continue
        root, below = min(root_a, root_b), max(root_a, root_b)
        parent[below], parity[below] = root, turned
        known[root] = max(known[root], known[below])
    return contradictions


@bare
def _flatten(parent: Array, parity: Array, roots: Array, turned: Array) -> None:
    for leg in range(len(parent)):
        roots[leg], turned[leg] = _root(parent, parity, leg)


class Components:
    """A partition of legs that only ever grows coarser. A single root is the lowest leg of its component.

    `known` (int64, -1 unknown) tells connections apart, as an initial sequence number does: legs of which it differs are never joined, not
    through others either.
    """

    def __init__(self, count: int, known: Array | None = None) -> None:
        self._parent = np.arange(count, dtype="i8")
        self._parity = np.zeros(count, "i8")
        self._known = np.full(count, -1, "i8") if known is None else known.copy()
        self.contradictions = 0

    def join(self, one: Array, other: Array, opposed: Array) -> None:
        """Join legs pairwise; `opposed` is 1 where their flows' directions run against each other."""
        self.contradictions += join(self._parent, self._parity, self._known, one.astype("i8"), other.astype("i8"), opposed.astype("i8"))

    def roots(self) -> tuple[Array, Array]:
        """`(root, parity)` of every leg, both int64."""
        roots, turned = np.empty_like(self._parent), np.empty_like(self._parity)
        _flatten(self._parent, self._parity, roots, turned)
        return roots, turned
