"""The threads probe: in which order threads read and write their sockets, a line each (docs/sockets.md). Only where it is asked for."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from probes.live.bpf import BpfError, Program
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.lines import Lines
from probes.live.rings import Ring
from probes.live.sockets.order import root_cgroup
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


class ThreadProbe:
    """Writes a line for every read and write of a socket that was seen to be accepted or to send."""

    def __init__(
        self, path: Path, clock: Clock, budget: Budget | None = None, *, cgroup_root: Path | None = None, ring_bytes: int = RING_BYTES
    ) -> None:
        """Attach, and write to `path`. BpfError where this kernel does not tell of transfers, or does not let us look."""
        root = cgroup_root or root_cgroup()
        self._clock = clock
        self._written = self._lost = self._told = 0
        self._closed: dict[str, int] | None = None
        pages = {"RING_PAGES": ring_bytes // mmap.PAGESIZE}
        try:
            self._program, self._attached = _attached(pages, root)
        except BpfError as refused:
            try:
                self._program, self._attached = _attached(pages | {"KPROBES": 1}, root)
            except BpfError as error:
                raise BpfError(f"reads and writes of threads cannot be watched: {refused}; nor otherwise: {error}") from error
        try:
            self._ring = Ring(self._program.map("uses").map_fd, ring_bytes)
            self._lines = Lines(path, budget)
        except BaseException:
            self._program.close()
            raise

    def drain(self) -> None:
        """Write what the kernel has told since the last time, and whether something is missing."""
        rows = self._ring.records(USE)
        written = self._lines.write_text(
            use_lines(self._clock.wall_ns(rows["time_ns"]), rows["cookie"], rows["thread"], rows["bytes"], rows["way"])
        )
        self._written += written
        self._lost += len(rows) - written
        missing = self.counters()["dropped"]
        if missing > self._told:  # the ring was full from the last one on
            since_ns = self._clock.wall_ns(int(rows["time_ns"].max())) if len(rows) else self._clock.now_ns()
            self._told += (missing - self._told) * self._lines.write_text([lost_line(since_ns, missing - self._told)])

    def counters(self) -> dict[str, int]:
        """Reads and writes: seen == written + dropped (the ring or the disk was full), once drained; after `close` the last."""
        if self._closed is not None:
            return self._closed
        counts = self._program.map("counts")[0]
        seen, dropped = sum(each.seen for each in counts), sum(each.dropped for each in counts)
        return {"seen": seen, "written": self._written, "dropped": dropped + self._lost}

    def close(self) -> None:
        """Detach, write the last lines, close the file."""
        for attachment in self._attached:
            self._program.detach(attachment)
        self.drain()
        self._closed = self.counters()
        self._program.close()
        self._lines.close()


def _attached(defines: dict[str, int], root: Path) -> tuple[Program, list[int]]:
    program = Program(SOURCE, defines)
    try:
        attached = [program.attach_cgroup(function, kind, root) for function, kind in ON_CGROUP.items()]
        if "KPROBES" not in defines:
            return program, attached + [program.attach_raw_tracepoint(function, name) for function, name in ON_TRACEPOINT.items()]
        for function, names in ON_RETURN.items():
            attached += [program.attach_kprobe("enters", name) for name in names]
            attached += [program.attach_kretprobe(function, name) for name in names]
    except BaseException:
        program.close()
        raise
    return program, attached
