"""IP fragments: only a datagram's first fragment has ports; the others get them from it."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import MORE_FRAGMENTS, PORTS
from probes.jit import bare
from probes.schema import Array, Table


@bare
def _fragments(offsets: Array, known: Array, into: Array) -> int:
    """How many rows are fragments; the first of them are written to `into`."""
    count = 0
    for row in range(len(offsets)):
        if offsets[row] != 0 or known[row] & MORE_FRAGMENTS != 0:
            if count < len(into):
                into[count] = row
            count += 1
    return count


def tie_fragments(observations: Table) -> None:
    """Give later fragments the ports (and in IPv6 the protocol) of their datagram's first fragment, in place.

    A datagram is one (source, destination, protocol, identification) at one observation point (RFC 791, 3.2). In IPv6 only the first
    fragment tells the protocol, and it is no part of the key (RFC 8200, 4.5). Fragments whose first one was not captured stay without
    ports (`known` bit 1 unset).
    """
    offsets, known = observations["fragment_offset"], observations["known"]
    pieces = np.empty(_fragments(offsets, known, np.empty(0, "i8")), "i8")
    _fragments(offsets, known, pieces)
    if not len(pieces):
        return
    names = ("point", "src_hi", "src_lo", "dst_hi", "dst_lo", "ip_id", "proto")
    keys = np.stack([observations[name][pieces].astype("u8") for name in names], axis=1)
    ipv4 = (observations["src_hi"][pieces] == 0) & (observations["src_lo"][pieces] >> np.uint64(32) == 0xFFFF)
    keys[~ipv4, -1] = 0
    _, group = np.unique(keys, axis=0, return_inverse=True)
    offset = observations["fragment_offset"][pieces]
    order = np.lexsort((offset, group))
    pieces, group, offset = pieces[order], group[order], offset[order]
    first = np.searchsorted(group, group)  # the lowest offset of each group
    head = pieces[first]
    tied = (offset[first] == 0) & (offset > 0) & (observations["known"][head] & PORTS > 0)
    for name in ("sport", "dport", "proto"):
        observations[name][pieces[tied]] = observations[name][head[tied]]
    observations["known"][pieces[tied]] |= PORTS
