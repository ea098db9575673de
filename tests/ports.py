"""Ports of the loopback address for servers that are told theirs."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import suppress


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nothing else takes before a server of this test does: of each test worker's own, below those that the kernel gives."""
    while True:
        port = next(_ports)
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _own_ports() -> Iterator[int]:
    """Each once, then from the beginning; net.ipv4.ip_local_port_range begins at 32,768."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return itertools.cycle(range(20_000 + 1000 * worker, 21_000 + 1000 * worker))


_ports = _own_ports()
