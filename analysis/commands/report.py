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
    fail,
)  # fmt: skip
from analysis.commands.snapshot import quiet_pipe, write_page

if TYPE_CHECKING:
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
) -> None:
    """Write one HTML file: what was not seen, the slowest requests, who talks to whom, every request and its way, latency.

    The file needs nothing beside it and fetches nothing: mail it, attach it, open it offline. It says what the packets said, names and
    addresses included.

    Examples:
      hopline report bundle/ -o report.html

      hopline report node-a.pcap node-b.pcap --cluster cluster.json -o report.html --title 'checkout is slow'

    Exit codes: 0 done, 1 done but some input could not be read at all, 2 wrong usage or the file exists, 3 nothing to read, 4 the file
    cannot be written.
    """
    if output != STDOUT and output.exists() and not force:
        fail(f"{output} exists (name another file, or overwrite it with --force)", EXIT_USAGE)
    known = answers(paths, cluster, no_ledger=no_ledger, no_rules=no_rules, no_cluster=no_cluster, keys=keys, no_cache=no_cache)
    heading = title or _name(paths)
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
    frames = sum(each["frames"] for each in told["captures"].values())
    return build(records, told, heading), frames, any(problem["severity"] == "error" for problem in told["problems"])


def _name(paths: list[Path]) -> str:
    """What to call a report of these inputs: the first one's name."""
    name = "standard input" if paths[0] == STDOUT else paths[0].resolve().name
    return f"{name} and {len(paths) - 1} more" if len(paths) > 1 else name


def _write(output: Path, page: str, *, force: bool) -> None:
    if output == STDOUT:
        with quiet_pipe():
            sys.stdout.buffer.write(page.encode())  # UTF-8 whatever the terminal speaks: the page says so of itself
            sys.stdout.buffer.flush()
        return
    write_page(output, page, force=force)
