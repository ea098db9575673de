"""The entries that conntrack has at a moment: counted first, then asked for slice by slice, up to a number and a time.

The kernel makes the next slice (32 KiB at most, some hundred entries) only when the last one has been read, so a dump that is left alone
costs nothing, and closing its socket ends it (net/netlink/af_netlink.c, `netlink_dump`).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from probes.conntrack.messages import COOKED_BYTES
from probes.jit import kernel, wide
from probes.live.ledger.datagrams import Datagrams
from probes.schema import Array

_GET, _GET_STATS = 0x0101, 0x0105  # NFNL_SUBSYS_CTNETLINK's IPCTNL_MSG_CT_GET and _GET_STATS
_ERROR, _DONE = 2, 3  # NLMSG_*
_REQUEST, _DUMP = 0x1, 0x300  # NLM_F_*
_STATS_ENTRIES = 1  # CTA_STATS_GLOBAL_ENTRIES
_HEADERS_BYTES = 20  # nlmsghdr and nfgenmsg
_SLICE_BYTES = 1 << 16  # more than the kernel makes
_AT_A_TIME = 8


def _request(kind: int, flags: int) -> bytes:
    return struct.pack("=IHHIIBBH", _HEADERS_BYTES, kind, _REQUEST | flags, 0, 0, socket.AF_UNSPEC, 0, 0)


def count_entries(sock: socket.socket) -> int | None:
    """How many entries conntrack has in the namespace of `sock`; None: the kernel does not count. OSError where we may not ask."""
    sock.send(_request(_GET_STATS, 0))
    answer = sock.recv(4096)  # it is there: the kernel answers while it is asked
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind == _ERROR:
        number = -struct.unpack_from("=i", answer, 16)[0]
        if number in {errno.EPERM, errno.EACCES}:
            raise OSError(number, os.strerror(number))
        return None
    at = _HEADERS_BYTES
    while kind == _GET_STATS and at + 8 <= len(answer):
        length, attribute = struct.unpack_from("=HH", answer, at)
        if attribute & 0x3FFF == _STATS_ENTRIES:
            return int.from_bytes(answer[at + 4 : at + 8], "big")
        at += max(4, (length + 3) & ~3)
    return None


@kernel
def _tally(words: Array, offset: Array, captured: Array, count: int) -> tuple[int, bool, int]:
    entries = 0
    for row in range(count):
        at, stop = offset[row] + COOKED_BYTES, offset[row] + captured[row]
        while at + 16 <= stop:
            length, kind = wide(words[at >> 2]), wide(words[(at >> 2) + 1]) & 0xFFFF
            if kind in (_DONE, _ERROR):
                code = wide(words[(at >> 2) + 4]) if length >= 20 else 0
                return entries, True, (1 << 32) - code if code else 0
            entries += 1
            if length < 16:
                break
            at += (length + 3) & ~3
    return entries, False, 0


def tally(datagrams: Datagrams, count: int) -> tuple[int, bool, int]:
    """Of the first `count` datagrams of a dump: how many entries they have, whether it is over, the error number if it failed."""
    return _tally(datagrams.data.view("u4"), datagrams.offset, datagrams.captured, count)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a dump may become: it ends at the first slice that reaches one of these.

    `closing_seconds` is what is left of `seconds` once the recording ends: who ended it waits, and kills it after a while (a pod: 30 s).
    """

    entries: int = 262_144
    seconds: float = 30.0
    closing_seconds: float = 10.0


class Dump:
    """One dump over `sock`, which is closed at its end. Where `bounds` ended it before that, `cut` says which."""

    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self.expected = count_entries(sock)
        self.entries = 0
        self.over = False
        self.cut = ""
        self._bounds, self._seconds = bounds, bounds.seconds
        self._deadline = time.monotonic() + bounds.seconds
        self._datagrams = Datagrams(sock, _AT_A_TIME, _SLICE_BYTES)
        sock.send(_request(_GET, _DUMP))

    def slices(self, until: float) -> Iterator[tuple[Datagrams, int]]:
        """Entries as datagrams, some at a time, until `until` (time.monotonic()) or the end. OSError where the kernel gives up."""
        while not self.over:
            count = self._datagrams.receive()
            entries, ended, number = tally(self._datagrams, count)
            self.entries += entries
            now = time.monotonic()
            if not ended and self.entries >= self._bounds.entries:
                self.cut = f"at its limit of {self._bounds.entries} entries"
            elif not ended and now >= self._deadline:
                self.cut = f"at its limit of {self._seconds:g} s"
            if ended or self.cut:
                self.close()
            if count:
                yield self._datagrams, count
            if number:
                raise OSError(number, os.strerror(number))
            if not count or now >= until:
                return

    def hurry(self) -> None:
        """The recording ends: take no longer than that allows."""
        deadline = time.monotonic() + self._bounds.closing_seconds
        if deadline < self._deadline:
            self._seconds, self._deadline = self._bounds.closing_seconds, deadline

    def close(self) -> None:
        """Ask for no more."""
        self.over = True
        self._datagrams.sock.close()
