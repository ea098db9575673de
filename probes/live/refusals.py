"""Why a kernel refuses, in words that name the remedy: missing capabilities, lockdown, or what the verifier said."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

# Bits of /proc/PID/status (include/uapi/linux/capability.h).
CAPABILITY_BITS = {
    "CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24,
    "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39,
}  # fmt: skip
INCLUDED_IN_SYS_ADMIN = frozenset({"CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"})  # capabilities(7)
LOG_LINES = 5  # of the verifier's log, whose end says what was wrong


class BpfError(Exception):
    """What this kernel or this process may not do; the message names the reason and the remedy."""


def lacking(wanted: Iterable[str], root: Path = Path("/")) -> list[str]:
    """Which of these capabilities this process does not have. Being root says nothing inside a container."""
    status = _text(root / "proc/self/status")
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    has = int(line.split()[1], 16)
    included = INCLUDED_IN_SYS_ADMIN if has >> CAPABILITY_BITS["CAP_SYS_ADMIN"] & 1 else frozenset()
    return [name for name in wanted if not has >> CAPABILITY_BITS[name] & 1 and name not in included]


def lockdown(root: Path = Path("/")) -> str | None:
    """The kernel's lockdown: none, integrity or confidentiality (kernel_lockdown(7)); None: the kernel does not show it."""
    shown = _text(root / "sys/kernel/security/lockdown")
    return shown.partition("[")[2].partition("]")[0] or None


def refusal(what: str, number: int, needs: Iterable[str], log: str = "", root: Path = Path("/")) -> BpfError:
    """The error for a call that failed with errno `number`; `needs` are the capabilities that it takes, `log` what the verifier said."""
    missing = lacking(needs, root)
    said = [
        line
        for line in log.splitlines()
        if line.strip() and not line.startswith(("processed ", "verification time", "stack depth", "bpf: "))
    ]
    if number in {errno.EPERM, errno.EACCES} and missing:
        return BpfError(f"{what} is not permitted: {', '.join(missing)} missing; run as root, or give the container these capabilities")
    if any("unknown func bpf_probe_read" in line for line in said) and lockdown(root) == "confidentiality":
        return BpfError(
            f"{what} may not read kernel memory under this kernel's lockdown (confidentiality): boot with lockdown=integrity or none"
        )
    if said:
        stricter = " (it allows more with CAP_PERFMON)" if lacking(["CAP_PERFMON"], root) else ""
        return BpfError(f"{what} is refused by this kernel's verifier{stricter}: {' | '.join(line.strip() for line in said[-LOG_LINES:])}")
    if number in {errno.EPERM, errno.EACCES}:
        state = lockdown(root)
        why = f"its lockdown is {state}" if state else "by lockdown (it does not show which), a seccomp filter or a security module"
        return BpfError(
            f"{what} is not permitted by this kernel although no capability is missing: {why}; boot with lockdown=integrity or none"
        )
    return BpfError(f"{what} is refused by this kernel: {os.strerror(number)}")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
