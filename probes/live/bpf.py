"""The one door to bcc: compile a program's C file, load its functions, attach them, reach its maps.

    with Program(Path("drops.c"), {"RING_BYTES": 1 << 20}, structs={"sk_buff": ("len", "head")}) as program:
        program.attach_raw_tracepoint("dropped", "kfree_skb")

`structs` names the kernel types that the C file gets from `#include <vmlinux.h>` (see headers/emit.py).
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from probes.live.attach import attach_cgroup, attach_kprobe, attach_raw_tracepoint
from probes.live.headers import BtfError, HeaderError, Headers, Wanted, header_tree
from probes.live.refusals import BpfError, lacking, refusal

__all__ = ["KINDS", "BpfError", "Kind", "Program"]


class Kind(NamedTuple):
    """A kind of program: the kernel's enum bpf_prog_type and bpf_attach_type (-1: none), and the capabilities that loading it takes."""

    type: int
    attach_type: int = -1
    needs: tuple[str, ...] = ("CAP_BPF",)


_TRACING, _NETWORK = ("CAP_BPF", "CAP_PERFMON"), ("CAP_BPF", "CAP_NET_ADMIN")
# Names as libbpf's sections have them; numbers of include/uapi/linux/bpf.h.
KINDS = {
    "socket_filter": Kind(1), "kprobe": Kind(2, -1, _TRACING), "raw_tracepoint": Kind(17, -1, _TRACING), "sched_cls": Kind(3, -1, _NETWORK),
    "ingress": Kind(8, 0), "egress": Kind(8, 1), "sock_create": Kind(9, 2, _NETWORK), "sock_release": Kind(9, 34, _NETWORK),
    "sock_ops": Kind(13, 3, _NETWORK), "connect4": Kind(18, 10, _NETWORK), "connect6": Kind(18, 11, _NETWORK),
    "sendmsg4": Kind(18, 14, _NETWORK), "sendmsg6": Kind(18, 15, _NETWORK), "recvmsg4": Kind(18, 19, _NETWORK),
    "recvmsg6": Kind(18, 20, _NETWORK), "post_bind4": Kind(9, 12, _NETWORK), "post_bind6": Kind(9, 13, _NETWORK),
}  # fmt: skip

_INSTALL = "apt install python3-bpfcc, in an environment with system site packages"


class Program:
    """A compiled C file. Its maps, functions and attachments live until it is closed, or the process ends in any way."""

    def __init__(self, source: Path, defines: Mapping[str, int] | None = None, structs: Wanted | None = None) -> None:
        """Compile `source` with `-DNAME=VALUE` for `defines` and the kernel's `structs`. BpfError where that cannot be done."""
        bcc = _bcc()
        try:
            found: Headers = header_tree(structs)
        except (BtfError, HeaderError) as error:
            raise BpfError(f"{source.name}: {error}") from error
        self.headers = found.source  # where the kernel's types came from
        self._attached: dict[int, None] = {}
        self._kinds: dict[str, str] = {}
        # bcc loads a module for headers (modprobe kheaders) only where it is told of none and finds none: header_tree rules that out
        os.environ.pop("BCC_KERNEL_SOURCE", None)
        if found.kernel_source:
            os.environ["BCC_KERNEL_SOURCE"] = str(found.kernel_source)
        text = source.read_bytes()
        flags = [f"-D{name}={value}" for name, value in (defines or {}).items()]
        folders = [f"-I{folder}" for folder in (found.include, source.parent.absolute(), Path(__file__).parent.absolute())]
        # bcc searches the working directory before all folders: it must not be one in which others can leave a header
        with chdir(found.include), _stderr() as said:
            try:
                self._bpf: Any = bcc.BPF(text=text, cflags=[*flags, *folders])
            except Exception as error:  # bcc raises nothing more particular
                log = _read(said)
                if "could not open bpf map" in log and lacking(["CAP_BPF"]):
                    raise refusal(f"a map of {source.name}", errno.EPERM, ["CAP_BPF"]) from error
                raise BpfError(f"{source.name} does not compile for this kernel: {_first_error(log) or error}") from error

    def load(self, function: str, kind: str) -> int:
        """The file descriptor of `function`, loaded as one of KINDS. BpfError where the verifier or the kernel's policy refuses."""
        number, attach_type, needs = KINDS[kind]
        if self._kinds.get(function, kind) != kind:  # bcc would give the same program again
            raise BpfError(f"{function} is loaded as {self._kinds[function]} already: give {kind} a function of its own")
        with _stderr() as said:
            try:
                program = int(self._bpf.load_func(function.encode(), number, attach_type=attach_type).fd)
            except Exception as error:
                raise refusal(f"{function} ({kind})", ctypes.get_errno(), needs, _read(said)) from error
        self._kinds[function] = kind
        return program

    def attach_raw_tracepoint(self, function: str, tracepoint: str) -> int:
        """Load `function` and run it at every `tracepoint`, which gives it the tracepoint's arguments. For `detach`: the attachment."""
        return self._keep(attach_raw_tracepoint(self.load(function, "raw_tracepoint"), tracepoint))

    def attach_kprobe(self, function: str, kernel_function: str) -> int:
        """Load `function` and run it at every entry of `kernel_function`."""
        return self._keep(attach_kprobe(self.load(function, "kprobe"), kernel_function))

    def attach_kretprobe(self, function: str, kernel_function: str) -> int:
        """Load `function` and run it at every return of `kernel_function`."""
        return self._keep(attach_kprobe(self.load(function, "kprobe"), kernel_function, at_return=True))

    def attach_cgroup(self, function: str, kind: str, cgroup: Path) -> int:
        """Load `function` and run it for everything in `cgroup`, a folder of cgroup v2, beside whatever others have attached there."""
        return self._keep(attach_cgroup(self.load(function, kind), KINDS[kind].attach_type, cgroup))

    def detach(self, attachment: int) -> None:
        """End one attachment."""
        del self._attached[attachment]
        os.close(attachment)

    def detach_all(self) -> None:
        """End all attachments, the last one first."""
        for attachment in reversed(list(self._attached)):
            self.detach(attachment)

    def map(self, name: str) -> Any:
        """The map of that name, as bcc has it: `map_fd`, item access."""
        return self._bpf[name.encode()]

    def close(self) -> None:
        """Detach everything, and give back functions and maps. Once is enough; twice does no harm."""
        self.detach_all()
        if self._bpf is not None:
            atexit.unregister(self._bpf.cleanup)
            self._bpf.cleanup()
            self._bpf = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, attachment: int) -> int:
        self._attached[attachment] = None
        return attachment


def _bcc() -> Any:
    try:
        import bcc  # noqa: PLC0415 - Debian's package, on live nodes only
    except ImportError as error:
        raise BpfError(f"bcc cannot be imported: {_INSTALL}") from error
    if not hasattr(bcc, "BPF"):
        raise BpfError(f"the bcc that is installed is PyPI's, which is something else: pip uninstall bcc, then {_INSTALL}")
    return bcc


@contextmanager
def _stderr() -> Iterator[BinaryIO]:
    """What libbcc and clang write to the process's standard error, instead of showing it."""
    with tempfile.TemporaryFile() as said:
        shown = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def _read(said: BinaryIO) -> str:
    said.seek(0)
    return said.read().decode(errors="replace")


def _first_error(log: str) -> str:
    return next((line.strip() for line in log.splitlines() if "error:" in line), "")
