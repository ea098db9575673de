"""Whether the last tuple seen is what the server's socket has, or was translated behind every observation point.

A node masquerades in its last step (POSTROUTING): what a pod sends out of the cluster, or to itself through a Service, has the pod's own
address until it leaves. In an answer that is undone before DNAT is: a bridge with br_netfilter shows answers between the two.
"""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import IN, OUT
from probes.schema import Array
from tracer import evidence
from tracer.pipeline import Reconstruction
from tracer.tuples import reverse_codes


def arrived(traced: Reconstruction, inside: Array, own: Array) -> tuple[Array, Array]:
    """`(whether nothing could translate it any more, whether the client's packets had it)`, of each connection's translated tuple.

    Nothing could where a packet of it left a node, or an answer to it came in as the server made it: where points are `inside` a pod, the
    other way round, and for answers only at a device of their `own`, no bridge. Of what a capture tells no direction, the same is taken
    to hold. Where a ledger told the tuple, nobody looks.
    """
    connections, rows = traced.connections, traced.sighting_rows
    final = (connections["evidence"] & evidence.CONNTRACK > 0) | (connections["translated"] < 0)
    asked = final.copy()
    at = np.flatnonzero(~final[traced.sighting_connections])
    if not len(at):
        return final, asked
    connection, forward, codes = traced.sighting_connections[at], traced.sighting_forward[at], traced.sighting_tuples[at]
    at = at[np.where(forward, codes, reverse_codes(traced.tuples)[codes]) == connections["translated"][connection]]
    connection, forward, point = traced.sighting_connections[at], traced.sighting_forward[at], traced.observations["point"][rows[at]]
    away = traced.observations["direction"][rows[at]] != np.where(forward == inside[point], OUT, IN)
    final[connection[away & (forward | own[point])]] = True
    asked[connection[forward]] = True
    return final, asked
