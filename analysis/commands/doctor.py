"""`hopline doctor`: what this machine lacks for each feature.

Every check tries the thing itself, or looks where the kernel shows it; none asks for a version, and none leaves anything behind.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from analysis.commands.output import printing

EXIT_LACKING = 1
ROOT = Path("/")  # where /proc and /sys are looked for
TOOL_SECONDS = 20

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

    Changes nothing: eBPF programs are loaded for a moment. Exit codes: 0 offline tracing works, 1 it does not; live features may be missing
    either way.
    """
    verdicts = [_verdict(feature, works, check) for feature, works, check in FEATURES]
    with printing():
        if as_json:
            typer.echo(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
        else:
            _print(verdicts)
    if not verdicts[0].ok:
        raise typer.Exit(EXIT_LACKING)


def _verdict(feature: str, works: str | Callable[[], str], check: Callable[[], Iterator[Lack]]) -> Verdict:
    try:
        lacks = list(check())
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the finding
        lacks = [Lack(f"{type(error).__name__}: {error}", "pip install --force-reinstall hopline")]
    why = "; ".join(lack.why for lack in lacks)
    return Verdict(
        feature, not lacks, why or (works if isinstance(works, str) else works()), " && ".join(dict.fromkeys(lack.fix for lack in lacks))
    )


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
    from probes import code_folders  # noqa: PLC0415
    from probes.capture import read_capture  # noqa: PLC0415
    from probes.schema import size  # noqa: PLC0415

    if size(read_capture(io.BytesIO(TINY_CAPTURE), "doctor.pcap", "doctor").observations) != 1:
        yield Lack("a capture of one packet was not read", "pip install --force-reinstall hopline")
    folders, kept = code_folders.code_folders()
    if code_folders.started and kept is None:
        places = " or ".join(str(folder.parent) for folder in folders)
        yield Lack(f"every command compiles for half a minute: {places} cannot be written", "export NUMBA_CACHE_DIR=$(mktemp -d)")


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


def _requests() -> Iterator[Lack]:
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


def _deep() -> Iterator[Lack]:
    yield from _requests()
    yield from _module("pyshark", "pip install 'hopline[explain]'")


def _recording(probe: str) -> Callable[[], Iterator[Lack]]:
    """The check of one probe of `hopline record`."""

    def check() -> Iterator[Lack]:
        from probes.live.features import NEEDS, REMEDIES, REMEDY  # noqa: PLC0415

        needs = NEEDS[probe]
        lacks = [*_capabilities(needs.capabilities), *(_bcc() if "CAP_BPF" in needs.capabilities else ())]
        yield from lacks
        for feature in () if lacks else needs.features:  # nothing can be tried without permission
            if why := _tried()[feature]:
                yield Lack(f"{feature}: {why}", REMEDIES.get(feature, REMEDY))

    return check


def _recorded(probe: str) -> Callable[[], str]:
    """What a probe that works does not get here."""

    def works() -> str:
        from probes.live.features import NEEDS  # noqa: PLC0415
        from probes.live.refusals import lacking  # noqa: PLC0415

        better = NEEDS[probe].better
        missing = {each: f"{each} missing" for each in lacking([name for name in better if name.startswith("CAP_")], ROOT)}
        missing |= {each: f"{each}: {_tried()[each]}" for each in better if not each.startswith("CAP_") and _tried()[each]}
        return "; ".join(["works", *(f"without {better[each]} ({why})" for each, why in missing.items())])

    return works


@cache
def _tried() -> Mapping[str, str | None]:
    from probes.live.features import tried  # noqa: PLC0415

    return tried(ROOT)


def _bcc() -> Iterator[Lack]:
    spec = importlib.util.find_spec("bcc")
    if spec is None:
        yield Lack("bcc cannot be imported", _GET_BCC)
    elif not any((Path(place) / "libbcc.py").exists() for place in spec.submodule_search_locations or ()):
        yield Lack("the bcc that is installed is PyPI's, which is something else", f"pip uninstall bcc && {_GET_BCC}")


_GET_BCC = "apt install python3-bpfcc && python3 -m venv --system-site-packages .venv"


def _ipvs() -> Iterator[Lack]:
    if not (ROOT / "proc/net/ip_vs").exists():
        yield Lack("ip_vs is not loaded (needed only where kube-proxy runs in IPVS mode)", "modprobe ip_vs")


def _module(name: str, fix: str) -> Iterator[Lack]:
    if importlib.util.find_spec(name) is None:
        yield Lack(f"{name} cannot be imported by {sys.executable}", fix)


def _capabilities(wanted: Iterable[str]) -> Iterator[Lack]:
    from probes.live.refusals import lacking  # noqa: PLC0415

    if missing := lacking(wanted, ROOT):
        yield Lack(f"not permitted: {', '.join(missing)}", "run as root, in a container with these capabilities added")


FEATURES: tuple[tuple[str, str | Callable[[], str], Callable[[], Iterator[Lack]]], ...] = (  # the first decides the exit code
    ("offline tracing", "compiles and decodes", _tracing),
    ("compressed captures", "gzip and Zstandard", _compressed),
    ("Parquet", "pandas and pyarrow", _parquet),
    ("cluster snapshot, watch", "kubernetes client and credentials", _cluster),
    ("requests in connections", "tshark", _requests),
    ("deep look at packets", "tshark and pyshark", _deep),
    *(
        (f"record {probe}", _recorded(probe), _recording(probe))
        for probe in ("packets", "ledger", "sockets", "threads", "drops", "natpath", "confirm")
    ),
    ("IPVS", "ip_vs loaded", _ipvs),
)
