"""Attaching loaded programs so that nothing stays behind: every attachment is a file descriptor, and ends with it, even by kill -9.

That leaves out what bcc does where it must: events written into tracefs, which outlive their process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import re
import struct
from pathlib import Path

from probes.live.refusals import BpfError, refusal

# bpf(2) and perf_event_open(2): numbers of the system calls, and of bpf's commands (include/uapi/linux/bpf.h).
SYSTEM_CALLS = {"x86_64": {"bpf": 321, "perf_event_open": 298}, "aarch64": {"bpf": 280, "perf_event_open": 241}}
BPF_PROG_QUERY, BPF_RAW_TRACEPOINT_OPEN, BPF_LINK_CREATE = 16, 17, 28
BPF_F_QUERY_EFFECTIVE = 1
_MOST_PROGRAMS = 64  # of one cgroup (BPF_CGROUP_MAX_PROGS)
ATTRIBUTE_BYTES = 64  # of bpf(2): what lies beyond what a command needs is zero
PERF_FLAG_FD_CLOEXEC = 8
PERF_EVENT_IOC_SET_BPF, PERF_EVENT_IOC_ENABLE = 0x40042408, 0x2400
KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe")
KALLSYMS = Path("/proc/kallsyms")

_libc = ctypes.CDLL(None, use_errno=True)


def attach_raw_tracepoint(program: int, tracepoint: str) -> int:
    """Run the loaded raw_tracepoint `program` at every `tracepoint`; gives the attachment's file descriptor. BpfError where refused."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    attributes = struct.pack("<QI", ctypes.addressof(name), program)
    return _bpf(BPF_RAW_TRACEPOINT_OPEN, attributes, f"raw tracepoint {tracepoint}", ("CAP_BPF", "CAP_PERFMON"))


def attach_cgroup(program: int, attach_type: int, cgroup: Path, flags: int = 0) -> int:
    """Run the loaded cgroup program for everything in `cgroup` (a folder of cgroup v2), beside those of others; gives the link."""
    folder = _open(cgroup)
    try:
        attributes = struct.pack("<IIII", program, folder, attach_type, flags)
        return _bpf(BPF_LINK_CREATE, attributes, f"a link to {cgroup} (cgroup v2, kernel 5.7 or newer)", ("CAP_BPF", "CAP_NET_ADMIN"))
    finally:
        os.close(folder)


def cgroup_programs(attach_type: int, cgroup: Path) -> list[int]:
    """The ids of all programs that run for a process of `cgroup`, its parents' too, in the order in which they run."""
    folder = _open(cgroup)
    try:
        return _programs(attach_type, folder, BPF_F_QUERY_EFFECTIVE, f"a list of the programs of {cgroup}")
    finally:
        os.close(folder)


def attach_tcx(program: int, attach_type: int, ifindex: int) -> int:
    """Run the loaded sched_cls program for every packet of an interface; gives the link. No qdisc is made."""
    attributes = struct.pack("<IIII", program, ifindex, attach_type, 0)
    what = f"a TC program at interface {ifindex} (TCX, kernel 6.6 or newer)"
    return _bpf(BPF_LINK_CREATE, attributes, what, ("CAP_BPF", "CAP_NET_ADMIN"))


def tcx_programs(attach_type: int, ifindex: int) -> list[int]:
    """The ids of the programs that are attached to an interface by TCX. BpfError where the kernel has none of that."""
    return _programs(attach_type, ifindex, 0, f"a list of the TC programs of interface {ifindex} (TCX, kernel 6.6 or newer)")


def _programs(attach_type: int, target: int, flags: int, what: str) -> list[int]:
    found = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attributes = struct.pack("<IIIIQI", target, attach_type, flags, 0, ctypes.addressof(found), _MOST_PROGRAMS)
    _bpf(BPF_PROG_QUERY, attributes, what, ("CAP_NET_ADMIN",))
    return [identity for identity in found if identity]


def _open(cgroup: Path) -> int:
    try:
        return os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BpfError(f"{cgroup} cannot be opened: {error.strerror}; is cgroup v2 mounted there?") from error


def attach_kprobe(program: int, function: str, at_return: bool = False) -> int:
    """Run the loaded kprobe `program` at the entry, or the return, of a kernel function; gives the event's file descriptor.

    `function` may exist under a compiler's name for a copy of it (`.constprop.0`). BpfError where there is none, or kprobes are refused.
    """
    symbol = kernel_symbol(function)
    if symbol is None:
        raise BpfError(f"this kernel has no function {function} that could be probed; its module may not be loaded")
    try:
        kind = int((KPROBE_PMU / "type").read_text())
    except OSError as error:
        raise BpfError("this kernel has no kprobes: boot one with CONFIG_KPROBE_EVENTS, since 4.17") from error
    name = ctypes.create_string_buffer(symbol.encode())
    # struct perf_event_attr up to config2: type, size, config (bit 0: retprobe), sample_period, …, kprobe_func, probe_offset
    attributes = struct.pack("<IIQQQQQIIQQ", kind, 72, int(at_return), 1, 0, 0, 0, 1, 0, ctypes.addressof(name), 0)
    event = _call("perf_event_open", attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
    if event < 0:
        raise refusal(f"kprobe on {symbol}", ctypes.get_errno(), ("CAP_BPF", "CAP_PERFMON"))
    try:
        fcntl.ioctl(event, PERF_EVENT_IOC_SET_BPF, program)
        fcntl.ioctl(event, PERF_EVENT_IOC_ENABLE, 0)
    except OSError as error:
        os.close(event)
        raise refusal(f"kprobe on {symbol}", error.errno or 0, ("CAP_BPF", "CAP_PERFMON")) from error
    return event


def kernel_symbol(function: str) -> str | None:
    """How the kernel spells a function that can be probed: as asked, or as a copy that the compiler made; None where there is none."""
    pattern = rb"^[0-9a-f]+ [tT] (%b(?:\.(?:constprop|isra)\.\d+)*)(?:\t|$)" % re.escape(function.encode())
    found = {match.decode() for match in re.findall(pattern, KALLSYMS.read_bytes(), re.MULTILINE)}
    return min(found, key=len, default=None)


def _bpf(command: int, attributes: bytes, what: str, needs: tuple[str, ...]) -> int:
    found = _call("bpf", attributes.ljust(ATTRIBUTE_BYTES, b"\0"), ATTRIBUTE_BYTES, before=(command,))
    if found < 0:
        raise refusal(what, ctypes.get_errno(), needs)
    return found


def _call(name: str, attributes: bytes, *after: int, before: tuple[int, ...] = ()) -> int:
    """A system call with a block of attributes among its numbers; -1: see ctypes.get_errno()."""
    numbers = SYSTEM_CALLS.get(platform.machine())
    if numbers is None:
        raise BpfError(f"{name}(2) has no known number on {platform.machine()}: run hopline's live part on {' or '.join(SYSTEM_CALLS)}")
    block = ctypes.create_string_buffer(attributes, len(attributes))
    words = [*(ctypes.c_long(word) for word in before), block, *(ctypes.c_long(word) for word in after)]
    return int(_libc.syscall(ctypes.c_long(numbers[name]), *words))
