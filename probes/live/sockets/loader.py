"""The sockets probe: whose connections are, and what was asked for at connect(), one line of JSON each (docs/sockets.md)."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from probes.live.attach import attach_cgroup
from probes.live.bpf import KINDS, BpfError, Program
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.event_lines import EventLines, counted_by_processor
from probes.live.sockets.cgroups import Cgroups
from probes.live.sockets.order import attach_first, root_cgroup
from probes.schema import Array, Table
from probes.sockets import ENDS, SOCKETS, SocketOwner, Sockets, socket_lines

SOURCE = Path(__file__).with_name("sockets.c")
RING_BYTES = 1 << 22
SOCKET = np.dtype(
    [
        ("time_ns", "i8"), ("cookie", "u8"), ("netns", "u8"), ("cgroup", "u8"), ("local", ">u8", 2), ("remote", ">u8", 2),
        ("asked", ">u8", 2), ("wire_local", ">u8", 2), ("wire_remote", ">u8", 2), ("local_port", "u2"), ("remote_port", "u2"),
        ("asked_port", "u2"), ("wire_local_port", "u2"), ("wire_remote_port", "u2"), ("kind", "u1"), ("proto", "u1"), ("pad", "u4"),
        ("process", "u4"), ("thread", "u4"), ("command", "S16"),
    ]
)  # fmt: skip
"""struct socket of sockets.c."""
FUNCTIONS = {  # of sockets.c: their kind
    "opened": "sock_ops", "sent": "egress", "bound4": "post_bind4", "bound6": "post_bind6", "connect4": "connect4", "connect6": "connect6",
    "sendmsg4": "sendmsg4", "sendmsg6": "sendmsg6",
}  # fmt: skip
FIRST = ("connect4", "connect6", "sendmsg4", "sendmsg6")  # these are to run before others'
OF_SENDERS = ("sendmsg4", "sendmsg6")  # these are of use only where the packet's program can tell which thread sends
NO_SENDER = "this kernel does not tell programs of packets which thread sends (newer ones do), so that addresses of sendto() have no packet"
# What a kernel lets programs ask for, the most first: the first with which all of them load is taken.
ABILITIES: tuple[dict[str, int], ...] = (
    {"ASKER": 1, "SENDER": 1, "SOCK_OPS_NETNS": 1}, {"ASKER": 1, "SOCK_OPS_NETNS": 1}, {"SOCK_OPS_NETNS": 1}, {}
)  # fmt: skip


class SocketProbe(EventLines):
    """Writes a line for every connection's socket.

    `unavailable` says of each function that this kernel refuses why; `first`, of those that see what applications ask for, whether they run
    before other programs, which may rewrite it.
    """

    FORM = SOCKET

    def __init__(
        self, path: Path, clock: Clock, budget: Budget | None = None, *, cgroup_root: Path | None = None, ring_bytes: int = RING_BYTES
    ) -> None:
        """Attach to the root of cgroup v2, and write to `path`. BpfError or OSError where no socket can be seen, or nothing be written."""
        root = cgroup_root or root_cgroup()
        self._cgroups, self._clock = Cgroups(root), clock
        program, loaded, self.unavailable = _load(ring_bytes)
        self._links: list[int] = []
        self.first: dict[str, bool] = {}
        try:
            self._attach(loaded, root)
            super().__init__(program, "events", ring_bytes, path, budget)
        except BaseException:
            self._detach()
            program.close()
            raise
        self._lines.write([{"event": "attached", "first": self.first, "unavailable": self.unavailable}])

    def _text(self, events: Array) -> Iterable[str]:
        return socket_lines(self._sockets(events))

    def _counted(self) -> tuple[int, int]:
        return counted_by_processor(self._program)

    def _attach(self, loaded: dict[str, int], root: Path) -> None:
        for function, program in loaded.items():
            attach_type = KINDS[FUNCTIONS[function]].attach_type
            try:
                if function in FIRST:
                    links, self.first[function] = attach_first(program, attach_type, root)
                    self._links += links
                else:
                    self._links.append(attach_cgroup(program, attach_type, root))
            except BpfError as error:
                self.unavailable[function] = str(error)
        if {"opened", "sent"} <= set(self.unavailable):
            raise BpfError(f"sockets cannot be watched: {self.unavailable['opened']}")

    def _detach(self) -> None:
        for link in self._links:
            os.close(link)
        self._links.clear()

    def _sockets(self, rows: Array) -> Sockets:
        owners: dict[SocketOwner, int] = {}
        numbers = [
            owners.setdefault(SocketOwner(command.decode(errors="replace") or None, self._cgroups.path(cgroup, process)), len(owners))
            for command, cgroup, process in zip(*(rows[name].tolist() for name in ("command", "cgroup", "process")), strict=True)
        ]
        table: Table = {
            "time_ns": self._clock.wall_ns(rows["time_ns"]), "event": rows["kind"], "owner": np.array(numbers, "i4"),
            **{name: rows[name] for name in ("cookie", "netns", "proto", "process", "thread", *(f"{end}_port" for end in ENDS))},
            **{f"{end}_{half}": rows[end][:, at].astype("u8") for end in ENDS for at, half in enumerate(("hi", "lo"))},
        }  # fmt: skip
        return Sockets(SOCKETS.check({column.name: table[column.name] for column in SOCKETS.columns}), list(owners))


def _load(ring_bytes: int) -> tuple[Program, dict[str, int], dict[str, str]]:
    """The program with the most that this kernel allows: its functions' descriptors, and the reasons of those that it refuses."""
    refused: dict[str, str] = {}
    for abilities in ABILITIES:
        program = Program(SOURCE, {**abilities, "RING_PAGES": ring_bytes // mmap.PAGESIZE})
        loaded: dict[str, int] = {}
        for function, kind in FUNCTIONS.items():
            if function in OF_SENDERS and "SENDER" not in abilities:
                continue
            try:
                loaded[function] = program.load(function, kind)
            except BpfError as error:
                refused.setdefault(function, str(error))
        complete = [function for function in FUNCTIONS if function not in OF_SENDERS or "SENDER" in abilities]
        if list(loaded) == complete or abilities is ABILITIES[-1]:
            break
        program.close()
    return program, loaded, {function: refused.get(function, NO_SENDER) for function in FUNCTIONS if function not in loaded}
