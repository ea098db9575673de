"""Netlink sockets that are read in bulk: many datagrams a system call, straight to where they are written from.

A datagram lies in a slot of one array, behind the header that LINKTYPE_NETLINK puts in front. Python's own sockets do for that; what they
lack is recvmmsg(2). Structures are those of 64-bit Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from probes.conntrack.messages import COOKED_BYTES, NETLINK_NETFILTER
from probes.jit import kernel
from probes.live.namespaces import inside
from probes.live.pcapng import packet_blocks
from probes.live.refusals import BpfError, refusal
from probes.schema import Array

COOKED = struct.pack(">HH10xH", 0, 824, NETLINK_NETFILTER)  # to us, ARPHRD_NETLINK
_HEADER = np.dtype({  # struct mmsghdr
    "names": ["vector", "vectors", "flags", "size"], "formats": ["u8", "u8", "i4", "u4"], "offsets": [16, 24, 48, 56], "itemsize": 64,
})  # fmt: skip
_VECTOR = np.dtype([("base", "u8"), ("size", "u8")])  # struct iovec
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE, _SO_MEMINFO, _DROPS = 33, 55, 8
_SYMBOL = b" ctnetlink_"  # functions of nf_conntrack_netlink, module or not
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_TRUNC)  # sizes are those that datagrams had
_libc = ctypes.CDLL(None, use_errno=True)


def require_conntrack(root: Path = Path("/")) -> None:
    """BpfError where the kernel has no ctnetlink: asking a socket would load its modules, and conntrack with them."""
    has = (root / "sys/module/nf_conntrack_netlink").exists()
    if not has:  # it may be built in
        with suppress(OSError):
            has = _SYMBOL in (root / "proc/kallsyms").read_bytes()
    if not has:
        what = "this kernel has no connection tracking that can be listened to (nf_conntrack_netlink is not loaded)"
        raise BpfError(f"{what}: nothing here translates addresses, or run modprobe nf_conntrack_netlink")


def netlink_socket(buffer_bytes: int = 0, netns: Path | None = None) -> socket.socket:
    """A socket to netfilter in the namespace of `netns`; `require_conntrack` comes first. OSError where the namespace is gone."""
    with inside(netns):
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    made.setblocking(False)
    made.bind((0, 0))
    if buffer_bytes:
        with allowed():
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes // 2)  # the kernel doubles it (socket(7))
    return made


def hear(sock: socket.socket, groups: Iterable[int]) -> None:
    """Let `sock` hear these groups from now on. BpfError where that is not allowed."""
    with allowed():
        for group in groups:
            sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)


@contextmanager
def allowed() -> Iterator[None]:
    """Says what a process lacks that may not ask or hear conntrack."""
    try:
        yield
    except OSError as error:
        raise refusal("listening to conntrack", error.errno or 0, ["CAP_NET_ADMIN"]) from error


def lost(sock: socket.socket) -> int:
    """How many datagrams the kernel could not put into the socket's buffer since it was made (sk_drops)."""
    counts = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
    return int.from_bytes(counts[4 * _DROPS :], "little" if struct.pack("=H", 1)[0] else "big")


@kernel
def _columns(headers: Array, count: int, slot: int, first: int, offset: Array, captured: Array, wire: Array) -> None:
    """Where the first `count` datagrams lie, how long they are there, and how long they were; the latter two with the header in front."""
    for row in range(count):
        size = headers["size"][row]
        offset[row], wire[row] = row * slot, size + first
        captured[row] = min(size, slot - first) + first


class Datagrams:
    """The receiving end of `sock`: `slots` datagrams of up to `slot_bytes` at a time. Longer ones are cut, and say so in the file."""

    def __init__(self, sock: socket.socket, slots: int, slot_bytes: int) -> None:
        self.sock, self.slots, self._slot = sock, slots, slot_bytes
        self.data: Array = np.zeros(slots * slot_bytes, "u1")
        rows = self.data.reshape(slots, slot_bytes)
        rows[:, :COOKED_BYTES] = np.frombuffer(COOKED, "u1")
        self._vectors: Array = np.zeros(slots, _VECTOR)
        self._vectors["base"] = self.data.ctypes.data + COOKED_BYTES + np.arange(slots) * slot_bytes
        self._vectors["size"] = slot_bytes - COOKED_BYTES
        self._headers: Array = np.zeros(slots, _HEADER)
        self._headers["vector"] = self._vectors.ctypes.data + np.arange(slots) * _VECTOR.itemsize
        self._headers["vectors"] = 1
        self._place = ctypes.c_void_p(self._headers.ctypes.data)
        self.offset: Array = np.zeros(slots, "i8")
        self.captured: Array = np.zeros(slots, "u4")
        self._wire: Array = np.zeros(slots, "u4")
        self.errors = 0  # how often the kernel said ENOBUFS: something was lost, `lost` perhaps knows how much
        self._undirected: Array = np.zeros(slots, "u1")
        self._lay_out(0)  # what is compiled is there before anything comes

    def receive(self) -> int:
        """Take what waits; how many datagrams now lie in `data`. OSError where the socket is of no use any more."""
        while True:
            count: int = _libc.recvmmsg(self.sock.fileno(), self._place, self.slots, _FLAGS, None)
            number = ctypes.get_errno() if count < 0 else 0
            self.errors += number == errno.ENOBUFS
            if number not in (errno.ENOBUFS, errno.EINTR):
                break
        if number and number != errno.EAGAIN:
            raise OSError(number, os.strerror(number))
        if count <= 0:
            return 0
        self._lay_out(count)
        return count

    def _lay_out(self, count: int) -> None:
        _columns(self._headers, count, self._slot, COOKED_BYTES, self.offset, self.captured, self._wire)

    def blocks(self, count: int, interface: int, time_ns: int) -> Array:
        """The first `count` datagrams as pcapng blocks (u1) of one `interface` and time."""
        rows, numbers, times = slice(count), np.full(count, interface, "u4"), np.full(count, time_ns, "i8")
        return packet_blocks(numbers, times, self._wire[rows], self._undirected[rows], self.offset[rows], self.captured[rows], self.data)
