"""`hopline clocks`: how far the nodes' clocks were apart."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.commands.options import EXIT_PROBLEMS, EXIT_USAGE, Cluster, NoLedger, Paths, fail, load
from analysis.commands.output import printing

if TYPE_CHECKING:
    from rich.table import Table


def clocks(
    paths: Paths,
    cluster: Cluster = None,
    reference: Annotated[str | None, typer.Option(metavar="NODE", help="Compare with this node. Default: the best connected one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (docs/clocks.md).")] = False,
    no_ledger: NoLedger = False,
) -> None:
    """Tell how far the nodes' clocks were off, and how sure that is.

    Packets that crossed between nodes tell it, against a reference node's clock: recorded = reference + offset + drift * (reference -
    reference time). A positive offset is a clock that is ahead. The offset lies between its limits if clocks ran evenly; what no packets
    tell is unknown.

    Examples:
      hopline clocks bundle/
      hopline clocks bundle/ --reference node-b --json

    Exit codes: 0 told (also where it is unknown), 1 told but some input could not be read at all, 2 no such node or wrong usage, 3 nothing
    to read.
    """
    from analysis.terminal import clock, console, plain  # noqa: PLC0415 - imports are slow, --help is not
    from tracer.clocks import clocks as compare  # noqa: PLC0415
    from tracer.pipeline import reconstruct  # noqa: PLC0415

    bundle = load(paths, cluster, no_ledger=no_ledger, no_rules=True, no_cluster=cluster is None)
    traced = reconstruct(bundle.observations, bundle.points, bundle.ledgers)
    if reference is not None and reference not in traced.nodes:
        fail(f"no node {reference} (there are {', '.join(traced.nodes) or 'none'})", EXIT_USAGE)
    found = compare(traced, None if reference is None else traced.nodes.index(reference))
    name = traced.nodes[found.reference] if traced.nodes else None
    for problem in bundle.problems:
        typer.echo(plain(str(problem)), err=True)
    with printing():
        if as_json:
            nodes = [asdict(node) for node in found.nodes]
            told = {"reference": name, "reference_time_ns": found.reference_time_ns, "nodes": nodes, "problems": found.problems}
            sys.stdout.write(json.dumps(told, indent=2) + "\n")
        else:
            out = console()
            out.print(f"against the clock of {plain(str(name))} at {clock(found.reference_time_ns)}")
            out.print(_table([asdict(node) for node in found.nodes]))
            for line in found.problems:
                out.print(plain(line), style="yellow")
    if any(problem.severity == "error" for problem in bundle.problems):
        raise typer.Exit(EXIT_PROBLEMS)


def _table(nodes: list[dict[str, Any]]) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from analysis.terminal import duration, plain  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("node")
    for title in ("offset µs", "least", "greatest", "drift ppm", "least", "greatest", "pairs", "round trip"):
        table.add_column(title, justify="right")
    for node in nodes:
        offsets = (
            "?" if node[field] is None else f"{node[field] / 1000:,.1f}" for field in ("offset_ns", "offset_low_ns", "offset_high_ns")
        )
        drifts = ("?" if node[field] is None else f"{node[field]:.1f}" for field in ("drift_ppm", "drift_low_ppm", "drift_high_ppm"))
        table.add_row(plain(node["node"]), *offsets, *drifts, f"{node['pairs']:,}", duration(node["smallest_round_trip_ns"]))
    return table
