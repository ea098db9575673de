"""`hopline trace`: every request's path across proxies and NAT."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.commands.options import (
    EXIT_INPUT,
    EXIT_PROBLEMS,
    EXIT_USAGE,
    Cluster,
    Keys,
    MinConfidence,
    NoCache,
    NoCluster,
    NoLedger,
    NoRules,
    Paths,
    answers,
    collect_seldom,
    fail,
    open_input,
)  # fmt: skip
from analysis.commands.parts import Engine, How, L4Only, Partitions, Scheduler, Spill, Workers
from analysis.commands.places import is_archive
from analysis.commands.trace_shown import (
    connections,
    connections_and_tables,
    print_json,
    print_table,
    requests,
    requests_in_parts,
    rows_on_screen,
    write_summary,
    write_tables,
)

if TYPE_CHECKING:
    from analysis.filters import Filters

PROTOCOLS = (  # what a record's protocol can be; a test compares
    "tcp", "udp", "sctp", "icmp", "icmpv6", "http", "http2", "grpc", "websocket", "dns", "tls", "mysql", "postgresql", "redis", "kafka",
    "mongodb", "amqp", "nats", "exchange",
)  # fmt: skip
STATUSES = ("open", "closed", "refused", "timeout", "reset")  # tracer.status, whose import is slow; a test compares


def trace(
    paths: Paths,
    cluster: Cluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per request and line (docs/output.md).")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="DIR", help="Write the tables as Parquet into this new folder.")
    ] = None,
    summary: Annotated[Path | None, typer.Option("--summary", metavar="FILE", help="Write what was and was not seen, as JSON.")] = None,
    l4_only: L4Only = False,
    min_confidence: MinConfidence = 0.9,
    keys: Keys = None,
    pod: Annotated[str | None, typer.Option(help="Only this pod's: NAME, NAMESPACE/NAME, a trailing * matches any rest.")] = None,
    service: Annotated[str | None, typer.Option(help="Only requests to this Service: NAME, NAMESPACE/NAME, trailing *.")] = None,
    node: Annotated[str | None, typer.Option(help="Only what was seen on this node.")] = None,
    address: Annotated[str | None, typer.Option(help="Only what has this address before or after NAT.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Only what has this port before or after NAT.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol: http, dns, mysql, tcp, udp …")] = None,
    operation: Annotated[str | None, typer.Option(help="Only this operation: 'GET /items', trailing * ('GET *').")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only this status: 200, '5*', NXDOMAIN, refused, timeout, reset, closed, open.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was there after: ISO time, epoch seconds, or +SECONDS from the start.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what began before: like --since.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, max=sys.maxsize, help="Rows to print, 0 for all. Default: 200 on a screen, else all.")
    ] = None,
    no_ledger: NoLedger = False,
    no_rules: NoRules = False,
    no_cluster: NoCluster = False,
    no_cache: NoCache = False,
    workers: Workers = None,
    partitions: Partitions = None,
    spill: Spill = None,
    engine: Engine = "local",
    scheduler: Scheduler = None,
) -> None:
    """Show every request's path across proxies, NAT and nodes.

    Names are those of Kubernetes metadata as it was at that moment. Requests inside connections (HTTP, gRPC, DNS, MySQL and others) are
    read by Wireshark's tshark; each is shown under the one that it was made for. A connection whose requests cannot be read is shown as
    one.

    Examples:
      hopline trace bundle/
      hopline trace node-a.pcap node-b.pcap --cluster cluster.json --service shop/web --status '5*'
      hopline trace bundle/ --json | jq 'select(.latency.total_ns > 100e6)'
      ssh node-a tcpdump -i any -w - | hopline trace - --l4-only --limit 20

    Nothing in the input is ever changed. Requests found are kept in ~/.cache/hopline for the next time (--no-cache: not). Exit codes: 0
    done, 1 done but some input could not be read at all, 2 wrong usage, 3 nothing to read, 4 output cannot be written.
    """
    how = How(partitions, workers, spill, engine, scheduler)
    how.check(in_parts=True)
    _check("--protocol", protocol, PROTOCOLS)
    if status is not None and (l4_only or re.fullmatch("[a-z]+", status)) and status not in (*STATUSES, *([] if l4_only else ["ok"])):
        others = "" if l4_only else ", ok, nor a code as its protocol has it (200, '5*', NXDOMAIN, 'error *')"
        fail(f"--status {status}: not one of {', '.join(STATUSES)}{others}", EXIT_USAGE)
    for target in (parquet, summary):
        if target is not None and target.exists():
            fail(f"{target} exists (name another, or remove it)", EXIT_USAGE)
    collect_seldom()
    how.begin()

    def filters(first_ns: int) -> Filters:
        from analysis.filters import Filters  # noqa: PLC0415 - imports are slow, --help is not

        return Filters(
            pod, service, node, address, port, protocol, status, operation, _moment("--since", since, first_ns),
            _moment("--until", until, first_ns),
        )  # fmt: skip

    most = None if limit == 0 else limit if limit is not None or as_json else rows_on_screen()
    left_out = {"no_ledger": no_ledger, "no_rules": no_rules, "no_cluster": no_cluster}
    if l4_only:
        opened = open_input(paths, cluster, how.load, **left_out, keep_input=spill is not None)
        shown = connections(opened, filters, most, how) if parquet is None else connections_and_tables(opened, filters, how)
    elif how.finds_requests(_with_payload(paths), keys):
        shown = requests_in_parts(open_input(paths, cluster, **left_out, keep_input=True), filters, min_confidence, how)
    else:
        shown = requests(answers(paths, cluster, **left_out, keys=keys, no_cache=no_cache), min_confidence, filters)
    told = shown.told
    if summary is not None:
        write_summary(summary, told)
    if parquet is not None:
        write_tables(parquet, shown)
    if as_json:
        print_json(shown, most)
    else:
        print_table(shown, most, paths)
    if not told["captures"] or all(not each["frames"] for each in told["captures"].values()):
        fail("no packets could be read", EXIT_INPUT)
    if any(problem["severity"] == "error" for problem in told["problems"]):
        raise typer.Exit(EXIT_PROBLEMS)


def _check(option: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        fail(f"{option} {value}: not one of {', '.join(known)}", EXIT_USAGE)


def _with_payload(paths: list[Path]) -> list[Path]:
    if any(map(is_archive, paths)):
        fail("an archive keeps no payload, in which requests are (give --l4-only, or the bundle that it was made of)", EXIT_USAGE)
    return paths


def _moment(option: str, text: str | None, first_ns: int) -> int | None:
    from analysis.filters import moment  # noqa: PLC0415 - see above

    try:
        return None if text is None else moment(text, first_ns)
    except ValueError:
        fail(
            f"{option} {text}: not a time (give 2026-11-23T05:24:34, epoch seconds, or +1.5 for seconds after the first packet)", EXIT_USAGE
        )
