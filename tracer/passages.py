"""In which order a node saw one connection's tuples: what DNAT and SNAT did there, told by packets alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress, product

import numpy as np

from probes.jit import inlined, kernel, wide
from probes.schema import Array
from tracer.places import Places

SAMPLED_SIGHTINGS = 512  # of one connection on one node, each direction
_SLOTS = 2 * SAMPLED_SIGHTINGS


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


@inlined
def _packets(  # noqa: PLR0913, PLR0917 - columns
    first: int, end: int, asked: bool, rank: Array, of: Array, forward: Array, identity: Array, time_ns: Array, tuples: int, keys: Array,
    packets: Array, stamp: Array, turn: int, seen: Array,
) -> int:  # fmt: skip
    """Tell the packets of one direction among sightings first..end apart; returns how many there are.

    `seen[packet, t]` becomes the first and last time of packet under its node's tuple t (`rank` of the place, -1 for copies), -1 where it
    was not seen so. `keys` and `packets` are a hash table of identities; what has another `stamp` than this `turn` is not in it.
    """
    taken, count = 0, 0
    for row in range(first, end):
        place = rank[of[row]]
        if forward[row] != asked or place < 0:
            continue
        taken += 1
        if taken > SAMPLED_SIGHTINGS:
            break
        if identity[row] == 0:
            continue
        slot = wide(identity[row] >> np.uint64(32)) % _SLOTS
        while stamp[slot] == turn and keys[slot] != identity[row]:
            slot = (slot + 1) % _SLOTS
        if stamp[slot] != turn:
            stamp[slot], keys[slot], packets[slot] = turn, identity[row], count
            seen[count, :tuples, 0] = -1
            count += 1
        packet = packets[slot]
        if seen[packet, place, 0] < 0:
            seen[packet, place, 0] = time_ns[row]
        seen[packet, place, 1] = time_ns[row]
    return count


@inlined
def _vote(packets: int, way: int, tuples: int, seen: Array, wins: Array, gaps: Array) -> None:
    """Let each packet vote on every pair of tuples it was seen under; `way` is 1 for requests, -1 for replies."""
    for packet in range(packets):
        for one in range(tuples):
            if seen[packet, one, 0] < 0:
                continue
            for other in range(one + 1, tuples):
                if seen[packet, other, 0] < 0:
                    continue
                gap = seen[packet, other, 0] - seen[packet, one, 0]
                lead = gap if gap != 0 else seen[packet, other, 1] - seen[packet, one, 1]
                lead = way if lead > 0 else -way if lead < 0 else 0
                wins[one, other] += lead
                wins[other, one] -= lead
                if gaps[one, other] < 0 or abs(gap) < gaps[one, other]:
                    gaps[one, other] = gaps[other, one] = abs(gap)


@kernel
def _order_tuples(  # noqa: PLR0913, PLR0917 - columns
    group_first: Array, group_end: Array, place_first: Array, place_end: Array, copy: Array, asked_at: Array, answered_at: Array, of: Array,
    forward: Array, identity: Array, time_ns: Array, most: int, order: Array, gap_ns: Array, pairs_at: Array,
) -> None:  # fmt: skip
    """For each group of places on one node: `order` has them in path order (copies last), `gap_ns` from `pairs_at` on their gaps, by rank.

    Every packet votes on every pair of tuples it was seen under; a reply meets them the other way round. The kernel stamps a packet once on
    its way in, so a bridge's port and the bridge may show equal times: such a packet's last sightings count, or it does not vote.
    """
    keys, packets = np.empty(_SLOTS, np.uint64), np.empty(_SLOTS, np.int64)
    stamp, seen = np.zeros(_SLOTS, np.int64), np.empty((SAMPLED_SIGHTINGS, most, 2), np.int64)
    wins, gaps = np.empty((most, most), np.int64), np.empty((most, most), np.int64)
    rank, ranked, beats = np.full(len(copy), -1), np.empty(most, np.int64), np.empty(most, np.int64)
    turn = 0
    for group in range(len(group_first)):
        count = 0
        for asked in (True, False):  # in the order of the first request, then what only replies had
            begin = count
            for place in range(place_first[group], place_end[group]):
                if copy[place] or (asked_at[place] >= 0) != asked:
                    continue
                at = count
                when = asked_at if asked else answered_at
                while at > begin and when[ranked[at - 1]] > when[place]:
                    ranked[at] = ranked[at - 1]
                    at -= 1
                ranked[at] = place
                count += 1
        for at in range(count):
            rank[ranked[at]] = at
        wins[:count, :count] = 0
        gaps[:count, :count] = -1
        for asked in (True, False):
            turn += 1
            told = _packets(
                group_first[group], group_end[group], asked, rank, of, forward, identity, time_ns, count, keys, packets, stamp, turn, seen
            )
            _vote(told, 1 if asked else -1, count, seen, wins, gaps)
        for one in range(count):
            beats[one] = 0
            for other in range(count):
                beats[one] += wins[one, other] > 0
        final = np.argsort(-beats[:count] * count + np.arange(count))
        for at in range(count):
            order[place_first[group] + at] = ranked[final[at]]
            for other in range(count):
                gap_ns[pairs_at[group] + at * count + other] = gaps[final[at], final[other]]


@dataclass(frozen=True, slots=True)
class Passages:
    """The `Passage` of every node that saw several tuples of a connection, as columns.

    Passage p is of the places `place_of[at[p]:at[p + 1]]`, in order; its gaps (ns by two of them, -1 where no packet had both) are
    `gap_ns[pairs_at[p]:pairs_at[p + 1]]`. `connection` and `node` have an entry per passage.
    """

    connection: Array
    node: Array
    at: Array
    place_of: Array
    pairs_at: Array
    gap_ns: Array

    def of(self, connection: int, places: Places) -> list[Passage]:
        """Those of one connection."""
        found = []
        for which in range(*np.searchsorted(self.connection, (connection, connection + 1)).tolist()):
            here = self.place_of[self.at[which] : self.at[which + 1]]
            codes, answered = places.code[here].tolist(), (places.asked_at[here] >= 0) & (places.answered_at[here] >= 0)
            gaps = self.gap_ns[self.pairs_at[which] : self.pairs_at[which + 1]].tolist()
            pairs = {pair: gap for pair, gap in zip(product(codes, codes), gaps, strict=True) if gap >= 0}
            found.append(Passage(int(self.node[which]), codes, frozenset(compress(codes, answered.tolist())), pairs))
        return found


def passages(places: Places, forward: Array, identity: Array, time_ns: Array) -> Passages:
    """The `Passages` of all connections; the columns are those of sightings, by connection."""
    connection = places.connection
    begins = np.ones(len(connection), bool)
    begins[1:] = (np.diff(connection) != 0) | (np.diff(places.node) != 0)
    first = np.flatnonzero(begins)
    end = np.append(first[1:], len(begins))
    whole = np.add.reduceat((~places.copy).astype("i8"), first) if len(first) else first
    several = whole > 1
    # sightings are by connection and node too: a group's are those from its places' first to the next group's
    from_row = np.minimum.reduceat(_first_rows(places), first) if len(first) else first
    to_row = np.append(from_row[1:], len(places.of))
    first, end, from_row, to_row, whole = first[several], end[several], from_row[several], to_row[several], whole[several]
    order = np.full(len(begins), -1)
    at, pairs_at = (np.append(0, np.cumsum(each)) for each in (whole, whole**2))
    gap_ns = np.full(int(pairs_at[-1]), -1)
    _order_tuples(
        from_row, to_row, first, end, places.copy, places.asked_at, places.answered_at, places.of, forward, identity, time_ns,
        int(whole.max(initial=1)), order, gap_ns, pairs_at,
    )  # fmt: skip
    return Passages(connection[first], places.node[first], at, order[order >= 0], pairs_at, gap_ns)


def _first_rows(places: Places) -> Array:
    """The first sighting of each place."""
    asked, answered = places.asked_at, places.answered_at
    return np.where(asked < 0, answered, np.where(answered < 0, asked, np.minimum(asked, answered)))
