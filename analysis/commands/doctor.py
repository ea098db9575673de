"""`hopline doctor`: what this machine lacks for each feature.

Every check tries the thing itself, or looks where the kernel shows it; none asks for a version, none writes or loads anything.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

EXIT_LACKING = 1
ROOT = Path("/")  # where /proc and /sys are looked for
TOOL_SECONDS = 20
CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 13, 21, 38, 39  # include/uapi/linux/capability.h

# A pcap file with one packet: LINKTYPE_RAW, an IPv4 header of protocol 253 (RFC 3692: for experiments) and nothing in it.
TINY_CAPTURE = (
    bytes.fromhex("d4c3b2a1020004000000000000000000ffff000065000000") + bytes(8) + bytes.fromhex("1400000014000000")
    + bytes.fromhex("450000140001000040fdb0e20a0000010a000002")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that is missing: why it is needed or what was seen, and the exact remedy."""

    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the report. `fix` is empty where the feature works."""

    feature: str
    ok: bool
    why: str
    fix: str


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of {feature, ok, why, fix}.")] = False,
) -> None:
    """Say what this machine lacks for each feature, and how to get it.

    Example: hopline doctor

    Reads only. Exit codes: 0 offline tracing works, 1 it does not; live features may be missing either way.
    """
    verdicts = [_verdict(feature, works, check) for feature, works, check in FEATURES]
    if as_json:
        typer.echo(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        _print(verdicts)
    if not verdicts[0].ok:
        raise typer.Exit(EXIT_LACKING)


def _verdict(feature: str, works: str, check: Callable[[], Iterator[Lack]]) -> Verdict:
    try:
        lacks = list(check())
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the finding
        lacks = [Lack(f"{type(error).__name__}: {error}", "pip install --force-reinstall hopline")]
    why = "; ".join(lack.why for lack in lacks)
    return Verdict(feature, not lacks, why or works, " && ".join(dict.fromkeys(lack.fix for lack in lacks)))


def _print(verdicts: list[Verdict]) -> None:
    from rich import box  # noqa: PLC0415 - imports are slow, --help is not
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from analysis.terminal import console, plain  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Feature", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("Why, and what to do", overflow="fold")
    for verdict in verdicts:
        state = Text("ok", "green") if verdict.ok else Text("missing", "yellow")
        table.add_row(verdict.feature, state, Text.assemble(plain(verdict.why), ("\n" + plain(verdict.fix) if verdict.fix else "", "bold")))
    console().print(table)


def _tracing() -> Iterator[Lack]:
    try:
        from probes.capture import read_capture  # noqa: PLC0415
        from probes.schema import size  # noqa: PLC0415

        seen = size(read_capture(io.BytesIO(TINY_CAPTURE), "doctor.pcap", "doctor").observations)
    except RuntimeError as error:  # numba found no place for its cache
        yield Lack(str(error).strip().splitlines()[0], "export NUMBA_CACHE_DIR=$(mktemp -d)")
        return
    if seen != 1:
        yield Lack("a capture of one packet was not read", "pip install --force-reinstall hopline")


def _compressed() -> Iterator[Lack]:
    import zlib  # noqa: PLC0415

    import zstandard  # noqa: PLC0415

    text = b"packets" * 99
    if zlib.decompress(zlib.compress(text)) != text or zstandard.decompress(zstandard.compress(text)) != text:
        yield Lack("what was compressed did not come back", "pip install --force-reinstall zstandard")


def _parquet() -> Iterator[Lack]:
    try:
        importlib.import_module("analysis.parquet")
    except ImportError as error:
        yield Lack(f"{error.name or error} cannot be imported", "pip install 'pandas>=2.2' 'pyarrow>=17'")


def _cluster() -> Iterator[Lack]:
    yield from _module("kubernetes", "pip install kubernetes")
    configs = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name] or [Path.home() / ".kube" / "config"]
    inside = os.environ.get("KUBERNETES_SERVICE_HOST") and (ROOT / "var/run/secrets/kubernetes.io/serviceaccount/token").exists()
    if not inside and not any(os.access(path, os.R_OK) for path in configs):
        where = ", ".join(str(path) for path in configs)
        yield Lack(f"no kubeconfig at {where} and no service account of a pod", "export KUBECONFIG=/path/to/kubeconfig")


def _deep() -> Iterator[Lack]:
    tool = shutil.which("tshark")
    if tool is None:
        yield Lack("tshark is not installed", "apt install tshark")
    else:
        asked = [tool, "-r", "-", "-T", "fields", "-e", "ip.dst"]
        said = subprocess.run(asked, input=TINY_CAPTURE, capture_output=True, timeout=TOOL_SECONDS, check=False)
        if said.stdout.strip() != b"10.0.0.2":
            yield Lack(
                "tshark did not dissect a packet: " + said.stderr.decode(errors="replace").strip()[:80], "apt install --reinstall tshark"
            )
    yield from _module("pyshark", "pip install 'hopline[explain]'")


def _live() -> Iterator[Lack]:
    yield from _capabilities(("CAP_NET_RAW", CAP_NET_RAW), ("CAP_BPF", CAP_BPF))
    if not os.access(ROOT / "sys/kernel/btf/vmlinux", os.R_OK):
        yield Lack(
            "/sys/kernel/btf/vmlinux is not there: a kernel without CONFIG_DEBUG_INFO_BTF", "boot a distribution's kernel, 5.8 or newer"
        )
    spec = importlib.util.find_spec("bcc")
    if spec is None:
        yield Lack("bcc cannot be imported", _BCC)
    elif not any((Path(place) / "libbcc.py").exists() for place in spec.submodule_search_locations or ()):
        yield Lack("the bcc that is installed is PyPI's, which is something else", f"pip uninstall bcc && {_BCC}")


_BCC = "apt install python3-bpfcc && python3 -m venv --system-site-packages .venv"


def _conntrack() -> Iterator[Lack]:
    yield from _capabilities(("CAP_NET_ADMIN", CAP_NET_ADMIN))
    if not (ROOT / "proc/sys/net/netfilter/nf_conntrack_count").exists():
        yield Lack("nf_conntrack is not loaded: this machine translates nothing", "modprobe nf_conntrack_netlink")


def _kprobes() -> Iterator[Lack]:
    yield from _capabilities(("CAP_BPF", CAP_BPF), ("CAP_PERFMON", CAP_PERFMON))
    if not any(os.access(ROOT / place / "kprobe_events", os.R_OK) for place in ("sys/kernel/tracing", "sys/kernel/debug/tracing")):
        yield Lack("tracefs is not mounted or not readable", "mount -t tracefs tracefs /sys/kernel/tracing")
    lockdown = _text(ROOT / "sys/kernel/security/lockdown")
    if "[confidentiality]" in lockdown:  # kernel_lockdown(7): no kprobes, no BPF reads of kernel memory
        yield Lack("the kernel is locked down: confidentiality", "boot with lockdown=integrity")


def _ipvs() -> Iterator[Lack]:
    if not (ROOT / "proc/net/ip_vs").exists():
        yield Lack("ip_vs is not loaded (needed only where kube-proxy runs in IPVS mode)", "modprobe ip_vs")


def _module(name: str, fix: str) -> Iterator[Lack]:
    if importlib.util.find_spec(name) is None:
        yield Lack(f"{name} cannot be imported by {sys.executable}", fix)


def _capabilities(*wanted: tuple[str, int]) -> Iterator[Lack]:
    """What the process may not do: being root says nothing inside a container. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON."""
    line = next((line for line in _text(ROOT / "proc/self/status").splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    has = int(line.split()[1], 16)
    includes = {CAP_BPF, CAP_PERFMON} if has >> CAP_SYS_ADMIN & 1 else set()
    lacking = [name for name, bit in wanted if not has >> bit & 1 and bit not in includes]
    if lacking:
        yield Lack(f"not permitted: {', '.join(lacking)}", "run as root, in a container as privileged")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


FEATURES: tuple[tuple[str, str, Callable[[], Iterator[Lack]]], ...] = (  # the first decides the exit code
    ("offline tracing", "compiles and decodes", _tracing),
    ("compressed captures", "gzip and Zstandard", _compressed),
    ("Parquet", "pandas and pyarrow", _parquet),
    ("cluster snapshot, watch", "kubernetes client and credentials", _cluster),
    ("deep look at packets", "tshark and pyshark", _deep),
    ("live packets", "permitted, BTF, bcc", _live),
    ("conntrack events", "permitted, nf_conntrack loaded", _conntrack),
    ("kprobes", "permitted, tracefs, no lockdown against it", _kprobes),
    ("IPVS", "ip_vs loaded", _ipvs),
)
