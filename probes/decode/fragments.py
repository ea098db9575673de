"""IP fragments: only a datagram's first fragment has ports; the others get them from it."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import MORE_FRAGMENTS, PORTS
from probes.jit import bare
from probes.schema import Array, Table

# Rows between a fragment and its datagram's first one, at most. Fragments leave together; an identification comes again after 65,536
# datagrams, which are twice as many fragments.
NEAR = 1 << 16
_TIED = ("sport", "dport", "proto")
_KEY = ("point", "src_hi", "src_lo", "dst_hi", "dst_lo", "ip_id")
_NAMES = (*_KEY, *_TIED, "fragment_offset", "known")


@bare
def find_fragments(offsets: Array, known: Array, into: Array) -> int:
    """How many rows are fragments, of the columns `fragment_offset` and `known`; their numbers are written to `into`, as long as they."""
    count = 0
    for row in range(len(offsets)):
        if offsets[row] != 0 or known[row] & MORE_FRAGMENTS != 0:
            into[count] = row
            count += 1
    return count


def _groups(pieces: Table) -> Array:
    """A number for each piece, the same for those of one datagram (and of later ones with its identification)."""
    ipv4 = (pieces["src_hi"] == 0) & (pieces["src_lo"] >> np.uint64(32) == 0xFFFF)
    keys = [pieces[name].astype("u8") for name in _KEY]
    _, group = np.unique(np.stack([*keys, np.where(ipv4, pieces["proto"], 0).astype("u8")], axis=1), axis=0, return_inverse=True)
    return group


class FragmentTies:
    """Gives later fragments the ports (and in IPv6 the protocol) of their datagram's first fragment, table after table of one file.

    A datagram is one (source, destination, protocol, identification) at one observation point (RFC 791, 3.2). In IPv6 only the first
    fragment tells the protocol, and it is no part of the key (RFC 8200, 4.5). It is the last first fragment before, else the next one
    behind, that is NEAR. Fragments whose first one was not captured stay without ports (`known` bit 1 unset).
    """

    def __init__(self) -> None:
        self._firsts: Table = {}  # those in the tables before, as far as they are near; `row` counts through all tables

    def tie(self, observations: Table, rows: Array, first_row: int) -> int:
        """Tie the fragments of `observations`, in place: `rows` (ascending) are their rows, `first_row` is the number of the table's first.

        Returns how many rows, of whole frames, are done. Those behind wait for more of the file, and are to be first in the next table.
        """
        end = len(observations["known"])
        if not len(rows):
            return end
        own: Table = {name: observations[name][rows] for name in _NAMES} | {"row": rows + first_row}
        before = len(self._firsts["row"]) if self._firsts else 0
        pieces = {name: np.concatenate([self._firsts[name], each]) for name, each in own.items()} if before else own
        group, row = _groups(pieces), pieces["row"]
        order = np.lexsort((row, group))
        is_first = (pieces["fragment_offset"][order] == 0) & (pieces["known"][order] & PORTS > 0)
        place = np.arange(len(order))
        behind = np.minimum.accumulate(np.where(is_first, place, len(order) - 1)[::-1])[::-1]
        ahead = np.maximum.accumulate(np.where(is_first, place, 0))
        head = np.full(len(order), -1)
        for candidate in (behind, ahead):
            near = is_first[candidate] & (group[order[candidate]] == group[order]) & (np.abs(row[order[candidate]] - row[order]) <= NEAR)
            head[order[near]] = order[candidate[near]]
        later = (pieces["fragment_offset"] > 0) & (np.arange(len(head)) >= before)
        tied = np.flatnonzero(later & (head >= 0))
        to = rows[tied - before]
        for name in _TIED:
            observations[name][to] = pieces[name][head[tied]]
        observations["known"][to] |= PORTS
        alone = rows[np.flatnonzero(later & (head < 0)) - before]
        waiting = alone[alone >= end - NEAR]
        done = int(waiting[0]) if len(waiting) else end
        while 0 < done < end and observations["outer"][done] >= 0:
            done -= 1
        still_near = (pieces["fragment_offset"] == 0) & (row >= first_row + done - NEAR) & (row < first_row + done)
        self._firsts = {name: each[still_near] for name, each in pieces.items()}
        return done
