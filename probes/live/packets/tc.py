"""Packets by a TC program instead of the socket, for interfaces that somebody names: what eBPF redirects past the taps is seen there alone.

Only through TCX links (Linux 6.6, commit e420bed02507), which need no qdisc and end with this process, and only where no other program is:
a CNI's program in the same place may count on being alone.
"""

from __future__ import annotations

from pyroute2 import IPRoute

from probes.live.attach import attach_tcx, tcx_programs
from probes.live.refusals import BpfError

INGRESS, EGRESS = 46, 47  # BPF_TCX_INGRESS, BPF_TCX_EGRESS (include/uapi/linux/bpf.h)
_CLSACT = {0xFFFFFFF2: "ingress", 0xFFFFFFF3: "egress"}  # TC_H_MIN_INGRESS and _EGRESS of TC_H_CLSACT


def attach_both_ways(functions: dict[int, int], ifindex: int, name: str) -> list[int]:
    """Attach the loaded `functions` (by INGRESS and EGRESS) to an interface of this namespace; their links. BpfError where somebody is."""
    _refuse_others(ifindex, name)
    return [attach_tcx(function, direction, ifindex) for direction, function in functions.items()]


def _refuse_others(ifindex: int, name: str) -> None:
    for direction in (INGRESS, EGRESS):
        if found := tcx_programs(direction, ifindex):
            raise BpfError(f"{name} has a TC program already (id {found[0]}): leave {name} to the socket filter, without --tc")
    with IPRoute() as route:
        for parent, side in _CLSACT.items():
            if list(route.get_filters(index=ifindex, parent=parent)):
                raise BpfError(f"{name} has TC filters at {side} already: leave {name} to the socket filter, without --tc")
