"""Kernel types from BTF are where the compiler that made them put them."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.live.headers import Btf, BtfError, Wanted, emit
from probes.live.headers.tree import STUBS

from .ctypes_of import btf_of, layout

VMLINUX = Path("/sys/kernel/btf/vmlinux")
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compare with (apt install gcc)")
needs_kernel_btf = pytest.mark.skipif(
    not VMLINUX.exists() or shutil.which("bpftool") is None, reason="no BTF of a kernel, or no bpftool (apt install bpftool)"
)

SOURCE = """
#include <stdbool.h>
#include <stdint.h>
enum mode { OFF, ON = 7, FAR = 0x7fffffff };
struct inner { char c; uint32_t n; } __attribute__((packed));
typedef struct { void *net; } possible;
typedef uint16_t port;
struct outer {
    struct inner in[3];
    uint64_t a : 3, b : 61;
    int s : 5;
    unsigned char t : 2;
    bool flag : 1;
    uint16_t late;
    union { uint32_t v4; uint8_t v6[16]; struct { port x, y; }; struct { uint8_t low : 4, high : 4; }; };
    struct outer *next;
    struct elsewhere **away;
    possible p;
    enum mode m;
    int (*call)(int);
    const char *name;
    volatile long row[3];
    double exact;
    char tail[];
};
union either { struct outer o; char c; };
struct tiny { uint8_t one : 1; };
struct odd { uint64_t first; uint32_t second; } __attribute__((packed));
struct outer o; union either e; struct tiny t; struct odd d;
"""
FIELDS = {
    "struct outer": (
        "in",
        "in[2].n",
        "a:",
        "b:",
        "s:",
        "t:",
        "flag:",
        "late",
        "v4",
        "v6",
        "x",
        "y",
        "low:",
        "high:",
        "next",
        "away",
        "p.net",
        "m",
        "call",
        "name",
        "row[2]",
        "exact",
        "tail[0]",
    ),
    "union either": ("o.late", "c"),
    "struct tiny": ("one:",),
    "struct odd": ("first", "second"),
    "possible": ("net",),
    "port": (),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A header, and the BTF that gcc makes of it."""
    header = tmp_path_factory.mktemp("types") / "types.c"
    header.write_text(SOURCE)
    return header, btf_of(header)


def emitted(folder: Path, btfs: Sequence[Btf], wanted: Wanted) -> Path:
    header = folder / "vmlinux.h"
    header.write_text(emit(btfs, wanted))
    return header


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS,
        {"struct outer": ("b:",)},
        {"struct outer": ("y", "v4", "flag:")},
        {"struct odd": ("second",)},
        {"struct outer": ("in[1].n",)},
    ],
    ids=["everything", "a bitfield", "fields that share bytes", "what is packed", "one field brings its type"],
)
def test_types_are_laid_out_as_the_compiler_did(fields: dict[str, tuple[str, ...]], compiled: tuple[Path, bytes], tmp_path: Path) -> None:
    source, content = compiled
    constants = ("OFF", "ON", "FAR")
    wanted = dict.fromkeys(chosen(fields)) if fields is FIELDS else chosen(fields)
    header = emitted(tmp_path, [Btf(content, "types.c")], {**wanted, "mode": None})
    assert layout(header, fields, constants) == layout(source, fields, constants)


def test_only_what_is_asked_for_is_there(compiled: tuple[Path, bytes]) -> None:
    text = emit([Btf(compiled[1], "types.c")], {"outer": ("late", "nothing?", "v4?"), "mode": ("ON",)})
    assert "before_late" in text
    assert "next" not in text
    assert "struct inner" not in text
    assert "HAS_outer_v4" in text
    assert "HAS_outer_nothing" not in text
    assert "enum mode { ON = 7 };" in text


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"nobody": None}, "no nobody: load the module"),
        ({"outer": ("late", "early")}, "outer has no early in this kernel: ask for `early\\?`"),
        ({"mode": ("UP",)}, "mode has no UP"),
    ],
)
def test_what_the_kernel_does_not_have_is_said(wanted: Wanted, said: str, compiled: tuple[Path, bytes]) -> None:
    with pytest.raises(BtfError, match=said):
        emit([Btf(compiled[1], "types.c")], wanted)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: b"", "0 bytes are no BTF header"),
        (lambda b: b[:23], "23 bytes are no BTF"),
        (lambda b: b"\xeb\x9f" + b[2:], "it starts with eb9f"),
        (lambda b: b[:-1], "sections end beyond"),
        (lambda b: b[:-1] + b"x", "last string has no end"),
        (lambda b: b[:24] + b"\0\0\0\0\0\0\0\x1f" + b[32:], "type 1 is of kind 31, which is newer"),
        (lambda b: b[:28] + b"\xff\xff\0\x04" + b[32:], "type 1 at byte 0 of its types is cut"),
    ],
    ids=["empty", "cut header", "byte order", "cut", "open string", "new kind", "too many members"],
)
def test_damage_is_named(damage: object, said: str, compiled: tuple[Path, bytes]) -> None:
    assert callable(damage)
    with pytest.raises(BtfError, match=said):
        Btf(damage(compiled[1]), "types.c")


def test_no_damage_is_worse_than_an_error(compiled: tuple[Path, bytes]) -> None:
    content = compiled[1]

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8))
    def damaged(changes: list[tuple[int, int]]) -> None:
        other = bytearray(content)
        for at, value in changes:
            other[at] = value
        try:
            text = emit([Btf(bytes(other), "damaged")], {"outer": None, "either": None, "mode": None})
        except BtfError:
            return
        assert "struct outer {" in text

    damaged()


def test_a_type_inside_itself_is_damage() -> None:
    struct = words("<self>", 4 << 24 | 1, 8) + words("<field>", 1, 0)
    with pytest.raises(BtfError, match="inside itself"):
        emit([Btf(btf(struct), "circle")], {"<self>": None})


# Split BTF: a module's types continue the kernel's, and so do its strings.


def words(name: str, *numbers: int) -> list[str | int]:
    return [name, *numbers]


def btf(types: Sequence[str | int], strings_before: bytes = b"", count: bytes = b"\0") -> bytes:
    """BTF of those words; names are put into the string section, unless the kernel has them."""
    strings, numbers = bytearray(b"" if strings_before else count), []
    for word in types:
        if isinstance(word, int):
            numbers.append(word)
            continue
        name = word.encode() + b"\0"
        known = strings_before.find(b"\0" + name)
        if known >= 0:
            numbers.append(known + 1)
        else:
            numbers.append(len(strings_before) + len(strings))
            strings += name
    body = np.array(numbers, "<u4").tobytes()
    head = np.array([0x0001EB9F, 24, 0, len(body), len(body), len(strings)], "<u4").tobytes()
    return head + body + bytes(strings)


KERNEL = btf(
    [*words("int", 1 << 24, 4, 1 << 24 | 32), *words("nf_conn", 7 << 24, 0), *words("lock", 4 << 24 | 1, 4), *words("owner", 1, 0)]
)
STRINGS = KERNEL[KERNEL.index(b"\0int\0") :]
# In the module: struct nf_conn { struct lock lock; int status[2][3]; } with `lock` and `int` of the kernel.
MODULE = btf(
    [
        *words("nf_conn", 4 << 24 | 2, 28),
        *words("lock", 3, 0),
        *words("status", 6, 32),
        *words("", 3 << 24, 0),
        1,
        1,
        3,
        *words("", 3 << 24, 0),
        5,
        1,
        2,
    ],
    STRINGS,
)


def test_a_modules_types_continue_the_kernels(tmp_path: Path) -> None:
    kernel = Btf(KERNEL, "vmlinux")
    module = Btf(MODULE, "nf_conntrack", kernel)
    assert [module.type(type_id).kind for type_id in module.find("nf_conn", {"fwd", "struct"})] == ["fwd", "struct"]
    header = emitted(tmp_path, [kernel, module], {"nf_conn": ("status", "lock")})
    assert layout(header, {"struct nf_conn": ("lock.owner", "status", "status[1][2]")}) == [
        "struct nf_conn 28",
        "struct nf_conn.lock.owner at 0, 4 bytes",
        "struct nf_conn.status at 4, 24 bytes",
        "struct nf_conn.status[1][2] at 24, 4 bytes",
    ]


@needs_kernel_btf
def test_bpftool_reads_the_same_in_a_module(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(KERNEL)
    (tmp_path / "module").write_bytes(MODULE)
    dump = ["bpftool", "-B", str(tmp_path / "vmlinux"), "btf", "dump", "file", str(tmp_path / "module")]
    said = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    module = Btf(MODULE, "module", Btf(KERNEL, "vmlinux"))
    assert "[4] STRUCT 'nf_conn' size=28 vlen=2" in said
    for member in module.type(4).members:
        assert f"'{member.name}' type_id={member.type_id} bits_offset={member.bit_offset}" in said


# The running kernel, against what bpftool makes of the same BTF.

CHOSEN = {
    "struct sk_buff": (
        "dev",
        "sk",
        "cb",
        "len",
        "data_len",
        "head",
        "data",
        "mark",
        "protocol",
        "skb_iif",
        "hash",
        "pkt_type:",
        "ip_summed:",
        "transport_header",
        "network_header",
        "mac_header",
        "tail",
        "end",
    ),
    "struct net_device": ("ifindex", "name", "nd_net.net", "mtu"),
    "struct net": ("ns.inum", "net_cookie"),
    "struct sock_common": (
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_dport",
        "skc_num",
        "skc_family",
        "skc_state",
        "skc_net.net",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr.in6_u.u6_addr32[3]",
        "skc_cookie",
        "skc_reuse:",
        "skc_addrpair",
    ),
    "struct sock": ("__sk_common.skc_num", "__sk_common.skc_v6_rcv_saddr", "sk_protocol", "sk_mark", "sk_socket"),
    "struct inet_sock": ("sk.__sk_common.skc_dport", "inet_saddr", "inet_sport"),
    "struct tcp_sock": ("srtt_us", "snd_cwnd", "bytes_acked"),
    "struct iphdr": ("ihl:", "version:", "tot_len", "protocol", "saddr", "daddr"),
    "struct ipv6hdr": ("nexthdr", "saddr", "version:"),
    "struct tcphdr": ("source", "seq", "doff:", "syn:", "fin:", "window"),
    "struct udphdr": ("source", "len"),
    "struct nf_hook_state": ("hook", "pf", "in", "out", "net"),
    "possible_net_t": ("net",),
    "struct trace_event_raw_kfree_skb": ("skbaddr", "location", "protocol", "reason"),
    "struct trace_event_raw_inet_sock_set_state": ("skaddr", "oldstate", "newstate", "sport", "saddr", "daddr_v6"),
}
# Part of the kernel or of a module, which need not be loaded here.
OF_MODULES = {
    "struct nf_conn": ("tuplehash", "tuplehash[1].tuple.dst.u3.ip", "tuplehash[0].tuple.src.u.tcp.port", "status", "timeout", "ct_net.net"),
    "struct nf_conntrack_tuple": ("src.u3.ip6", "src.l3num", "dst.u3", "dst.u.icmp.type", "dst.protonum", "dst.dir"),
    "struct nft_pktinfo": ("skb", "state"),
    "struct ip_vs_conn": ("caddr", "vaddr", "daddr", "cport", "vport", "dport", "protocol", "fwmark", "flags", "dest", "ipvs"),
    "struct ip_vs_service": ("addr", "port", "protocol", "fwmark", "num_dests"),
    "struct netns_ipvs": ("net",),
}


def chosen(fields: Mapping[str, Sequence[str]]) -> Wanted:
    """What C that uses these fields asks for."""
    return {name.split()[-1]: [re.split(r"[\[.:]", field)[0] for field in some] for name, some in fields.items()}


def bpftools(name: str, folder: Path) -> Path:
    """All types of the kernel, or of one of its modules, as bpftool writes them."""
    header = folder / f"bpftool-{name}.h"
    dump = ["bpftool", "btf", "dump", "file", str(VMLINUX.with_name(name)), "format", "c"]
    header.write_bytes(subprocess.run(dump, capture_output=True, check=True).stdout)
    return header


@needs_kernel_btf
@pytest.mark.parametrize("wanted", [chosen(CHOSEN), dict.fromkeys(chosen(CHOSEN))], ids=["fields", "whole types"])
def test_the_kernels_types_are_where_bpftool_has_them(wanted: Wanted, tmp_path: Path) -> None:
    header = emitted(tmp_path, [Btf(VMLINUX.read_bytes(), "vmlinux")], {**wanted, "skb_drop_reason": None})
    reasons = ("SKB_DROP_REASON_NOT_SPECIFIED", "SKB_DROP_REASON_NO_SOCKET", "SKB_DROP_REASON_NETFILTER_DROP")
    assert layout(header, CHOSEN, reasons) == layout(bpftools("vmlinux", tmp_path), CHOSEN, reasons)


@needs_kernel_btf
@pytest.mark.parametrize("name", OF_MODULES)
def test_modules_types_are_where_bpftool_has_them(name: str, tmp_path: Path) -> None:
    kernel = Btf(VMLINUX.read_bytes(), "vmlinux")
    btfs = {path.name: Btf(path.read_bytes(), path.name, kernel) for path in VMLINUX.parent.iterdir() if path != VMLINUX}
    holder = next((holder for holder, btf in {"vmlinux": kernel, **btfs}.items() if btf.find(name.split()[1], {"struct"})), None)
    if holder is None:
        pytest.skip(f"no {name} in this kernel and its loaded modules")
    fields = {name: OF_MODULES[name]}
    header = emitted(tmp_path, [kernel, *btfs.values()], chosen(fields))
    assert layout(header, fields) == layout(bpftools(holder, tmp_path), fields)


@needs_kernel_btf
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the registers of x86-64")
def test_registers_are_where_the_kernel_has_them(tmp_path: Path) -> None:
    header = tmp_path / "registers.h"
    header.write_text("#include <uapi/linux/ptrace.h>\n")
    fields = {"struct pt_regs": ("r15", "bp", "bx", "r8", "ax", "cx", "dx", "si", "di", "orig_ax", "ip", "flags", "sp")}
    assert layout(header, fields, folders=[STUBS]) == layout(bpftools("vmlinux", tmp_path), fields)
