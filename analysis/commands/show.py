"""`hopline show`: one connection drawn as its line of hops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands.options import EXIT_USAGE, Cluster, NoCluster, NoLedger, NoRules, fail, load
from analysis.commands.output import printing


def show(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder or a capture.")],
    connection: Annotated[str, typer.Argument(metavar="ID", help="As `hopline trace` prints it: c1, c2, …")],
    cluster: Cluster = None,
    no_ledger: NoLedger = False,
    no_rules: NoRules = False,
    no_cluster: NoCluster = False,
) -> None:
    """Draw one connection, hop by hop.

    Every observation point in order, the tuple there, what rewrote it, the four port names, times, evidence.

    Example: hopline show bundle/ c17

    IDs hold for one set of evidence: leave out here what was left out of `hopline trace`. Exit codes: 0 drawn, 2 no such connection or
    wrong usage, 3 nothing to read.
    """
    from analysis.picture import draw  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.records import Recorder  # noqa: PLC0415
    from analysis.terminal import console  # noqa: PLC0415
    from tracer.trace import trace  # noqa: PLC0415

    traced = trace(load([bundle], cluster, no_ledger=no_ledger, no_rules=no_rules, no_cluster=no_cluster))
    count = len(traced.named)
    number = int(connection[1:]) if connection[:1] == "c" and connection[1:].isascii() and connection[1:].isdigit() else 0
    if not 1 <= number <= count:
        known = f"{bundle} has c1 to c{count}" if count else f"{bundle} has no connections"
        fail(f"no connection {connection} ({known}; `hopline trace` lists them)", EXIT_USAGE)
    with printing():
        draw(console(), Recorder(traced).record(number - 1))
