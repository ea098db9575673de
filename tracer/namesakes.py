"""Which connections are called alike: all that their names follow from is the same, but for the ports that clients picked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.schema import Array
from tracer.cluster import Timeline
from tracer.numbering import numbered
from tracer.pipeline import Reconstruction
from tracer.tuples import mix

CODES = ("original", "translated", "first_seen")  # tuples that names are made of
_ENDS = ("src_hi", "src_lo", "dst_hi", "dst_lo", "dport")
_FACTS = ("proto", "evidence", "status", "origin_node", "first_node")
_MEMBER_BITS = 24


class Members:
    """Sets of small numbers, -1 and more, one of each `owner`: row i of both arrays says that `member[i]` is in the set of `owner[i]`."""

    def __init__(self, owner: Array, member: Array) -> None:
        pairs = owner.astype("i8") << _MEMBER_BITS | member.astype("i8") + 1
        pairs = np.sort(pairs[numbered(pairs.view("u8"))[0]])
        self._owners, self._members = pairs >> _MEMBER_BITS, (pairs & (1 << _MEMBER_BITS) - 1) - 1

    def of(self, owner: int) -> list[int]:
        """The set of `owner`, in order."""
        first, end = np.searchsorted(self._owners, [owner, owner + 1]).tolist()
        found: list[int] = self._members[first:end].tolist()
        return found

    def hashes(self, owners: int) -> Array:
        """A hash (uint64) of the set of each owner from 0 up to `owners`."""
        found = np.zeros(owners, "u8")
        np.bitwise_xor.at(found, self._owners, mix(self._members))
        return found


def namesakes(traced: Reconstruction, timeline: Timeline, of_first: Array, beside: Sequence[Array], alone: Array) -> Array:
    """A number for each connection; those that have the same one are called alike. Of those that are `alone`, each has one of its own.

    `of_first` is a hash of what else is known of each tuple where it was the first one seen, `beside` what else of each connection.
    """
    connections, tuples = traced.connections, traced.tuples
    if not len(alone):
        return np.empty(0, "i8")
    start_ns, answer_ns = connections["start_ns"], connections["answer_ns"]
    columns = [*beside, *(connections[name] for name in _FACTS)]
    columns += [timeline.state(times) for times in (start_ns, np.where(answer_ns < 0, start_ns, answer_ns))]
    codes = {name: connections[name] for name in CODES}
    columns += [codes[one] == codes[other] for one, other in zip(CODES, (*CODES[1:], CODES[0]), strict=True)]
    declared = timeline.declared_ports
    for code in codes.values():
        sport = tuples["sport"][code]
        columns += [code >= 0, *(tuples[name][code] for name in _ENDS), np.where(declared[sport], sport, 0)]
    columns.append(of_first[codes["first_seen"]])
    kind = mix(*columns)
    kind[alone] = mix(np.flatnonzero(alone), np.ones(int(alone.sum()), "u8"))
    return numbered(kind)[1]
