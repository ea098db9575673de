"""conntrack as it happens: the kernel's own netlink messages, written down as they are; `probes.conntrack.read_netlink` decodes them later.

`Ledger` is the probe. `tap` lets a socket filter put messages into a ring, `datagrams` receives from netlink sockets in bulk, `dump` asks
for the entries that there are, a slice at a time.

Others that listen (conntrackd, kube-proxy) lose nothing by it: every listener has a queue of its own, and one that is full holds up nobody,
as NETLINK_BROADCAST_ERROR is not set here (net/netlink/af_netlink.c, `do_one_broadcast`).
"""

from __future__ import annotations

from probes.live.ledger.dump import Bounds
from probes.live.ledger.probe import Ledger, Listening

__all__ = ["Bounds", "Ledger", "Listening"]
