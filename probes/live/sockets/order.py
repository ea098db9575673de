"""Which of several owners' programs on cgroups runs first (kernel/bpf/cgroup.c, compute_effective_progs).

Those attached with BPF_F_PREORDER come first (Linux 6.15), then those of the innermost cgroup, up to the root's; within one cgroup in the
order of attaching. All of them run.
"""

from __future__ import annotations

import os
from pathlib import Path

from probes.live.attach import attach_cgroup, cgroup_programs
from probes.live.bpf import BpfError

PREORDER = 1 << 6  # BPF_F_PREORDER
ROOT_INODE = 1  # kernfs numbers from its root


def root_cgroup(mounts: str | None = None) -> Path:
    """Where the root of the host's cgroup v2 hierarchy is mounted; `mounts` is the content of /proc/self/mountinfo.

    BpfError where there is none, or only a part of it, as in a container's own cgroup namespace.
    """
    for line in (mounts if mounts is not None else Path("/proc/self/mountinfo").read_text()).splitlines():
        before, _, behind = line.partition(" - ")
        if behind.startswith("cgroup2 ") and (place := Path(before.split()[4])).is_dir() and place.stat().st_ino == ROOT_INODE:
            return place
    raise BpfError("the root of cgroup v2 is not mounted here: mount the host's /sys/fs/cgroup into this container")


def attach_first(program: int, attach_type: int, root: Path) -> tuple[list[int], bool]:
    """`(links, whether it runs before all others)` of a program that is to see what applications ask for before others rewrite it.

    At the root where that can be first; else on the cgroups below it, whose programs run before the root's, where an eBPF kube-proxy
    replacement has its own. BpfError where the kernel refuses all of these.
    """
    others = cgroup_programs(attach_type, root)
    below = [path for path in sorted(root.iterdir()) if path.is_dir()] if others else []
    *ways, last = [(PREORDER, [root]), *([(0, below)] if below else []), (0, [root])]
    for flags, places in ways:
        try:
            links = _attach_all(program, attach_type, places, flags)
        except BpfError:
            continue
        return links, _runs_first(attach_type, places, others)
    return _attach_all(program, attach_type, last[1], last[0]), _runs_first(attach_type, last[1], others)


def _attach_all(program: int, attach_type: int, places: list[Path], flags: int) -> list[int]:
    links: list[int] = []
    try:
        links.extend(attach_cgroup(program, attach_type, place, flags) for place in places)
    except BpfError:
        for link in links:
            os.close(link)
        raise
    return links


def _runs_first(attach_type: int, places: list[Path], others: list[int]) -> bool:
    return all(cgroup_programs(attach_type, place)[0] not in others for place in places)
