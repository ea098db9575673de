"""`hopline report`: everything that was seen and not seen, as one HTML file."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

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
    from analysis.report import build  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.requests import RequestRecorder  # noqa: PLC0415
    from analysis.summary import summarise, summarise_requests  # noqa: PLC0415
    from tracer.trace import trace as run  # noqa: PLC0415

    traced = run(load(paths, cluster, no_ledger=no_ledger, no_rules=no_rules, no_cluster=no_cluster, keep_input=True))
    recorder = RequestRecorder(find_requests(traced, keys), min_confidence)
    records = list(recorder)
    told = summarise(traced, recorder.connection_records) | {"requests": summarise_requests(recorder.found, records)}
    if not told["captures"] or all(not each["frames"] for each in told["captures"].values()):
        fail("no packets could be read", EXIT_INPUT)
    _write(output, build(records, told, title or _name(paths)), force=force)
    if any(problem["severity"] == "error" for problem in told["problems"]):
        raise typer.Exit(EXIT_PROBLEMS)


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
    try:
        write_whole(output, [page], force=force)
    except FileExistsError:
        fail(f"{output} exists (name another file, or overwrite it with --force)", EXIT_USAGE)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror} (check the folder and its free space)", EXIT_OUTPUT)
    typer.echo(f"{shlex.quote(str(output))}: {output.stat().st_size / 1e6:.1f} MB, open it in any browser", err=True)
