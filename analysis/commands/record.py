"""`hopline record`: what this node's kernel sees, as a bundle."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from analysis.commands.options import EXIT_OUTPUT, EXIT_PROBLEMS, EXIT_USAGE, fail
from analysis.commands.watch import stopping

if TYPE_CHECKING:
    from probes.live.recorder import Recorder, Recording

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)")


def size_bytes(text: str, option: str) -> int:
    """Bytes of "64M", "1.5GiB", "4096"; ends with EXIT_USAGE otherwise."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        fail(f"{option} {text}: no size (give bytes, or a number with K, M, G or T)", EXIT_USAGE)
    return int(float(found[1]) * UNITS[found[2].lower()])


def span_seconds(text: str, option: str) -> float:
    """Seconds of "60s", "1.5m", "2h", "90"; ends with EXIT_USAGE otherwise."""
    found = _SPAN.fullmatch(text.strip())
    if not found:
        fail(f"{option} {text}: no duration (give seconds, or a number with ms, s, m or h)", EXIT_USAGE)
    return float(found[1]) * SECONDS[found[2]]


def record(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Bundle folder to write into; made where it is missing.")],
    duration: Annotated[str | None, typer.Option("--duration", metavar="TIME", help="60s, 5m, 1h. Default: until Ctrl-C.")] = None,
    start_at: Annotated[
        float | None, typer.Option("--start-at", metavar="UNIX_SECONDS", help="Be ready now, begin then (for nodes in step).")
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", help="This node's name in the cluster. Default: $NODE_NAME, else the host's.")
    ] = None,
    netns: Annotated[
        list[str] | None,
        typer.Option("--netns", metavar="GLOB", help="Also these namespaces, as they come and go: '/run/netns/cni-*'. Repeatable."),
    ] = None,
    tc: Annotated[
        list[str] | None,
        typer.Option("--tc", metavar="IFACE", help="See that interface by a TC program, where no other is. Repeatable."),
    ] = None,
    net: Annotated[list[str] | None, typer.Option("--net", metavar="CIDR", help="Only packets from or to there. Repeatable.")] = None,
    port: Annotated[
        list[int] | None, typer.Option("--port", min=0, max=65535, help="Only packets from or to that port. Repeatable.")
    ] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", metavar="ADDR:PORT", help="Only packets from or to there. Repeatable.")
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service", metavar="NS/NAME", help="Only packets of that Service, before and after NAT; needs --cluster. Repeatable."
        ),
    ] = None,
    cluster: Annotated[
        list[Path] | None, typer.Option("--cluster", metavar="FILE", help="Cluster metadata to look Services up in.")
    ] = None,
    headers_only: Annotated[bool, typer.Option("--headers-only", help="No payload: times and paths, but no requests.")] = False,
    payload_bytes: Annotated[
        int | None, typer.Option("--payload-bytes", min=0, max=3500, help="Payload kept of each packet. Default: 1024.")
    ] = None,
    sample: Annotated[
        float, typer.Option("--sample", min=0.0, max=1.0, help="Share of the connections to keep, the same ones on every node.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Which share: nodes with one seed keep the same connections.")] = 0,
    probes: Annotated[
        str, typer.Option("--probes", metavar="LIST", help="See `hopline doctor` for what this node allows.")
    ] = "packets,ledger",
    no_ledger_events: Annotated[
        bool, typer.Option("--no-ledger-events", help="One conntrack dump at the end instead of its events, while latency is measured.")
    ] = False,
    no_rules: Annotated[bool, typer.Option("--no-rules", help="Do not read kube-proxy's rules.")] = False,
    max_cpu: Annotated[
        float | None, typer.Option("--max-cpu", metavar="PERCENT", min=0.1, help="Of one core; above it, fewer connections are kept.")
    ] = None,
    max_memory: Annotated[str | None, typer.Option("--max-memory", metavar="SIZE", help="Likewise, of resident memory: 512M.")] = None,
    buffer: Annotated[str, typer.Option("--buffer", metavar="SIZE", help="Kernel memory for packets that wait to be written.")] = "64M",
    max_disk: Annotated[str | None, typer.Option("--max-disk", metavar="SIZE", help="Of all files together: 2G.")] = None,
    when_full: Annotated[Literal["delete", "stop"], typer.Option("--when-full", help="Delete the oldest segment, or stop.")] = "delete",
    segment_bytes: Annotated[str, typer.Option("--segment-bytes", metavar="SIZE", help="A new file after so much,")] = "64M",
    segment_seconds: Annotated[str, typer.Option("--segment-seconds", metavar="TIME", help="or after so long.")] = "60s",
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="ADDR:PORT", help="Serve /metrics (Prometheus), /healthz and /readyz.")
    ] = None,
    log: Annotated[Literal["text", "json"], typer.Option("--log", help="How to tell what happens, on standard error.")] = "text",
) -> None:
    """Record this node's packets and translations into a bundle.

    Nothing is changed on the node. An eBPF socket filter looks at every packet of the node's network namespace and copies the first bytes
    of those that are wanted; conntrack tells its translations. Needs root, or the capabilities that `hopline doctor` names.

    Examples:
      hopline record -o bundle/ --duration 60s
      hopline record -o bundle/ --service shop/web --cluster cluster.json --max-cpu 20 --max-disk 2G
      hopline record -o bundle/ --port 53 --sample 0.1 --headers-only

    Then: hopline trace bundle/

    Exit codes: 0 recorded, 1 nothing could be recorded here, 2 wrong usage, 4 the folder cannot be written.
    """
    from probes.live.overhead import Ceiling  # noqa: PLC0415 - imports are slow
    from probes.live.packets.selection import PAYLOAD_BYTES, Selection  # noqa: PLC0415
    from probes.live.probe_table import PROBES  # noqa: PLC0415
    from probes.live.recorder import Recording  # noqa: PLC0415
    from probes.live.segments import Limits  # noqa: PLC0415

    wanted = tuple(dict.fromkeys(name.strip() for name in probes.split(",") if name.strip()))
    if unknown := [name for name in wanted if name not in PROBES] or ([] if wanted else ["nothing"]):
        fail(f"--probes {', '.join(unknown)}: there is no such probe (there are {', '.join(PROBES)})", EXIT_USAGE)
    if headers_only and payload_bytes:
        fail("--headers-only keeps no payload: give it or --payload-bytes", EXIT_USAGE)
    ceiling = Ceiling(max_cpu, None if max_memory is None else size_bytes(max_memory, "--max-memory"))
    selection = Selection(
        nets=tuple(_net(each) for each in net or ()),
        ports=tuple(port or ()),
        endpoints=tuple(dict.fromkeys([*map(_endpoint, endpoint or ()), *_of_services(service or [], cluster or [])])),
        payload_bytes=0 if headers_only else PAYLOAD_BYTES if payload_bytes is None else payload_bytes,
        share=sample,
        seed=seed,
        may_shed=ceiling.given,
    )
    asked = Recording(
        output, node or os.environ.get("NODE_NAME") or socket.gethostname(), wanted, selection, tuple(netns or ()), tuple(tc or ()),
        not no_ledger_events, not no_rules, ceiling, None if max_disk is None else size_bytes(max_disk, "--max-disk"), when_full,
        size_bytes(buffer, "--buffer"),
        Limits(size_bytes(segment_bytes, "--segment-bytes"), int(span_seconds(segment_seconds, "--segment-seconds") * 1e9)),
    )  # fmt: skip
    seconds = None if duration is None else span_seconds(duration, "--duration")
    _run(asked, seconds, start_at, listen, _sayer(log), quiet=log == "json" or not sys.stderr.isatty())


def _net(text: str) -> str:
    import ipaddress  # noqa: PLC0415

    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        fail(f"--net {text}: {error} (give a prefix such as 10.244.0.0/16)", EXIT_USAGE)


def _endpoint(text: str) -> tuple[str, int]:
    from ipaddress import ip_address  # noqa: PLC0415

    address, _, port = text.rpartition(":")
    try:
        found = str(ip_address(address.strip("[]"))), int(port)
    except ValueError:
        found = ("", 0)
    if not 0 < found[1] < 1 << 16:
        fail(f"--endpoint {text}: no address and port (give 10.96.0.10:53, or [fd00::10]:53)", EXIT_USAGE)
    return found


def _of_services(names: list[str], files: list[Path]) -> Iterator[tuple[str, int]]:
    """The addresses and ports of Services, as cluster metadata has them."""
    if not names:
        return
    if not files:
        fail("--service needs --cluster FILE to look it up in (hopline snapshot -o cluster.json makes one)", EXIT_USAGE)
    from tracer.cluster import read_cluster  # noqa: PLC0415
    from tracer.cluster.reach import service_reach  # noqa: PLC0415

    timeline, problems = read_cluster(files)
    for name in names:
        namespace, _, service = name.rpartition("/")
        found = service_reach(timeline, namespace or "default", service)
        if found is None:
            told = "; ".join(f"{problem.file}: {problem.what}" for problem in problems)
            fail(f"--service {name}: no such Service in {', '.join(map(str, files))}{f' ({told})' if told else ''}", EXIT_USAGE)
        yield from found


def _sayer(log: str) -> Callable[..., None]:
    """Tells an event: a JSON object per line, or words."""
    if log == "text":
        return _say_in_words
    from analysis.commands.logs import json_sayer  # noqa: PLC0415

    return json_sayer()


def _say_in_words(event: str, **told: Any) -> None:
    line = TOLD[event](told) if event in TOLD else None
    if line:
        typer.echo(f"hopline: {line}", err=True)


TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "recording": lambda told: f"recording {', '.join(told['probes'])} of node {told['node']} into {told['folder']} (Ctrl-C ends it)",
    "unavailable": lambda told: f"no {told['probe']}: {told['why']}",
    "failed": lambda told: f"{told['probe']} ended early: {told['why']}",
    "gap": lambda told: told["told"],
    "share": lambda told: f"{told['share']:.2%} of the connections are kept from now on: {told['limit']} stood at {told['value']:g}",
    "clock-step": lambda told: f"the clock was set by {told['by_ns'] / 1e9:+.3f} s: this recording's times go on as before",
    "done": lambda told: (
        f"{told['seen']:,} packets seen = {told['written']:,} written + {told['dropped']:,} dropped"
        + (f"; {told['left_out']:,} more were not asked for" if told["left_out"] else "")
        + f"; {told['bytes'] / 1e6:,.1f} MB in {told['folder']}"
    ),
}


def _run(
    asked: Recording, seconds: float | None, start_at: float | None, listen: str | None, say: Callable[..., None], *, quiet: bool
) -> None:  # fmt: skip
    from probes.live.recorder import AlreadyRecordingError, NothingToRecordError, Recorder  # noqa: PLC0415

    with stopping(None) as stop, contextlib.ExitStack() as stack:
        try:
            recorder = Recorder(asked, say)
        except NothingToRecordError as error:
            fail(f"nothing can be recorded here: {error} (hopline doctor says what this machine lacks)", EXIT_PROBLEMS)
        except AlreadyRecordingError as error:
            fail(str(error), EXIT_USAGE)
        except OSError as error:
            fail(f"{asked.folder} cannot be written: {error.strerror or error} (check the folder and its free space)", EXIT_OUTPUT)
        if listen is not None:
            stack.callback(_serve(listen, recorder).close)
        if start_at is not None:
            stop.wait(max(0.0, start_at - time.time()))
        say("recording", probes=list(recorder.probes), node=asked.node, folder=str(asked.folder))
        show = stack.enter_context(_bar(seconds)) if not quiet else None
        recorder.run(stop, seconds, lambda: _progress(recorder, say, show))
        account = recorder.close()
    packets = account["packets"]
    all_, selection, file = (packets.get(stage, {}) for stage in ("all", "selection", "file"))
    say(
        "done", folder=str(asked.folder), seen=all_.get("seen", 0), written=all_.get("written", 0), dropped=all_.get("dropped", 0),
        left_out=selection.get("left_out", 0), bytes=file.get("bytes", 0), account=account,
    )  # fmt: skip


def _progress(recorder: Recorder, say: Callable[..., None], show: Callable[[str], None] | None) -> None:
    stages = recorder.account()["packets"]
    counts = stages.get("all", {"seen": 0, "written": 0, "dropped": 0})
    if show:
        show(f"{counts['written']:,} packets written, {counts['dropped']:,} dropped, {recorder.overhead.cpu_percent:.0f} % of a core")
    say(
        "progress", seen=counts["seen"], written=counts["written"], dropped=counts["dropped"],
        bytes=stages.get("file", {}).get("bytes", 0), cpu_percent=round(recorder.overhead.cpu_percent, 1), share=recorder.overhead.share,
    )  # fmt: skip


@contextlib.contextmanager
def _bar(seconds: float | None) -> Iterator[Callable[[str], None]]:
    """A line that shows what is said to it, and how much of the time is over."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    clocks = (TimeElapsedColumn(),) if seconds is None else (BarColumn(), TimeRemainingColumn())
    with Progress(*clocks, TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=seconds)
        begun = time.monotonic()
        yield lambda text: bars.update(task, description=text, completed=time.monotonic() - begun)


def _serve(listen: str, recorder: Recorder) -> Any:
    from probes.live.metrics import Endpoint, Family, probe_counters  # noqa: PLC0415

    def families() -> list[Family]:
        overhead = recorder.overhead
        gauges = {
            "hopline_kept_share": ("Share of the connections that is kept.", overhead.share),
            "hopline_cpu_percent": ("Of one core, socket filters included.", overhead.cpu_percent),
            "hopline_resident_bytes": ("Memory of this process.", float(overhead.memory_bytes)),
        }
        return [
            probe_counters(recorder.stages()),
            *(Family(name, meaning, "gauge", {(): value}) for name, (meaning, value) in gauges.items()),
        ]

    try:
        return Endpoint(listen, families)
    except ValueError as error:
        fail(f"--listen {error}", EXIT_USAGE)
    except OSError as error:
        fail(f"--listen {listen}: {error.strerror} (choose another port)", EXIT_USAGE)
