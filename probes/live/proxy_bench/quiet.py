"""As little as possible between one packet and the next: a processor of our own while a burst lasts, and an empty conntrack table."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from probes.live.namespaces import inside
from probes.live.proxy_bench.road import Road

# include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h: IPCTNL_MSG_CT_DELETE without a tuple deletes all entries.
_NETFILTER, _DELETE_ENTRIES, _REQUEST_ACK, _HEADERS_BYTES = 12, 1 << 8 | 2, 5, 20


@contextmanager
def undisturbed() -> Iterator[None]:
    """This thread on one processor, before all ordinary processes there where we may (CAP_SYS_NICE); as it was before, afterwards.

    What else runs there would take the caches with it between two packets. Bursts are short: others wait for some 0.1 s.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
            os.sched_setscheduler(0, policy, priority)
        os.sched_setaffinity(0, allowed)


class Forgetting:
    """Deletes a node's conntrack entries: else each burst would find as many as those before it left."""

    def __init__(self, road: Road) -> None:
        with inside(road.netns("node")):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)

    def forget(self) -> None:
        """Delete them all; where conntrack is not loaded there are none."""
        self._socket.send(struct.pack("=IHHIIBBH", _HEADERS_BYTES, _DELETE_ENTRIES, _REQUEST_ACK, 0, 0, socket.AF_UNSPEC, 0, 0))
        self._socket.recv(4096)  # the answer, whichever it is

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()
