"""In which order a node saw one connection's tuples: what DNAT and SNAT did there, told by packets alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

SAMPLED_SIGHTINGS = 512  # of one connection on one node


@dataclass(frozen=True, slots=True)
class Passage:
    """One node's tuples of a connection in the order the client's packets pass them.

    `order` has tuple codes (client to server); `answered` those of them that replies were seen for; `gaps` the shortest time (ns) between
    first sightings of two tuples under which one packet was seen.
    """

    node: int
    order: list[int]
    answered: frozenset[int]
    gaps: dict[tuple[int, int], int]


def _packets(codes: list[int], identities: list[int], times: list[int]) -> Iterator[dict[int, tuple[int, int]]]:
    """Per packet seen under several tuples: first and last time (ns) by tuple. Sightings come in order of time."""
    packets: dict[int, dict[int, tuple[int, int]]] = {}
    for code, identity, time_ns in zip(codes[:SAMPLED_SIGHTINGS], identities, times, strict=False):
        if identity:
            seen = packets.setdefault(identity, {})
            seen[code] = (seen[code][0] if code in seen else time_ns), time_ns
    return (seen for seen in packets.values() if len(seen) > 1)


def _passage(node: int, request: tuple[list[int], list[int], list[int]], reply: tuple[list[int], list[int], list[int]]) -> Passage:
    """Every packet votes on every pair of tuples it was seen under; a reply meets them the other way round.

    The kernel stamps a packet once on its way in, so a bridge's port and the bridge may show equal times: such a packet's last sightings
    count, or it does not vote.
    """
    wins: dict[tuple[int, int], int] = {}
    gaps: dict[tuple[int, int], int] = {}
    for columns, way in ((request, 1), (reply, -1)):
        for seen in _packets(*columns):
            for one, other in combinations(seen, 2):
                first, last = seen[one], seen[other]
                lead = way * ((last > first) - (last < first))
                wins[one, other] = wins.get((one, other), 0) + lead
                wins[other, one] = wins.get((other, one), 0) - lead
                gap = abs(last[0] - first[0])
                for pair in ((one, other), (other, one)):
                    gaps[pair] = min(gap, gaps.get(pair, gap))
    codes = list(dict.fromkeys([*request[0], *reply[0]]))
    beats = {code: sum(wins.get((code, other), 0) > 0 for other in codes) for code in codes}
    return Passage(node, sorted(codes, key=lambda code: -beats[code]), frozenset(request[0]) & frozenset(reply[0]), gaps)


def passages(
    nodes: Sequence[int], codes: Sequence[int], identities: Sequence[int], times: Sequence[int], ahead: Sequence[bool]
) -> Iterator[Passage]:
    """The `Passage` of every node that saw several tuples. Sightings come in order of node and time; `codes` of replies are reversed."""
    start = 0
    for end in range(1, len(nodes) + 1):
        if end < len(nodes) and nodes[end] == nodes[start]:
            continue
        there = range(start, end)
        if len({codes[i] for i in there}) > 1:
            out, back = ([i for i in there if ahead[i] == way] for way in (True, False))
            columns = [([codes[i] for i in way], [identities[i] for i in way], [times[i] for i in way]) for way in (out, back)]
            yield _passage(nodes[start], columns[0], columns[1])
        start = end
