"""What each probe needs of the kernel and of this process, and whether it is there: found by trying, never by a version.

Trying loads small programs, attaches those that can be attached for a moment, and leaves nothing behind.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from probes.live.bpf import BpfError, Program
from probes.live.headers import Btf, BtfError, HeaderError, header_tree
from probes.live.sockets.order import root_cgroup

SOURCE = Path(__file__).with_name("features.c")
BTF = Path("sys/kernel/btf/vmlinux")
CONNTRACK = Path("proc/sys/net/netfilter/nf_conntrack_count")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a probe cannot do without. `better` maps a capability or feature that it can do without to what is then missing."""

    capabilities: tuple[str, ...]
    features: tuple[str, ...]
    better: Mapping[str, str] = field(default_factory=dict)


# By probe, as `hopline record --probes` names it; tests/live/test_deploy_capabilities.py records with these, and with one fewer.
NEEDS = {
    "packets": Needs(
        # without CAP_PERFMON the verifier also follows what processors may speculate, and gives up on so long a program
        ("CAP_BPF", "CAP_PERFMON", "CAP_NET_RAW"), ("ring buffers", "socket filters", "packet sockets"),
        {"CAP_SYS_ADMIN": "other network namespaces (--netns)"},
    ),
    "ledger": Needs(("CAP_NET_ADMIN",), ("conntrack",)),
    "sockets": Needs(
        ("CAP_BPF", "CAP_NET_ADMIN"), ("ring buffers", "cgroup links"),
        {"connect()": "addresses that are asked for", "who connects": "processes that connect", "who sends": "processes of other sockets"},
    ),
    "threads": Needs(("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"), ("ring buffers", "cgroup links", "reads and writes")),
    "drops": Needs(
        ("CAP_BPF", "CAP_PERFMON"), ("ring buffers", "BTF", "raw tracepoints"),
        {"kernel memory": "whose packets they were", "CAP_SYSLOG": "names of the places"},
    ),
    "natpath": Needs(("CAP_BPF", "CAP_PERFMON"), ("ring buffers", "BTF", "kernel memory", "kprobes")),
    "confirm": Needs(("CAP_BPF", "CAP_PERFMON"), ("ring buffers", "types of conntrack", "kernel memory", "kprobes")),
}  # fmt: skip
CAPABILITIES = {probe: needs.capabilities for probe, needs in NEEDS.items()}

# Features that are a program which loads: its function in features.c, and its kind.
_PROGRAMS = {
    "socket filters": ("seen", "socket_filter"), "connect()": ("asked", "connect4"), "who connects": ("asked_by", "connect4"),
    "who sends": ("sent_by", "egress"), "kernel memory": ("memory", "raw_tracepoint"),
}  # fmt: skip
# Features that are a program which can be attached.
_ATTACHED: dict[str, Callable[[Program], int]] = {
    "cgroup links": lambda program: program.attach_cgroup("opened", "sock_ops", root_cgroup()),
    "raw tracepoints": lambda program: program.attach_raw_tracepoint("dropped", "kfree_skb"),
    "reads and writes": lambda program: program.attach_raw_tracepoint("dropped", "sock_recv_length"),
    "kprobes": lambda program: program.attach_kprobe("entered", "ip_rcv"),
}
REMEDIES = {
    "BTF": "boot a kernel with CONFIG_DEBUG_INFO_BTF: that of any distribution since 5.8",
    "types of conntrack": "modprobe nf_conntrack, or boot a kernel with CONFIG_DEBUG_INFO_BTF_MODULES",
    "kernel memory": "boot with lockdown=integrity, or none (kernel_lockdown(7))",
    "kprobes": "boot a kernel with CONFIG_KPROBE_EVENTS, and lockdown=integrity or none",
    "cgroup links": "mount the host's cgroup v2 at its root, on a kernel since 5.7",
    "reads and writes": "boot a kernel since 6.3",
    "packet sockets": "boot a kernel with CONFIG_PACKET",
    "conntrack": "modprobe nf_conntrack_netlink, where this node is to translate anything",
}
REMEDY = "boot a kernel since 5.8"  # for what is not in REMEDIES


def tried(root: Path = Path("/")) -> dict[str, str | None]:
    """By feature: None where it works here, else why not. `root` is where /proc and /sys are looked for."""
    found = {"BTF": _btf(root / BTF), "packet sockets": _packet_sockets(), "ring buffers": None}
    found["conntrack"] = None if (root / CONNTRACK).exists() else "nf_conntrack is not loaded: this machine translates nothing"
    found["types of conntrack"] = _why(header_tree, {"nf_conn": ("tuplehash",)})
    try:
        program = Program(SOURCE, {"RING": 1})
    except BpfError as error:
        found["ring buffers"] = str(error)
        try:
            program = Program(SOURCE)
        except BpfError as without:
            return found | dict.fromkeys([*_PROGRAMS, *_ATTACHED], str(without))
    with program:
        for feature, (function, kind) in _PROGRAMS.items():
            found[feature] = _why(program.load, function, kind)
        for feature, attach in _ATTACHED.items():
            found[feature] = _why(attach, program)
    return found


def _why(attempt: Callable[..., object], *arguments: object) -> str | None:
    try:
        attempt(*arguments)
    except (BpfError, BtfError, HeaderError) as error:
        return str(error)
    return None


def _btf(path: Path) -> str | None:
    try:
        Btf(path.read_bytes(), path.name)
    except (OSError, BtfError) as error:
        return str(error)
    return None


def _packet_sockets() -> str | None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return f"AF_PACKET: {error.strerror}"
    return None
