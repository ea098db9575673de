"""The short way from conntrack to the file: a socket filter that puts messages into a ring buffer, with the kernel's own time."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np

from probes.jit import kernel
from probes.live.bpf import Program
from probes.live.clock import Clock
from probes.live.ledger.datagrams import COOKED
from probes.live.pcapng import packet_blocks
from probes.live.rings import Ring, contents
from probes.schema import Array

SOURCE = Path(__file__).with_name("tap.c")
# `struct event` in tap.c, in front of the message.
EVENT = np.dtype([("time_ns", "u8"), ("bytes", "u4"), ("pad", "u4"), ("cooked", "u4", 4)])
_COOKED_AT = EVENT.itemsize - len(COOKED)
_SO_ATTACH_BPF = 50


@kernel
def _columns(words: Array, starts: Array, time_ns: Array, captured: Array) -> None:
    """From the `struct event` at each of `starts`: when, and how many bytes a frame has, with the header in front."""
    for row in range(len(starts)):
        at = starts[row] >> 2
        time_ns[row] = np.int64(words[at]) | np.int64(words[at + 1]) << 32
        captured[row] = words[at + 2] + 16


class Tap:
    """Takes what `sock` would hear. BpfError or OSError where the kernel does not let us."""

    def __init__(self, sock: socket.socket, ring_bytes: int) -> None:
        cooked = np.frombuffer(COOKED, "u4").tolist()
        self._program = Program(SOURCE, {"RING_BYTES": ring_bytes, "COOKED_0": cooked[0], "COOKED_3": cooked[3]})
        try:
            function = self._program.load("tap", "socket_filter")
            self._ring = Ring(self._program.map("events").map_fd, ring_bytes)
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, function)
        except BaseException:
            self._program.close()
            raise

    @property
    def has_some(self) -> bool:
        """Whether there is anything to take: where there is nothing, to look is all that a drain costs."""
        return not self._ring.empty

    def take(self, interface: int, clock: Clock) -> tuple[int, Array]:
        """`(how many, as blocks of a pcapng file)`: the messages that are there."""
        span = self._ring.peek()
        starts = contents(span)
        count = len(starts)
        time_ns, captured = np.empty(count, "i8"), np.empty(count, "u4")
        _columns(span.view("u4"), starts, time_ns, captured)
        numbers, undirected = np.full(count, interface, "u4"), np.zeros(count, "u1")
        blocks = packet_blocks(numbers, clock.wall_ns(time_ns), captured, undirected, starts + _COOKED_AT, captured, span)
        self._ring.release(len(span))
        return count, blocks

    def close(self) -> None:
        """Hear no more. The socket must be closed before."""
        self._program.close()
