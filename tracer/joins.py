"""The rules that join legs, as an ordered table: each takes what is known so far and returns pairs of legs that are one connection.

A rule gives `(one, other, opposed)` for `Components.join`. Precision before recall: what a rule cannot tell stays apart, and so do legs
with different initial sequence numbers, whatever a rule says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from probes.decode.numbers import IN
from probes.schema import Array, Table
from tracer.components import Components
from tracer.numbering import distinct
from tracer.pairing import paired
from tracer.tuples import mix

NAT_NS = 1_000_000_000  # a node rewrites a packet within this time, or does not have it any more
BRIDGED_NS = 1_000_000  # a packet that came in at a bridge's port comes in at the bridge, translated by br_netfilter, within this time
OVERLAP_NS = 50_000_000  # two points of one node may see the ends of a connection this much apart

Pairs = tuple[Array, Array, Array]
NO_PAIRS: Pairs = (np.empty(0, "i8"), np.empty(0, "i8"), np.empty(0, "i8"))


@dataclass(slots=True)
class Joining:
    """What the rules look at. `leg` has the leg of each sighting."""

    sightings: Table
    tuples: Table
    legs: Table
    leg: Array
    entries: Table
    components: Components


def _pairs(joining: Joining, left: Array, right: Array) -> Pairs:
    """Sightings `left` and `right` are of one packet, pairwise: their legs, and whether the flows run against each other."""
    backward, leg = joining.sightings["backward"], joining.leg
    others = leg[left] != leg[right]
    left, right = left[others], right[others]
    return leg[left], leg[right], backward[left] ^ backward[right]


def _following(keys: Array) -> tuple[Array, Array]:
    """The rows of `keys` (hashes) that follow another with an equal one: that row, and they."""
    left, right = paired((keys, np.arange(len(keys), dtype="u8")))
    return left.view("i8"), right.view("i8")


def same_segment(joining: Joining) -> Pairs:
    """Sightings of one TCP segment (or SCTP packet) anywhere: sequence, acknowledgment and timestamps agree."""
    rows = np.flatnonzero(joining.sightings["strong"])
    left, right = _following(joining.sightings["identity"][rows])
    return _pairs(joining, rows[left], rows[right])


def same_datagram(joining: Joining) -> Pairs:
    """Sightings of one packet with weaker marks, on one node within NAT_NS: payload, length and IP ID agree.

    Beyond that they must share the source or the destination (DNAT keeps the one, SNAT the other) or be the only two flows of the node that
    carried such a packet. Where two packets can be told apart by how they came, they are not one. Next to each other in time are also
    packets of others where many are equal: the only two flows of an end that carried such a packet are looked at by themselves.
    """
    sightings, tuples = joining.sightings, joining.tuples
    weak = np.flatnonzero((sightings["strong"] == 0) & (sightings["identity"] != 0))
    weak = weak[np.argsort(sightings["time_ns"][weak], kind="stable")]
    place = mix(sightings["identity"][weak], sightings["node"][weak])
    lonely = _flows(place, sightings["flow"][weak]) <= 2
    found = [_neighbours(joining, weak, place, lonely)]
    for side in ENDS:
        end = mix(place, *(tuples[name][sightings["tuple"][weak]] for name in side))
        two = _flows(end, sightings["flow"][weak]) == 2
        found.append(_neighbours(joining, weak[two], end[two], lonely[two]))
    left, right = (np.concatenate(each) for each in zip(*found, strict=True))
    return _pairs(joining, left, right)


ENDS = (("src_hi", "src_lo", "sport"), ("dst_hi", "dst_lo", "dport"))


def _flows(place: Array, flow: Array) -> Array:
    """How many flows there are at the place of each row."""
    _, _, number = distinct(place)
    _, carriers, _ = distinct(mix(place, flow))
    return np.asarray(np.bincount(number[carriers])[number]) if len(place) else number


def _neighbours(joining: Joining, rows: Array, place: Array, lonely: Array) -> tuple[Array, Array]:
    """The `rows`, in order of time, that follow one another at one `place` and are one packet.

    `lonely`: no more than two flows of the node carried it.
    """
    sightings, tuples = joining.sightings, joining.tuples
    before, after = _following(place)
    left, right, lonely = rows[before], rows[after], lonely[before]
    numbered = sightings["numbered"][left] & sightings["numbered"][right] > 0
    one, other = sightings["tuple"][left], sightings["tuple"][right]
    same = {name: tuples[name][one] == tuples[name][other] for side in ENDS for name in side}
    src, dst = (same[f"{side}_hi"] & same[f"{side}_lo"] for side in ("src", "dst"))
    # Two sockets of one host that the same one answers are no translation; only an IP ID could say otherwise.
    sockets = ~numbered & src & dst
    src, dst = src & same["sport"], dst & same["dport"]
    shares = (src & dst) | ((src | dst) & ~sockets) | lonely
    near = sightings["time_ns"][right] - sightings["time_ns"][left] < NAT_NS
    entrance = _entrances(joining, rows)
    keep = near & shares & (numbered | ~_two_packets(sightings, entrance[before], entrance[after], lonely))
    return left[keep], right[keep]


def _entrances(joining: Joining, rows: Array) -> Array:
    """For each of `rows`, in order of time, the first sighting on its node of such a packet under the same tuple."""
    sightings = joining.sightings
    _, first, number = distinct(mix(sightings["identity"][rows], sightings["node"][rows], sightings["tuple"][rows]))
    return np.asarray(rows[first[number]])


def _two_packets(sightings: Table, one: Array, other: Array, lonely: Array) -> Array:
    """Whether packets that are alike and came into the node as sightings `one` and `other` are two, where no IP ID tells. IPv6 has none.

    Many clients may get equal answers. NAT changes a packet between two places: what first passes the same place the same way under two
    tuples was not rewritten, and what comes into a node at two moments came twice.
    """
    same_place = sightings["entrance"][one] == sightings["entrance"][other]
    same_place &= (sightings["direction"][one] > 0) | ~lonely  # in and out look alike to `-i eth0`
    both_arrive = (sightings["direction"][one] == IN) & (sightings["direction"][other] == IN)
    came_twice = both_arrive & (np.abs(sightings["time_ns"][one] - sightings["time_ns"][other]) > BRIDGED_NS)
    return np.asarray(same_place | came_twice)


def same_handshake(joining: Joining) -> Pairs:
    """Legs of one flow that saw the same initial sequence number, on any node."""
    legs = joining.legs
    rows = np.flatnonzero(legs["isn"] >= 0)
    rows = rows[np.lexsort((legs["isn"][rows], legs["flow"][rows]))]
    left, right = rows[:-1], rows[1:]
    same = (legs["flow"][left] == legs["flow"][right]) & (legs["isn"][left] == legs["isn"][right])
    return left[same], right[same], np.zeros(int(same.sum()), "i8")


def same_tuple(joining: Joining) -> Pairs:
    """Legs of one flow that no packet joined: on one node those that overlap in time, across nodes where nothing could be confused."""
    legs, (roots, _) = joining.legs, joining.components.roots()
    flow = legs["flow"]
    highest, lowest = _extremes(roots, flow, int(flow.max(initial=-1)) + 1)
    again = np.zeros(len(highest), bool)  # flows that some point saw several times: legs are in the order of flows and points
    again[flow[1:][(np.diff(flow) == 0) & (np.diff(legs["point"]) == 0)]] = True
    order = np.lexsort((legs["start_ns"], flow))
    order = order[(highest != lowest)[flow[order]]]
    one, other = order[:-1], order[1:]  # where each point saw the flow once, clocks of several nodes need not be compared
    keep = (flow[one] == flow[other]) & ~again[flow[one]]
    pairs = [(one[keep], other[keep])]
    order = order[again[flow[order]]]
    for members in np.split(order, np.flatnonzero(np.diff(flow[order])) + 1):
        pairs += _overlapping(legs, members, roots)
    one, other = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return one, other, np.zeros(len(one), "i8")


def _overlapping(legs: Table, members: Array, roots: Array) -> list[tuple[Array, Array]]:
    """Pairs among one flow's legs (in order of start) that are one connection, by the leg that began later."""
    pairs, lasting = [], members[:0]
    for leg in members:
        lasting = lasting[legs["end_ns"][lasting] + OVERLAP_NS >= legs["start_ns"][leg]]
        keep = (legs["node"][lasting] == legs["node"][leg]) & (roots[lasting] != roots[leg])
        pairs.append((lasting[keep], np.full(int(keep.sum()), leg)))
        lasting = np.append(lasting, leg)
    return pairs


def conntrack(joining: Joining) -> Pairs:
    """Legs before and after a translation that a node's ledger holds, both on that node at that time, where nothing else could be meant."""
    legs, entries, tuples = joining.legs, joining.entries, joining.tuples
    translating = np.flatnonzero(entries["before"] != entries["after"])
    root, _ = joining.components.roots()
    translating = translating[_apart(joining, root, *(tuples["flow"][entries[name][translating]] for name in ("before", "after")))]
    if not len(translating):
        return NO_PAIRS
    roots = root.tolist()
    starts, ends = legs["start_ns"].tolist(), legs["end_ns"].tolist()
    by_place: dict[tuple[int, int], list[int]] = {}
    for leg, place in enumerate(zip(legs["node"].tolist(), legs["flow"].tolist(), strict=True)):
        by_place.setdefault(place, []).append(leg)

    def within(node: int, flow: int, first: int, last: int) -> list[int]:
        return [leg for leg in by_place.get((node, flow), ()) if starts[leg] <= last and (first < 0 or ends[leg] >= first - NAT_NS)]

    found: list[tuple[int, int, int]] = []
    before, after = entries["before"][translating], entries["after"][translating]
    columns = (
        entries["node"][translating], tuples["flow"][before], tuples["flow"][after], entries["first_ns"][translating],
        entries["last_ns"][translating], tuples["backward"][before] ^ tuples["backward"][after],
    )  # fmt: skip
    for node, flow, turned, first, last, opposed in zip(*(column.tolist() for column in columns), strict=True):
        ahead = within(node, flow, first, last)
        behind = within(node, turned, first, last) if ahead else []
        if len({roots[leg] for leg in ahead}) != 1 or len({roots[leg] for leg in behind}) != 1:
            continue
        left, right = ahead[0], behind[0]
        if roots[left] != roots[right]:
            found.append((left, right, opposed))
    lefts, rights, sides = np.array(found, "i8").reshape(-1, 3).T
    return lefts, rights, sides


def _apart(joining: Joining, roots: Array, one: Array, other: Array) -> Array:
    """Whether there are legs of flow `one[i]` and of `other[i]`, anywhere and at any time, that are not all one connection yet."""
    highest, lowest = _extremes(roots, joining.legs["flow"], int(joining.tuples["flow"].max(initial=-1)) + 1)
    there = (highest[one] >= 0) & (highest[other] >= 0)
    return np.asarray(there & (np.minimum(lowest[one], lowest[other]) != np.maximum(highest[one], highest[other])))


def _extremes(roots: Array, flow: Array, count: int) -> tuple[Array, Array]:
    """The highest and the lowest of the roots of each of `count` flows' legs; -1 and more than any where it has none."""
    highest, lowest = np.full(count, -1), np.full(count, len(roots))
    np.maximum.at(highest, flow, roots)
    np.minimum.at(lowest, flow, roots)
    return highest, lowest


RULES: tuple[Callable[[Joining], Pairs], ...] = (same_segment, same_handshake, same_datagram, same_tuple, conntrack)


def join_legs(joining: Joining) -> None:
    """Apply RULES in order."""
    for rule in RULES:
        joining.components.join(*rule(joining))
