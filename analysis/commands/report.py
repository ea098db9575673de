"""`hopline report`: everything that was seen and not seen, as one HTML file."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.commands.options import (
    EXIT_INPUT,
    EXIT_PROBLEMS,
    Cluster,
    Keys,
    MinConfidence,
    NoCache,
    NoCluster,
    NoLedger,
    NoRules,
    Paths,
    answers,
    fail,
    open_input,
)  # fmt: skip
from analysis.commands.output import printing, refuse_existing, write_page
from analysis.commands.parts import Engine, How, L4Only, Partitions, Scheduler, Spill, Workers, trace_parts

if TYPE_CHECKING:
    from analysis.summary import Summary
    from tracer.bundle import Opened
    from tracer.requests import RequestTrace

STDOUT = Path("-")


def report(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help='The HTML file to write; "-" is standard output.')],
    cluster: Cluster = None,
    title: Annotated[str | None, typer.Option(help="Its heading. Default: the name of the bundle.")] = None,
    min_confidence: MinConfidence = 0.9,
    keys: Keys = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    no_ledger: NoLedger = False,
    no_rules: NoRules = False,
    no_cluster: NoCluster = False,
    no_cache: NoCache = False,
    l4_only: L4Only = False,
    rows: Annotated[
        int,
        typer.Option(min=2, help="Connections in the table (with --l4-only): the longest, and the longest of each kind; sums are of all."),
    ] = 10_000,
    workers: Workers = None,
    partitions: Partitions = None,
    spill: Spill = None,
    engine: Engine = "local",
    scheduler: Scheduler = None,
) -> None:
    """Write one HTML file for everybody.

    What was not seen, the slowest requests, who talks to whom, every request and its way, latency. The file needs nothing beside it and
    fetches nothing: mail it, attach it, open it offline. It says what the packets said, names and addresses included.

    Examples:
      hopline report bundle/ -o report.html
      hopline report node-a.pcap node-b.pcap --cluster cluster.json -o report.html --title 'checkout is slow'
      hopline report large/ --l4-only -o report.html

    Exit codes: 0 done, 1 done but some input could not be read at all, 2 wrong usage or the file exists, 3 nothing to read, 4 the file
    cannot be written.
    """
    refuse_existing(None if output == STDOUT else output, force=force)
    how = How(partitions, workers, spill, engine, scheduler)
    how.check(in_parts=l4_only)
    left_out = {"no_ledger": no_ledger, "no_rules": no_rules, "no_cluster": no_cluster}
    heading = title or _name(paths)
    if l4_only:
        how.begin()
        page, frames, unread = _page_of_connections(
            open_input(paths, cluster, how.load, **left_out, keep_input=spill is not None), how, rows, heading
        )
    else:
        known = answers(paths, cluster, **left_out, keys=keys, no_cache=no_cache)
        page, frames, unread = known.made(f"report {min_confidence} {heading}", partial(_page, min_confidence, heading))
    if not frames:
        fail("no packets could be read", EXIT_INPUT)
    _write(output, page, force=force)
    if unread:
        raise typer.Exit(EXIT_PROBLEMS)


def _page(min_confidence: float, heading: str, found: RequestTrace) -> tuple[str, int, bool]:
    """`(the page, how many frames there were, whether some input could not be read at all)`."""
    from analysis.report import build  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.requests import RequestRecorder  # noqa: PLC0415
    from analysis.summary import summarise, summarise_requests  # noqa: PLC0415

    recorder = RequestRecorder(found, min_confidence)
    records = list(recorder)
    told = summarise(found.trace) | {"requests": summarise_requests(found, records)}
    return build(records, told, heading), *_read(told)


def _page_of_connections(opened: Opened, how: How, rows: int, heading: str) -> tuple[str, int, bool]:
    """The same for connections, of which the page has so many `rows`."""
    from analysis.filters import Filters  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.report import build  # noqa: PLC0415
    from analysis.summary import told  # noqa: PLC0415

    found = trace_parts(opened, how, lambda _first_ns: Filters(), held=rows)
    summary = told(found.bundle, found.tally)
    assert found.sums is not None
    records, kinds = found.held()
    sums = None if len(records) == found.sums.counts.sum() else (found.sums, kinds)
    return build(records, summary, heading, sums), *_read(summary)


def _read(told: Summary) -> tuple[int, bool]:
    """How many frames there were, and whether some input could not be read at all."""
    frames = sum(each["frames"] for each in told["captures"].values())
    return frames, any(problem["severity"] == "error" for problem in told["problems"])


def _name(paths: list[Path]) -> str:
    """What to call a report of these inputs: the first one's name."""
    name = "standard input" if paths[0] == STDOUT else paths[0].resolve().name
    return f"{name} and {len(paths) - 1} more" if len(paths) > 1 else name


def _write(output: Path, page: str, *, force: bool) -> None:
    if output == STDOUT:
        with printing():
            sys.stdout.buffer.write(page.encode())  # UTF-8 whatever the terminal speaks: the page says so of itself
        return
    write_page(output, page, force=force)
