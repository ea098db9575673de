"""The header tree: the few files that bcc includes by itself, and `vmlinux.h` with the kernel types that a C file wants.

The types come from the running kernel's BTF. Only where a kernel has none do they come from its real headers, if those are there already:
nothing is installed and no module is loaded for them.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from probes.live.headers.btf import Btf
from probes.live.headers.cache import HeaderError, kept
from probes.live.headers.emit import Wanted, emit

HERE = Path(__file__).parent
STUBS = HERE / "stubs"  # what bcc includes by itself, with the little that it needs of it
KERNEL = Path("/sys/kernel")
MODULES = Path("/lib/modules")

REGISTERS = "#include <linux/ptrace.h>\n"  # bcc reads a kprobe's arguments from them

# Where real headers define what BTF tells otherwise.
REAL_HEADERS = {
    "sk_buff": "linux/skbuff.h", "skb_drop_reason": "net/dropreason.h", "net_device": "linux/netdevice.h", "net": "net/net_namespace.h",
    "possible_net_t": "net/net_namespace.h", "ns_common": "linux/ns_common.h", "sock": "net/sock.h", "sock_common": "net/sock.h",
    "inet_sock": "net/inet_sock.h", "tcp_sock": "linux/tcp.h", "iphdr": "linux/ip.h", "ipv6hdr": "linux/ipv6.h", "tcphdr": "linux/tcp.h",
    "udphdr": "linux/udp.h", "in6_addr": "linux/in6.h", "nf_conn": "net/netfilter/nf_conntrack.h", "nf_hook_state": "linux/netfilter.h",
    "nf_conntrack_tuple": "net/netfilter/nf_conntrack_tuple.h", "nf_conntrack_tuple_hash": "net/netfilter/nf_conntrack_tuple.h",
    "ip_conntrack_status": "linux/netfilter/nf_conntrack_common.h", "ip_conntrack_dir": "linux/netfilter/nf_conntrack_tuple_common.h",
    "nft_pktinfo": "net/netfilter/nf_tables.h", "ip_vs_conn": "net/ip_vs.h", "ip_vs_service": "net/ip_vs.h", "ip_vs_dest": "net/ip_vs.h",
    "netns_ipvs": "net/ip_vs.h",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Headers:
    """`include` is for -I. `kernel_source` is for BCC_KERNEL_SOURCE; None: bcc finds the real headers by itself. `source` says which."""

    include: Path
    kernel_source: Path | None
    source: str


def header_tree(structs: Wanted | None = None, kernel: Path = KERNEL, modules: Path = MODULES) -> Headers:
    """Headers with the types that `structs` names, made once and kept in the cache.

    `kernel` and `modules` are where to look for what this kernel tells of itself. HeaderError, with the remedy, where nothing tells of the
    types or nothing can be written; BtfError where a type or field does not exist in this kernel.
    """
    wanted = repr(sorted((structs or {}).items())).encode()
    if not structs:
        return _tree("none needed", wanted, lambda: "")
    if (kernel / "btf/vmlinux").exists():
        btf = {path.name: path.read_bytes() for path in sorted((kernel / "btf").iterdir())}
        return _tree("BTF", _digest(wanted, *btf.values()), lambda: REGISTERS + emit(list(_btfs(btf)), structs))
    build, archive = modules / os.uname().release / "build", kernel / "kheaders.tar.xz"
    if not build.is_dir() and not archive.exists():
        raise HeaderError(
            f"nothing tells the types of this kernel: no {kernel / 'btf/vmlinux'}, no {build}, no {archive}; "
            "boot a kernel with CONFIG_DEBUG_INFO_BTF, or install its headers"
        )
    real = kept("real", wanted, lambda folder: _write(folder, {"own/vmlinux.h": _real_types(structs)}))
    if build.is_dir():
        return Headers(real / "own", None, str(build))
    stamp = f"{os.uname().release} {os.uname().version} {archive.stat().st_size}".encode()
    return Headers(real / "own", kept("kheaders", stamp, lambda folder: _unpack(archive, folder)), "kheaders")


def _tree(source: str, key: bytes, types: Callable[[], str]) -> Headers:
    """The tree of our own: `include` has what bcc asks for, `own` has what C files of hopline ask for."""
    files = {f"include/{path.relative_to(STUBS).as_posix()}": path.read_text() for path in sorted(STUBS.rglob("*.h"))}
    files["include/linux/version.h"] = version_header(os.uname().release)
    code = _digest(*(path.read_bytes() for path in sorted(HERE.glob("*.py"))))  # other code writes other trees
    tree = kept("headers", _digest(key, code, repr(files).encode()), lambda folder: _write(folder, {**files, "own/vmlinux.h": types()}))
    return Headers(tree / "own", tree, source)


def _btfs(contents: Mapping[str, bytes]) -> Iterator[Btf]:
    """The kernel's own types, then those of its modules."""
    vmlinux = Btf(contents["vmlinux"], "vmlinux")
    yield vmlinux
    yield from (Btf(content, name, vmlinux) for name, content in contents.items() if name != "vmlinux")


def _real_types(structs: Wanted) -> str:
    unknown = [name for name in structs if name not in REAL_HEADERS]
    if unknown:
        raise HeaderError(f"without BTF, nothing is known of {', '.join(unknown)}: boot a kernel with CONFIG_DEBUG_INFO_BTF")
    return REGISTERS + "".join(f"#include <{header}>\n" for header in dict.fromkeys(REAL_HEADERS[name] for name in structs))


def version_header(release: str) -> str:
    """linux/version.h for what `uname -r` says. Kernels before 5.0 refuse kprobes built for another one (kernel commit 6c4fc209fcf9)."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    numbers = ", ".join(part or "0" for part in found.groups()) if found else "0, 0, 0"
    macro = "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))"
    return f"{macro}\n#define LINUX_VERSION_CODE KERNEL_VERSION({numbers})\n"


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder)  # noqa: S202 - the kernel's own


def _digest(*parts: bytes) -> bytes:
    return b"".join(hashlib.sha256(part).digest() for part in parts)
