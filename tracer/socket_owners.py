"""Who the ends of connections are by their sockets: the container, a pod on its node's network, a process.

An address says less: a node's is shared by all that runs there without a network of its own, a pod's by all its containers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracer import evidence
from tracer.cluster import Owner, Timeline
from tracer.names import Named
from tracer.pipeline import Reconstruction
from tracer.sockets import SocketTable

UNNAMED = Owner(None)


def own(traced: Reconstruction, named: Sequence[Named], timeline: Timeline) -> None:
    """Put what sockets tell of both ends into `named` (an entry per connection), where it does not contradict their addresses."""
    ends = zip(named, traced.client_socket.tolist(), traced.server_socket.tolist(), strict=True)
    for each, client, server in ends:
        if client >= 0 and each.source >= 0:
            told = _owner(each.client, timeline, *said_of(traced.sockets, client))
            each.evidence |= evidence.SOCKET if told != each.client else 0
            each.client = told
        if server >= 0 and each.translated >= 0:
            told = _owner(each.server, timeline, *said_of(traced.sockets, server))
            each.evidence |= evidence.SOCKET if told != each.server else 0
            each.server = told


def said_of(sockets: SocketTable, row: int) -> tuple[str | None, str | None]:
    """Cgroup and command of a socket; of an accepted one the command that listens, and its cgroup where v2 has no other than the root's."""
    owner = sockets.owners[int(sockets.table["owner"][row])]
    if owner.command is not None:
        return owner.cgroup, owner.command
    netns = int(sockets.table["netns"][row])
    place = int(sockets.node[row]), int(sockets.table["local_port"][row]), netns or owner.cgroup
    listening = {sockets.owners[each] for each in sockets.listening.get(place, ())}
    if len(listening) != 1:
        return owner.cgroup, None
    (listener,) = listening
    return listener.cgroup if netns and owner.cgroup in (None, "/") else owner.cgroup, listener.command


def _owner(by_address: Owner | None, timeline: Timeline, cgroup: str | None, command: str | None) -> Owner | None:
    by_socket = timeline.pod_of_cgroup(cgroup) if cgroup is not None else None
    if by_socket is None:
        return by_address if command is None else replace(by_address or UNNAMED, process=command)
    if not _agree(by_address, by_socket):
        return by_address
    if by_address is not None and by_address.container == by_socket.container:
        by_socket = replace(by_socket, container_port_name=by_address.container_port_name)
    return replace(by_socket, process=command)


def _agree(by_address: Owner | None, by_socket: Owner) -> bool:
    """Whether the pod of a socket may have the address: else one of both is older than the other."""
    if by_address is None or by_address.kind == "external" or (by_address.kind, by_address.uid) == ("pod", by_socket.uid):
        return True  # no socket of a node is outside the cluster: its address is loopback's, or a device's that nobody told of
    return by_socket.host_network and (by_address.kind == "node" or by_address.host_network) and by_address.node in (None, by_socket.node)
