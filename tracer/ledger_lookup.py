"""Asking the ledger about the tuples of connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from probes.schema import Array, Table, size
from tracer import evidence
from tracer.chains import Translation
from tracer.places import Places
from tracer.tuples import mix

# A NEW line is printed after its packet: 80 ms late and more under load. Before it only by what two clocks of one node may differ.
LATE_NS, EARLY_NS = 10_000_000_000, 200_000_000

Place = tuple[int, int]  # (node, tuple)
Found = dict[tuple[int, int, int], Translation]  # by (node, before, after)


class Told(NamedTuple):
    """What a node's ledger tells of a tuple of a connection.

    It `became` others that the connection has too; it came `out_of` one, and was turned `into` one, when the connection began (-1 where
    there is none, or none can be told), of which the node saw it `halfway` (-1 where it did not); it was `kept` as it is.
    """

    became: tuple[int, ...] = ()
    out_of: int = -1
    into: int = -1
    halfway: int = -1
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """`Told` of all places, as columns: `out_of`, `into`, `halfway` (a place, int64) and `kept` (bool) have an entry per place.

    `places` has a place for each tuple that it became, in order, and `became` a place of the same connection that has that tuple.
    """

    out_of: Array
    into: Array
    halfway: Array
    kept: Array
    places: Array
    became: Array

    def told(self, first: int, end: int, code: Array) -> list[Told]:
        """That of places `first` to `end`; `code` are the tuples of all."""
        became: list[list[int]] = [[] for _ in range(first, end)]
        begin, after = np.searchsorted(self.places, (first, end)).tolist()
        for place, other in zip(self.places[begin:after].tolist(), code[self.became[begin:after]].tolist(), strict=True):
            became[place - first].append(other)
        halfway = np.where(self.halfway[first:end] < 0, -1, code[self.halfway[first:end]])
        columns = (each.tolist() for each in (self.out_of[first:end], self.into[first:end], halfway, self.kept[first:end]))
        return [Told(tuple(others), *rest) for others, *rest in zip(became, *columns, strict=True)]


def held(entries: Table, seen: Places, tuples: Table, start_ns: Array, end_ns: Array) -> Held:
    """What `entries` have of places, but for half-translated copies; connections last from `start_ns` to `end_ns` (int64 ns of each)."""
    connection, nothing = seen.connection, np.full(len(seen.code), -1)
    if not size(entries):
        none = np.empty(0, "i8")
        return Held(nothing, nothing, nothing, np.zeros(len(nothing), bool), none, none)
    start_ns, end_ns = start_ns[connection], end_ns[connection]

    def lasting(side: str) -> tuple[Array, Array]:
        """Places and entries that have their tuple on this side and are there at some time of their connection."""
        place, entry = _matches(seen.node << 32 | seen.code, entries["node"].astype("i8") << 32 | entries[side])
        there = (entries["first_ns"][entry] <= end_ns[place] + LATE_NS) & (entries["last_ns"][entry] >= start_ns[place])
        there &= ~seen.copy[place]  # a beginning that is not known is negative
        return place[there], entry[there]

    def nearest(place: Array, entry: Array, side: str) -> Array:
        """The tuple on that side of the one entry of each place, or of the first of those that began when the connection did."""
        first_ns = entries["first_ns"][entry]
        began = (first_ns >= start_ns[place] - EARLY_NS) & (first_ns <= start_ns[place] + LATE_NS)
        order = np.lexsort((first_ns, ~began, place))
        place, entry, began = place[order], entry[order], began[order]
        first = np.flatnonzero(np.diff(place, prepend=-1))
        told = first[began[first] | (np.diff(first, append=len(place)) == 1)]
        found = nothing.copy()
        found[place[told]] = entries[side][entry[told]]
        return found

    place, entry = lasting("before")
    moved = entries["before"][entry] != entries["after"][entry]
    kept = np.zeros(len(nothing), bool)
    kept[place[~moved]] = True
    place, entry = place[moved], entry[moved]
    whole = np.flatnonzero(~seen.copy)
    pair, other = _matches(connection[place] << 32 | entries["after"][entry], connection[whole] << 32 | seen.code[whole])
    once = np.flatnonzero(np.diff(pair, prepend=-1))  # several nodes may have it
    back, before = lasting("after")
    back, before = (each[entries["before"][before] != entries["after"][before]] for each in (back, before))
    into = nearest(place, entry, "after")
    return Held(nearest(back, before, "before"), into, _halfway(seen, into, tuples), kept, place[pair[once]], whole[other[once]])


def _halfway(seen: Places, into: Array, tuples: Table) -> Array:
    """For each place the one (int64, -1 none) of its node that has its source and already the destination that it was turned `into`.

    That is what DNAT made of it: a bridge with br_netfilter shows it before SNAT.
    """
    found, place = np.full(len(into), -1), np.flatnonzero(into >= 0)
    if not len(place):
        return found
    here = mix(seen.connection, seen.node, _end(tuples, "src", seen.code))
    pair, other = _matches(mix(here[place], _end(tuples, "dst", into[place])), mix(here, _end(tuples, "dst", seen.code)))
    halves = (other != place[pair]) & (seen.code[other] != into[place[pair]])
    found[place[pair[halves]]] = other[halves]
    return found


def _end(tuples: Table, side: str, code: Array) -> Array:
    """A hash (uint64) of the source or destination of tuples: address and port."""
    return mix(*(tuples[name][code] for name in (f"{side}_hi", f"{side}_lo", f"{side[0]}port")))


def _matches(keys: Array, others: Array) -> tuple[Array, Array]:
    """`(row of keys, row of others)` of all that are equal, in the order of both."""
    order = np.argsort(others, kind="stable")
    there = others[order]
    first = np.searchsorted(there, keys)
    counts = np.searchsorted(there, keys, side="right") - first
    rows = np.repeat(np.arange(len(keys)), counts)
    return rows, order[np.arange(len(rows)) + np.repeat(first - np.cumsum(counts) + counts, counts)]


def completed(known: list[Translation], places: Sequence[Place], told: Sequence[Told]) -> tuple[list[Translation], int]:
    """Complete and confirm `known` (translations of a connection, from packets) by what ledgers `told` of its `places`.

    Returns the translations and the node whose own socket the client is (its tuple before NAT is never on a wire; -1 where not so). Where
    packets and ledger disagree on a node, the ledger's entry counts if both its tuples were seen, or the packets' is halfway to it.
    """
    codes = {code for _, code in places}
    found: Found = {
        (node, code, after): Translation(node, code, after, evidence.CONNTRACK)
        for (node, code), each in zip(places, told, strict=True)
        for after in each.became
    }
    settled = {node for node, _, _ in found}
    halves = {(node, code, each.halfway) for (node, code), each in zip(places, told, strict=True)}
    for translation in known:
        key = translation.node, translation.before, translation.after
        if key in found:
            found[key].evidence |= translation.evidence
        elif translation.node not in settled and key not in halves:
            found[key] = translation
    origin = _add_unseen(found, places, codes, told)
    return list(found.values()), origin


def _add_unseen(found: Found, places: Sequence[Place], codes: set[int], told: Sequence[Told]) -> int:
    """Add to `found` translations of which one tuple was never on a wire; returns the node whose own socket the client is, or -1."""
    origin = -1
    made = {(node, after) for node, _, after in found}
    for (node, code), each in zip(places, told, strict=True):
        if each.out_of >= 0 and (node, code) not in made and each.out_of not in codes:
            found[node, each.out_of, code] = Translation(node, each.out_of, code, evidence.CONNTRACK)
            origin = node
    known = {(node, code) for node, *both in found for code in both}
    for (node, code), each in zip(places, told, strict=True):
        if each.into >= 0 and (node, code) not in known:
            found[node, code, each.into] = Translation(node, code, each.into, evidence.CONNTRACK)
            known |= {(node, code), (node, each.into)}
    return origin
