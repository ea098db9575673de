"""IP fragments: only a datagram's first fragment has ports; the others get them from it."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import MORE_FRAGMENTS, PORTS
from probes.schema import Table


def tie_fragments(observations: Table) -> None:
    """Give later fragments the ports of their datagram's first fragment, in place.

    A datagram is one (source, destination, protocol, identification) at one observation point (RFC 791, 3.2; RFC 8200, 4.5). Fragments
    whose first one was not captured stay without ports (`known` bit 1 unset).
    """
    pieces = np.flatnonzero((observations["fragment_offset"] > 0) | (observations["known"] & MORE_FRAGMENTS > 0))
    if not len(pieces):
        return
    names = ("point", "src_hi", "src_lo", "dst_hi", "dst_lo", "proto", "ip_id")
    keys = np.stack([observations[name][pieces].astype("u8") for name in names], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    order = np.lexsort((observations["fragment_offset"][pieces], group))
    pieces, group = pieces[order], group[order]
    first = np.searchsorted(group, group)  # the lowest offset of each group
    head = pieces[first]
    tied = (observations["fragment_offset"][head] == 0) & (observations["fragment_offset"][pieces] > 0) & (observations["known"][head] & PORTS > 0)
    for name in ("sport", "dport"):
        observations[name][pieces[tied]] = observations[name][head[tied]]
    observations["known"][pieces[tied]] |= PORTS
