"""Loads natpath.c, and turns what it tells into lines of NODE.natpath.jsonl (docs/bundle.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probes import addresses
from probes.live.bpf import BpfError, Program
from probes.live.budget import Budget
from probes.live.clock import Clock
from probes.live.event_lines import EventLines
from probes.live.kernel_types import KernelTypes
from probes.live.namespaces import OWN
from probes.schema import Array

SOURCE = Path(__file__).with_name("natpath.c")
FUNCTIONS = (  # numbered as in natpath.c; which of them there are is for the kernel to say
    "nf_nat_inet_fn", "ipt_do_table", "ip6t_do_table", "nft_do_chain", "ip_vs_in_hook", "ip_vs_in", "ip_vs_schedule", "ip_vs_nat_xmit",
    "ip_vs_nat_xmit_v6",
)  # fmt: skip
MODULES = ("nf_conntrack", "nf_nat", "ip_tables", "ip6_tables", "nf_tables", "ip_vs")
PARAMETERS = {"SKB": "sk_buff", "STATE": "nf_hook_state", "PACKET": "nft_pktinfo", "TABLE": "xt_table"}
STRUCTS: dict[str, Sequence[str] | None] = {
    "sk_buff": ("head", "network_header", "protocol", "_nfct"), "net": ("ns",), "ns_common": ("inum",), "nf_hook_state": ("hook",),
    "nf_conn": ("tuplehash", "status", "ct_net"), "nf_conntrack_tuple_hash": ("tuple",), "nf_conntrack_tuple": ("src", "dst"),
}  # fmt: skip
NFT_STRUCTS: dict[str, Sequence[str] | None] = {
    "nft_pktinfo": ("skb", "state"), "nft_base_chain": ("type", "chain"), "nft_chain": ("table", "name"), "nft_chain_type": ("type",),
    "nft_table": ("name",),
}  # fmt: skip
# struct call of natpath.c, with struct direction of conntrack.h in it.
CALL = np.dtype(
    [
        ("time_ns", "i8"), ("inside_ns", "i8"), ("src", ">u8", 2), ("dst", ">u8", 2), ("sport", "u2"), ("dport", "u2"), ("proto", "u1"),
        ("function", "u1"), ("hook", "u1"), ("depth", "u1"), ("table", "S32"), ("chain", "S32"), ("chain_type", "u1"), ("pad", "u1", 7),
    ]
)  # fmt: skip
HOOKS = {0: "prerouting", 1: "input", 2: "forward", 3: "output", 4: "postrouting"}  # enum nf_inet_hooks
CHAIN_TYPES = {0: "filter", 1: "route", 2: "nat"}  # enum nft_chain_types
RING_BYTES = 1 << 18  # some 1,700 calls
EVERY = 1 << 32  # hashes of connections


class NatPath(EventLines):
    """The probe: a line for each call that a first packet makes. `functions` are those that this kernel lets us time."""

    FORM = CALL

    def __init__(
        self, path: Path, clock: Clock, budget: Budget | None = None, *, netns: Path = OWN, sample: float = 1.0, seed: int = 0
    ) -> None:
        """Write to `path` about `sample` of the connections of the namespace at `netns`.

        BpfError where the kernel has no kprobes, or none of the functions, or does not let us look.
        """
        self._clock = clock
        found = KernelTypes().parameters(FUNCTIONS, MODULES)
        defines = {"NETNS": netns.stat().st_ino, "SEED": seed & 0xFFFFFFFF, "KEEP_BELOW": int(sample * EVERY), "RING_BYTES": RING_BYTES}
        structs = STRUCTS
        if "nft_do_chain" in found:
            defines["HAS_NFT"], structs = 1, structs | NFT_STRUCTS
        if {"ipt_do_table", "ip6t_do_table"} & set(found):
            defines["HAS_XT"], structs = 1, structs | {"xt_table": ("name",)}
        program = Program(SOURCE, defines | positions(found), structs)
        try:
            self.functions = tuple(_attach(program, found))
        except BaseException:
            program.close()
            raise
        super().__init__(program, "events", RING_BYTES, path, budget)

    def _text(self, events: Array) -> Iterable[str]:
        return (f"{json.dumps(line)}\n" for line in _lines(events, self._clock.wall_ns(events["time_ns"])))


def positions(parameters: Mapping[str, list[str]]) -> dict[str, int]:
    """Which parameter of each function is what, as natpath.c wants it; 0: none.

    The table of iptables became the untyped first one when ipt_do_table became a hook by itself (5.16); a chain of nf_tables is the second.
    """
    found: dict[str, int] = {}
    for function in FUNCTIONS:
        structs = parameters.get(function, [])
        at = {name: structs.index(struct) + 1 if struct in structs else 0 for name, struct in PARAMETERS.items()}
        if function.endswith("t_do_table") and structs and not at["TABLE"]:
            at["TABLE"] = 1
        at["CHAIN"] = 2 if at["PACKET"] else 0
        found |= {f"{name}_{function}": place for name, place in at.items()}
    return found


def _attach(program: Program, parameters: Mapping[str, list[str]]) -> Iterator[str]:
    """Attach to every function that there is; gives their names."""
    refused: BpfError | None = None
    attached = False
    for function in FUNCTIONS:
        structs = parameters.get(function, ())
        if "sk_buff" in structs or "nft_pktinfo" in structs:
            try:  # the return first: what was entered before is not known to it
                program.attach_kretprobe(f"leave_{function}", function)
                program.attach_kprobe(f"enter_{function}", function)
            except BpfError as error:
                refused = error
                continue
            attached = True
            yield function
    if not attached:
        raise refused or BpfError(
            f"this kernel has none of {', '.join(FUNCTIONS)}: nothing is translated here, or its module is not loaded"
        )


def _lines(calls: Array, times_ns: Array) -> Iterator[dict[str, Any]]:
    for time_ns, call in zip(times_ns.tolist(), calls, strict=True):
        function, table, chain = FUNCTIONS[call["function"]], _name(call["table"]), _name(call["chain"])
        yield {
            "time_ns": time_ns, "inside_ns": int(call["inside_ns"]), "function": function, "hook": HOOKS.get(int(call["hook"])),
            "depth": int(call["depth"]), "type": CHAIN_TYPES.get(int(call["chain_type"])) if chain else table or None,
            "table": table or None, "chain": chain or None, "proto": int(call["proto"]), "src": addresses.text(*call["src"].tolist()),
            "dst": addresses.text(*call["dst"].tolist()), "sport": int(call["sport"]), "dport": int(call["dport"]),
        }  # fmt: skip


def _name(characters: bytes) -> str:
    """A C string: what is behind its end is an earlier one's."""
    return characters.partition(b"\0")[0].decode(errors="replace")
