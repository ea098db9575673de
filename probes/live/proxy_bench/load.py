"""Fresh connections through a road, one after the other, and a server that only has to be there.

Client and server are this one thread: a connection's handshake is done by the kernel before connect() returns, and nobody has to be woken.
The server's sockets are taken and closed between bursts.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence

import numpy as np

from probes.live.namespaces import inside
from probes.live.proxy_bench.road import BACKLOG, Road
from probes.schema import Array

BURST = 500  # connections before the server's side is cleaned up, and the rings are read
PATIENCE_S = 2
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, so that nothing of a connection stays
_PATIENCE = struct.pack("ll", PATIENCE_S, 0)


class Load:
    """The client and the server of a road; `ports` are the endpoints'. `between` is done before each connection, and tells its ns."""

    def __init__(self, road: Road, ports: Sequence[int], between: Callable[[], float]) -> None:
        self._road, self._between = road, between
        with inside(road.netns("server")):
            self._servers = [socket.create_server(("0.0.0.0", port), backlog=BACKLOG) for port in dict.fromkeys(ports)]  # noqa: S104
        for server in self._servers:
            server.setblocking(False)

    def connect(self, targets: Sequence[tuple[str, int]], packets: int) -> tuple[Array, Array]:
        """Open a connection to each of `targets`, send `packets` data packets in each, end it.

        Nanoseconds of each (i8), -1 if it failed; and of what was done before it (f8).

        At most BURST at a time, so that neither the server's queue nor the rings run over.
        """
        spent: Array = np.full(len(targets), -1, "i8")
        before: Array = np.empty(len(targets))
        with inside(self._road.netns("client")):
            for number, target in enumerate(targets):
                before[number] = self._between()
                begun_ns = time.perf_counter_ns()
                with socket.socket() as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
                    try:
                        client.connect(target)
                        for _ in range(packets):
                            client.send(b".")
                    except OSError:  # refused, reset or without an answer: it will be missing among what was seen
                        continue
                spent[number] = time.perf_counter_ns() - begun_ns
        self._drain()
        return spent, before

    def _drain(self) -> None:
        """Take and close what waits at the server."""
        for server in self._servers:
            while True:
                try:
                    taken, _ = server.accept()
                except OSError:
                    break
                taken.close()

    def close(self) -> None:
        """Serve no more."""
        for server in self._servers:
            server.close()
