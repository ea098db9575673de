"""`hopline trace`: every connection's path across NAT."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.commands.options import (
    EXIT_INPUT,
    EXIT_OUTPUT,
    EXIT_PROBLEMS,
    EXIT_USAGE,
    Cluster,
    NoCluster,
    NoLedger,
    NoRules,
    Paths,
    fail,
    load,
)  # fmt: skip
from analysis.commands.snapshot import quiet_pipe, write_whole

if TYPE_CHECKING:
    from analysis.filters import Filters

STATUSES = ("open", "closed", "refused", "timeout", "reset")  # tracer.status, whose import is slow; a test compares
PROTOCOLS = ("tcp", "udp", "sctp", "icmp", "icmpv6")
ON_A_SCREEN = 200  # rows printed where somebody looks, unless --limit says otherwise


def trace(
    paths: Paths,
    cluster: Cluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per connection and line (docs/output.md).")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="DIR", help="Write the tables as Parquet into this new folder.")
    ] = None,
    summary: Annotated[Path | None, typer.Option("--summary", metavar="FILE", help="Write what was and was not seen, as JSON.")] = None,
    pod: Annotated[str | None, typer.Option(help="Only this pod's: NAME, NAMESPACE/NAME, a trailing * matches any rest.")] = None,
    service: Annotated[str | None, typer.Option(help="Only connections to this Service: NAME, NAMESPACE/NAME, trailing *.")] = None,
    node: Annotated[str | None, typer.Option(help="Only connections seen on this node.")] = None,
    address: Annotated[str | None, typer.Option(help="Only connections with this address before or after NAT.")] = None,
    port: Annotated[int | None, typer.Option(help="Only connections with this port before or after NAT.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only tcp, udp, sctp, icmp or icmpv6.")] = None,
    status: Annotated[str | None, typer.Option(help="Only open, closed, refused, timeout or reset.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was there after: ISO time, epoch seconds, or +SECONDS from the start.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what began before: like --since.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Rows to print, 0 for all. Default: 200 on a screen, else all.")] = None,
    no_ledger: NoLedger = False,
    no_rules: NoRules = False,
    no_cluster: NoCluster = False,
) -> None:
    """Show every connection's path across DNAT, SNAT, tunnels and nodes, named by Kubernetes metadata as it was at that moment.

    Examples:
      hopline trace bundle/

      hopline trace node-a.pcap node-b.pcap --cluster cluster.json --service shop/web

      hopline trace bundle/ --json | jq 'select(.status == "refused")'

      ssh node-a tcpdump -i any -w - | hopline trace - --limit 20

    Nothing in the input is ever changed. Exit codes: 0 done, 1 done but some input could not be read at all, 2 wrong usage, 3 nothing to
    read, 4 output cannot be written.
    """
    for option, value, known in (("--status", status, STATUSES), ("--protocol", protocol, PROTOCOLS)):
        if value is not None and value not in known:
            fail(f"{option} {value}: not one of {', '.join(known)}", EXIT_USAGE)
    for target in (parquet, summary):
        if target is not None and target.exists():
            fail(f"{target} exists (name another, or remove it)", EXIT_USAGE)
    from analysis.filters import Filters  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.records import Recorder  # noqa: PLC0415
    from analysis.summary import summarise  # noqa: PLC0415
    from tracer.trace import trace as run  # noqa: PLC0415

    bundle = load(paths, cluster, no_ledger=no_ledger, no_rules=no_rules, no_cluster=no_cluster)
    traced = run(bundle)
    records = list(Recorder(traced))
    told = summarise(traced, records)
    first_ns = told["first_ns"] or 0
    asked = Filters(
        pod, service, node, address, port, protocol, status, _moment("--since", since, first_ns), _moment("--until", until, first_ns)
    )
    chosen = _select(asked, records)
    if summary is not None:
        _write_summary(summary, told)
    if parquet is not None:
        _write_parquet(parquet, traced)
    if as_json:
        _print_json(chosen if not limit else chosen[:limit], told)
    else:
        _print_table(chosen, told, limit, paths)
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


def _select(asked: Filters, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if asked.accept(record)]


def _write_summary(path: Path, told: dict[str, Any]) -> None:
    try:
        write_whole(path, [json.dumps(told, indent=2), "\n"], force=False)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror} (check the folder and its free space)", EXIT_OUTPUT)


def _write_parquet(folder: Path, traced: Any) -> None:
    from analysis.parquet import write_parquet  # noqa: PLC0415

    try:
        write_parquet(folder, traced)
    except OSError as error:
        fail(f"{folder} cannot be written: {error.strerror or error} (check the folder and its free space)", EXIT_OUTPUT)


def _print_json(records: list[dict[str, Any]], told: dict[str, Any]) -> None:
    from analysis.terminal import console, print_problems  # noqa: PLC0415

    print_problems(console(stderr=True), told)
    with quiet_pipe():
        for record in records:
            sys.stdout.write(json.dumps(record))  # ASCII: what a pod is called cannot steer a terminal
            sys.stdout.write("\n")
        sys.stdout.flush()


def _print_table(records: list[dict[str, Any]], told: dict[str, Any], limit: int | None, paths: list[Path]) -> None:
    from analysis.terminal import connection_table, console, plain, print_header  # noqa: PLC0415

    out = console()
    shown = len(records) if limit == 0 else limit if limit is not None else ON_A_SCREEN if out.is_terminal else len(records)
    with quiet_pipe():
        print_header(out, told)
        out.print()
        out.print(connection_table(records[:shown], told["first_ns"] or 0, out.width))
        if len(records) > shown:
            out.print(f"{len(records) - shown:,} more: --limit 0 prints all, filters (--service, --pod, --status …) choose")
        if records and len(paths) == 1 and paths[0] != Path("-"):
            out.print(f"hopline show {plain(shlex.quote(str(paths[0])))} {records[0]['id']}  draws one of them", style="dim")
