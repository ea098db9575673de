"""The threads probe: in which order threads read and write their sockets, a line each (docs/sockets.md). Only where it is asked for."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from probes.live.bpf import BpfError, Program
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.event_lines import EventLines, counted_by_processor
from probes.live.sockets.order import root_cgroup
from probes.schema import Array
from probes.threads import lost_line, use_lines

SOURCE = Path(__file__).with_name("threads.c")
RING_BYTES = 1 << 22
USE = np.dtype([("time_ns", "i8"), ("cookie", "u8"), ("thread", "u4"), ("bytes", "u4"), ("way", "u1"), ("pad", "u1", 7)])
"""struct use of threads.c."""
ON_CGROUP = {"accepted": "sock_ops", "sent": "egress", "released": "sock_release"}  # functions: their kinds
ON_TRACEPOINT = {"was_read": "sock_recv_length", "was_written": "sock_send_length"}
ON_RETURN = {  # where there are no such tracepoints: of kernel functions, by what they do
    "leaves_read": ("tcp_recvmsg", "udp_recvmsg", "udpv6_recvmsg"), "leaves_write": ("tcp_sendmsg", "udp_sendmsg", "udpv6_sendmsg"),
}  # fmt: skip


class ThreadProbe(EventLines):
    """Writes a line for every read and write of a socket that was seen to be accepted or to send."""

    FORM = USE

    def __init__(
        self, path: Path, clock: Clock, budget: Budget | None = None, *, cgroup_root: Path | None = None, ring_bytes: int = RING_BYTES
    ) -> None:
        """Attach, and write to `path`. BpfError where this kernel does not tell of transfers, or does not let us look."""
        root = cgroup_root or root_cgroup()
        self._clock, self._told = clock, 0
        pages = {"RING_PAGES": ring_bytes // mmap.PAGESIZE}
        try:
            program = _attached(pages, root)
        except BpfError as refused:
            try:
                program = _attached(pages | {"KPROBES": 1}, root)
            except BpfError as error:
                raise BpfError(f"reads and writes of threads cannot be watched: {refused}; nor otherwise: {error}") from error
        super().__init__(program, "uses", ring_bytes, path, budget)

    def _text(self, events: Array) -> Iterable[str]:
        return use_lines(self._clock.wall_ns(events["time_ns"]), *(events[name] for name in ("cookie", "thread", "bytes", "way")))

    def _counted(self) -> tuple[int, int]:
        return counted_by_processor(self._program)

    def _write(self, events: Array) -> None:
        """Also whether something is missing."""
        super()._write(events)
        missing = self.counters()["dropped"]
        if missing > self._told:  # the ring was full from the last one on
            since_ns = self._clock.wall_ns(int(events["time_ns"].max())) if len(events) else self._clock.now_ns()
            self._told += (missing - self._told) * self._lines.write_text([lost_line(since_ns, missing - self._told)])


def _attached(defines: dict[str, int], root: Path) -> Program:
    program = Program(SOURCE, defines)
    try:
        for function, kind in ON_CGROUP.items():
            program.attach_cgroup(function, kind, root)
        if "KPROBES" not in defines:
            for function, name in ON_TRACEPOINT.items():
                program.attach_raw_tracepoint(function, name)
            return program
        for function, names in ON_RETURN.items():
            for name in names:
                program.attach_kprobe("enters", name)
            for name in names:
                program.attach_kretprobe(function, name)
    except BaseException:
        program.close()
        raise
    return program
