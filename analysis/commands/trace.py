"""`hopline trace`: every request's path across proxies and NAT."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.commands.options import (
    EXIT_INPUT,
    EXIT_OUTPUT,
    EXIT_PROBLEMS,
    EXIT_USAGE,
    Cluster,
    Keys,
    MinConfidence,
    NoCluster,
    NoLedger,
    NoRules,
    Paths,
    fail,
    find_requests,
    load,
)  # fmt: skip
from analysis.commands.snapshot import quiet_pipe, write_whole

if TYPE_CHECKING:
    from tracer.requests import RequestTrace
    from tracer.trace import Trace

Record = dict[str, Any]

PROTOCOLS = (  # what a record's protocol can be; a test compares
    "tcp", "udp", "sctp", "icmp", "icmpv6", "http", "http2", "grpc", "websocket", "dns", "tls", "mysql", "postgresql", "redis", "kafka",
    "mongodb", "amqp", "nats", "exchange",
)  # fmt: skip
STATUSES = ("open", "closed", "refused", "timeout", "reset")  # tracer.status, whose import is slow; a test compares
ON_A_SCREEN = 200  # rows printed where somebody looks, unless --limit says otherwise


def trace(
    paths: Paths,
    cluster: Cluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per request and line (docs/output.md).")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="DIR", help="Write the tables as Parquet into this new folder.")
    ] = None,
    summary: Annotated[Path | None, typer.Option("--summary", metavar="FILE", help="Write what was and was not seen, as JSON.")] = None,
    l4_only: Annotated[bool, typer.Option("--l4-only", help="Connections only: fast, and needs no tshark.")] = False,
    min_confidence: MinConfidence = 0.9,
    keys: Keys = None,
    pod: Annotated[str | None, typer.Option(help="Only this pod's: NAME, NAMESPACE/NAME, a trailing * matches any rest.")] = None,
    service: Annotated[str | None, typer.Option(help="Only requests to this Service: NAME, NAMESPACE/NAME, trailing *.")] = None,
    node: Annotated[str | None, typer.Option(help="Only what was seen on this node.")] = None,
    address: Annotated[str | None, typer.Option(help="Only what has this address before or after NAT.")] = None,
    port: Annotated[int | None, typer.Option(help="Only what has this port before or after NAT.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol: http, dns, mysql, tcp, udp …")] = None,
    operation: Annotated[str | None, typer.Option(help="Only this operation: 'GET /items', trailing * ('GET *').")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only this status: 200, '5*', NXDOMAIN, refused, timeout, reset, closed, open.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was there after: ISO time, epoch seconds, or +SECONDS from the start.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what began before: like --since.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Rows to print, 0 for all. Default: 200 on a screen, else all.")] = None,
    no_ledger: NoLedger = False,
    no_rules: NoRules = False,
    no_cluster: NoCluster = False,
) -> None:
    """Show every request's path across proxies, DNAT, SNAT, tunnels and nodes, named by Kubernetes metadata as it was at that moment.

    Requests inside connections (HTTP, gRPC, DNS, MySQL and others) are read by Wireshark's tshark; each is shown under the one that it was
    made for. A connection whose requests cannot be read is shown as one.

    Examples:
      hopline trace bundle/

      hopline trace node-a.pcap node-b.pcap --cluster cluster.json --service shop/web --status '5*'

      hopline trace bundle/ --json | jq 'select(.latency.total_ns > 100e6)'

      ssh node-a tcpdump -i any -w - | hopline trace - --l4-only --limit 20

    Nothing in the input is ever changed. Exit codes: 0 done, 1 done but some input could not be read at all, 2 wrong usage, 3 nothing to
    read, 4 output cannot be written.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        fail(f"--protocol {protocol}: not one of {', '.join(PROTOCOLS)}", EXIT_USAGE)
    if status is not None and (l4_only or re.fullmatch("[a-z]+", status)) and status not in (*STATUSES, *([] if l4_only else ["ok"])):
        others = "" if l4_only else ", ok, nor a code as its protocol has it (200, '5*', NXDOMAIN, 'error *')"
        fail(f"--status {status}: not one of {', '.join(STATUSES)}{others}", EXIT_USAGE)
    for target in (parquet, summary):
        if target is not None and target.exists():
            fail(f"{target} exists (name another, or remove it)", EXIT_USAGE)
    from analysis.filters import Filters  # noqa: PLC0415 - imports are slow, --help is not
    from tracer.trace import trace as run  # noqa: PLC0415

    traced = run(load(paths, cluster, no_ledger=no_ledger, no_rules=no_rules, no_cluster=no_cluster, keep_input=not l4_only))
    shown = _connections(traced) if l4_only else _requests(find_requests(traced, keys), min_confidence)
    told = shown.told
    first_ns = told["first_ns"] or 0
    asked = Filters(
        pod, service, node, address, port, protocol, status, operation, _moment("--since", since, first_ns),
        _moment("--until", until, first_ns),
    )  # fmt: skip
    chosen = [record for record in shown.records if asked.accept(record)]
    if summary is not None:
        _write_summary(summary, told)
    if parquet is not None:
        _write_parquet(parquet, shown)
    if as_json:
        _print_json(chosen if not limit else chosen[:limit], told)
    else:
        _print_table(chosen, shown, limit, paths)
    if not told["captures"] or all(not each["frames"] for each in told["captures"].values()):
        fail("no packets could be read", EXIT_INPUT)
    if any(problem["severity"] == "error" for problem in told["problems"]):
        raise typer.Exit(EXIT_PROBLEMS)


def _moment(option: str, text: str | None, first_ns: int) -> int | None:
    from analysis.filters import moment  # noqa: PLC0415

    try:
        return None if text is None else moment(text, first_ns)
    except ValueError:
        fail(
            f"{option} {text}: not a time (give 2026-11-23T05:24:34, epoch seconds, or +1.5 for seconds after the first packet)", EXIT_USAGE
        )


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a run shows: records, what was and was not seen, and how deep below its root each request is (None: they are connections)."""

    traced: Trace
    records: list[Record]
    connections: list[Record]
    told: Record
    depths: dict[str, int] | None


def _connections(traced: Trace) -> _Shown:
    from analysis.records import Recorder  # noqa: PLC0415
    from analysis.summary import summarise  # noqa: PLC0415

    records = list(Recorder(traced))
    return _Shown(traced, records, records, summarise(traced, records), None)


def _requests(found: RequestTrace, min_confidence: float) -> _Shown:
    from analysis.requests import RequestRecorder  # noqa: PLC0415
    from analysis.summary import summarise, summarise_requests  # noqa: PLC0415

    recorder = RequestRecorder(found, min_confidence)
    records, connections = list(recorder), recorder.connection_records
    told = summarise(found.trace, connections) | {"requests": summarise_requests(found, records)}
    depths: dict[str, int] = {}
    for record in records:
        depths[record["id"]] = 0 if record["parent"] is None else depths[record["parent"]] + 1
    return _Shown(found.trace, records, connections, told, depths)


def _write_summary(path: Path, told: Record) -> None:
    try:
        write_whole(path, [json.dumps(told, indent=2), "\n"], force=False)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror} (check the folder and its free space)", EXIT_OUTPUT)


def _write_parquet(folder: Path, shown: _Shown) -> None:
    from analysis.frames import frames, from_records  # noqa: PLC0415
    from analysis.parquet import write_parquet  # noqa: PLC0415
    from analysis.summary import not_seen  # noqa: PLC0415
    from tracer.requests import trace_requests, without_requests  # noqa: PLC0415

    try:
        if shown.depths is None:
            made = frames(trace_requests(shown.traced, wanted=without_requests(shown.traced)))
        else:
            made = from_records(shown.connections, shown.records, not_seen(shown.told))
        write_parquet(folder, made)
    except OSError as error:
        fail(f"{folder} cannot be written: {error.strerror or error} (check the folder and its free space)", EXIT_OUTPUT)


def _print_json(records: list[Record], told: Record) -> None:
    from analysis.terminal import console, print_problems  # noqa: PLC0415

    print_problems(console(stderr=True), told)
    with quiet_pipe():
        for record in records:
            sys.stdout.write(json.dumps(record))  # ASCII: what a pod is called cannot steer a terminal
            sys.stdout.write("\n")
        sys.stdout.flush()


def _print_table(records: list[Record], shown: _Shown, limit: int | None, paths: list[Path]) -> None:
    from analysis.request_table import request_table  # noqa: PLC0415
    from analysis.terminal import connection_table, console, plain, print_header  # noqa: PLC0415

    out = console()
    rows = len(records) if limit == 0 else limit if limit is not None else ON_A_SCREEN if out.is_terminal else len(records)
    first_ns, some = shown.told["first_ns"] or 0, records[:rows]
    with quiet_pipe():
        print_header(out, shown.told)
        out.print()
        out.print(
            connection_table(some, first_ns, out.width) if shown.depths is None else request_table(some, shown.depths, first_ns, out.width)
        )
        if len(records) > rows:
            out.print(f"{len(records) - rows:,} more: --limit 0 prints all, filters (--service, --pod, --status …) choose")
        if records and len(paths) == 1 and paths[0] != Path("-"):
            verb = "show" if shown.depths is None else "explain"
            out.print(f"hopline {verb} {plain(shlex.quote(str(paths[0])))} {records[0]['id']}  tells all about one of them", style="dim")
