"""The order of a connection's translations and visits.

Nodes go by their rank on the path (0 is nearest to the client), tuples by any numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracer.chains import Translation, chain
from tracer.visits import visits

Seen = tuple[int, int, bool]  # (node, tuple, whether it is no half-translated copy)
Step = tuple[int, int, int]  # (node, tuple before, tuple after)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """`steps` are the places of the translations in path order, among those given; `visited` has the number of each place's visit.

    Tuples are -1 where they cannot be told. `first_node` saw the connection first, as `first_seen`.
    """

    original: int
    translated: int
    steps: tuple[int, ...]
    problems: tuple[str, ...]
    visited: tuple[int, ...]
    first_node: int
    first_seen: int


def arrangement(seen: tuple[Seen, ...], steps: tuple[Step, ...]) -> Arrangement:
    """How connections are arranged that have these places, each node's next to each other, and these translations."""
    rank = {node: node for node, _, _ in seen}
    in_order = [code for _, code in sorted(((node, code) for node, code, whole in seen if whole), key=lambda place: place[0])]
    numbered = [Translation(*step, number) for number, step in enumerate(steps)]  # their numbers stand in place of evidence
    found = chain(in_order, numbered, rank)
    places = [(node, code) for node, code, _ in seen]
    visited = visits(found, places, sorted(rank))
    before = found.translations[0].before if found.translations else -1
    return Arrangement(
        found.original,
        found.translated,
        tuple(step.evidence for step in found.translations),
        tuple(found.problems),
        tuple(visited[place] for place in places),
        min(places, key=lambda place: (visited[place], place[0]))[0],
        before if before in in_order else in_order[0],
    )
