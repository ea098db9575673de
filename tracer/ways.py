"""The ways of connections: which translations each met, in which order. What is alike in all that this follows from is told once.

Most connections are alike in everything but addresses, ports and times. Each has numbers of its own for its tuples: the place, among its
`Slots`, of the first that is equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.schema import Array, Table
from tracer import evidence
from tracer.arrangement import arrangement
from tracer.chains import Translation, translations_seen
from tracer.ledger_lookup import Held, completed
from tracer.numbering import distinct
from tracer.passages import Passages
from tracer.places import Places, first_equal
from tracer.sockets import with_rewrite
from tracer.tuples import mix


@dataclass(frozen=True, slots=True)
class Way:
    """That of one connection: tuples are places among its slots, nodes are places of it that are there, -1 where not known.

    `steps` are (node, tuple before, tuple after, evidence); `visited` has the number of each place's visit, from 0.
    """

    original: int
    translated: int
    evidence: int
    first_node: int
    first_seen: int
    origin: int
    steps: tuple[tuple[int, int, int, int], ...]
    problems: tuple[str, ...]
    visited: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slots:
    """All tuples that connections have to do with: connection c's are `code[bounds[c]:bounds[c + 1]]`.

    First those of its places, then what ledgers say that they had been, then into what they were turned, and what a socket asked for (-1
    where there is none of these). `same` is the place of the first equal one among them, -1 where there is none.
    """

    bounds: Array
    code: Array
    same: Array


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that ways follow from: places with their node's rank on the path, packets' passages, ledgers; what packets' `bits` tell.

    `rewrites` go by connection: what clients' sockets tell.
    """

    places: Places
    rank: Array
    passages: Passages
    held: Held
    bits: Array
    rewrites: dict[int, Translation]


def slots(known: Evidence) -> Slots:
    """The `Slots` of all connections."""
    places, connection = known.places, known.places.connection
    count = np.diff(places.bounds)
    bounds = 3 * places.bounds + np.arange(len(places.bounds))
    code = np.full(int(bounds[-1]), -1)
    at = bounds[connection] + np.arange(len(connection)) - places.bounds[connection]
    for number, column in enumerate((places.code, known.held.out_of, known.held.into)):
        code[at + number * count[connection]] = column
    for which, rewrite in known.rewrites.items():
        code[bounds[which + 1] - 1] = rewrite.before
    same = np.empty(len(code), "i8")
    first_equal(bounds, code, same)
    return Slots(bounds, code, np.where(code < 0, -1, same))


def alike(known: Evidence, tuples: Table, of: Slots) -> Array:
    """A hash (uint64) of each connection, equal for those whose ways are."""
    places, held, passed = known.places, known.held, known.passages
    connection, begin = places.connection, places.bounds[:-1]
    within = np.arange(len(connection)) - places.bounds[connection]
    count = np.diff(places.bounds)[connection]
    ends = []
    for side in ("src", "dst"):
        whole, first = mix(*(tuples[name][places.code] for name in (f"{side}_hi", f"{side}_lo", f"{side[0]}port"))), np.empty_like(within)
        first_equal(places.bounds, whole, first)
        ends.append(first)
    turn = np.full(len(connection), -1)  # in the passage of its node
    turn[passed.place_of] = np.arange(len(passed.place_of)) - np.repeat(passed.at[:-1], np.diff(passed.at))
    numbers = [of.same[of.bounds[connection] + within + number * count] for number in range(3)]
    whether = places.copy + 2 * held.kept + 4 * ((places.asked_at >= 0) & (places.answered_at >= 0))
    numbers.append(np.where(held.halfway < 0, -1, within[held.halfway]))
    hashes = np.add.reduceat(mix(within, known.rank, *numbers, *ends, turn, whether), begin) if len(begin) else np.empty(0, "u8")
    np.add.at(hashes, connection[held.places], mix(*(within[each] for each in (held.places, held.became)), np.ones_like(held.places)))
    one, other, faster = _faster(known)
    np.add.at(hashes, connection[one], mix(within[one], within[other], faster, np.full_like(one, 2)))
    for which, rewrite in known.rewrites.items():
        here = slice(places.bounds[which], places.bounds[which + 1])
        at = np.flatnonzero((places.node[here] == rewrite.node) & (places.code[here] == rewrite.after))
        asked = of.same[of.bounds[which + 1] - 1 :][:1]
        hashes[which : which + 1] += mix(at[:1], asked, np.array([rewrite.evidence]), np.array([3]))
    return mix(hashes, known.bits)


def _faster(known: Evidence) -> tuple[Array, Array, Array]:
    """Two places of each passage, one behind the other, whose gap is known; and how many nodes had a shorter one of the same tuples."""
    passed, places = known.passages, known.places
    count = np.diff(passed.at)
    passage = np.repeat(np.arange(len(count)), count**2)
    pair = np.arange(len(passage)) - passed.pairs_at[passage]
    one, other = pair // count[passage], pair % count[passage]
    told = np.flatnonzero((one < other) & (passed.gap_ns >= 0))
    one, other = (passed.place_of[passed.at[passage[told]] + each[told]] for each in (one, other))
    connection = passed.connection[passage[told]]
    codes = mix(connection, places.code[one], places.code[other])
    order = np.lexsort((passed.gap_ns[told], codes))
    alone = np.diff(codes[order], prepend=codes[order][:1] + np.uint64(1)) != 0
    longer = np.diff(passed.gap_ns[told][order], prepend=-1) != 0
    dense = np.cumsum(alone | longer)
    rank = np.empty(len(order), "i8")
    rank[order] = dense - dense[np.maximum.accumulate(np.where(alone, np.arange(len(alone)), 0))]
    return one, other, rank


def way(known: Evidence, connection: int, tuples: Table, of: Slots) -> Way:
    """That of one connection."""
    places = known.places
    first, end = places.bounds[connection : connection + 2].tolist()
    columns = [column[first:end] for column in (places.node, places.code, ~places.copy, known.rank)]
    node, code, whole, rank = (column.tolist() for column in columns)
    seen = list(zip(node, code, strict=True))
    told = int(known.bits[connection])
    ends = dict(zip(code, zip(*(_ends(tuples, side, code) for side in ("src", "dst")), strict=True), strict=True))
    steps = translations_seen(known.passages.of(connection, places), ends, told)
    ledgers = known.held.told(first, end, places.code)
    there = [at for at in range(len(seen)) if whole[at]]
    steps, origin = completed(steps, [seen[at] for at in there], [ledgers[at] for at in there])
    confirmed = any(each.kept for each in ledgers) or any(step.evidence & evidence.CONNTRACK for step in steps)
    if connection in known.rewrites:
        steps = with_rewrite(steps, known.rewrites[connection])
    bits = told | (evidence.CONNTRACK if confirmed else 0)
    for step in steps:
        bits |= step.evidence
    ranks = dict(zip(node, rank, strict=True))
    codes = list(dict.fromkeys([*code, *(each for step in steps for each in (step.before, step.after))]))
    number = {each: position for position, each in enumerate(codes)}
    found = arrangement(
        tuple(zip(rank, map(number.__getitem__, code), whole, strict=True)),
        tuple([(ranks[step.node], number[step.before], number[step.after]) for step in steps]),
    )
    here = of.code[of.bounds[connection] : of.bounds[connection + 1]].tolist()
    slot = [*map(here.index, codes), -1]  # the last for what cannot be told
    return Way(
        slot[found.original], slot[found.translated], bits, rank.index(found.first_node), slot[found.first_seen],
        -1 if origin < 0 else node.index(origin),
        tuple([
            (node.index(step.node), slot[number[step.before]], slot[number[step.after]], step.evidence)
            for step in map(steps.__getitem__, found.steps)
        ]),
        found.problems, found.visited,
    )  # fmt: skip


def _ends(tuples: Table, side: str, code: Sequence[int]) -> list[tuple[int, ...]]:
    """The source or destination of tuples, as (address, port)."""
    return list(zip(*(tuples[name][code].tolist() for name in (f"{side}_hi", f"{side}_lo", f"{side[0]}port")), strict=True))


def ways(known: Evidence, tuples: Table, of: Slots) -> tuple[list[Way], Array]:
    """`(ways, the number (int64) of each connection's way)`."""
    _, first, number = distinct(alike(known, tuples, of))
    return [way(known, connection, tuples, of) for connection in first.tolist()], number
