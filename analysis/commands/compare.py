"""`hopline compare`: what differs between recordings, how sure that is, and when nothing may be concluded."""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.commands.options import EXIT_INPUT, EXIT_PROBLEMS, EXIT_USAGE, Cluster, Keys, NoCache, answers, fail, steps
from analysis.commands.output import printing, refuse_existing, write_page
from analysis.commands.places import is_archive

if TYPE_CHECKING:
    from analysis.compare import Side
    from tracer.requests import RequestTrace

BY = ("service", "hop", "node-pair")  # analysis.compare, whose import is slow; a test compares
VARIED = ("mode", "kernel", "machine", "nodes", "captured nodes", "services")
NOTHING = "nothing"


def compare(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Two bundles or more; all others are compared with the first.")],
    cluster: Cluster = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="What latency is grouped by: service, hop, node-pair; may be given again.")
    ] = None,
    varied: Annotated[
        list[str] | None,
        typer.Option(
            "--varied", help="What was changed on purpose: mode (default), kernel, machine, nodes, captured nodes, services; nothing."
        ),
    ] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="How sure to be.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the chance that is drawn: the same seed, the same answer.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (docs/compare.md).")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures as well.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite that file.")] = False,
    keys: Keys = None,
    no_cache: NoCache = False,
) -> None:
    """Compare recordings: mode against mode, before and after.

    Asked are NAT, connecting, requests, hops, failures, retransmissions, load balancing. Each difference has an interval and a verdict
    that allows for how many questions were asked. Sides that differ in more than what was changed on purpose (kernel, nodes, Services,
    what was asked …) are not ranked; what to record instead is said.

    Examples:
      hopline compare iptables/ nftables/
      hopline compare before/ after/ --varied nothing --by service --html compare.html
      hopline compare pool-a/ pool-b/ --varied nodes --json | jq '.comparisons[0].claims[] | select(.verdict == "differs")'

    Exit codes: 0 compared (whatever came out), 1 compared but some input could not be read at all, 2 wrong usage or the file exists,
    3 nothing to read, 4 the file cannot be written.
    """
    grouped, purpose = tuple(by or BY[:2]), tuple(each for each in varied or ["mode"] if each != NOTHING)
    for option, given, known in (("--by", grouped, BY), ("--varied", purpose, VARIED)):
        for each in given:
            if each not in known:
                fail(f"{option} {each}: not one of {', '.join(known)}", EXIT_USAGE)
    if len(bundles) < 2:
        fail("one bundle cannot be compared (give two or more: hopline compare A B)", EXIT_USAGE)
    if len(set(map(is_archive, bundles))) > 1:
        fail("an archive has no requests, the other has (archive both: hopline archive)", EXIT_USAGE)
    refuse_existing(html, force=force)
    from analysis.compare import build  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.compare import compare as run  # noqa: PLC0415

    sides, unread = [], False
    for path, name in zip(bundles, _names(bundles), strict=True):
        found = answers([path], cluster, no_ledger=False, no_rules=False, no_cluster=False, keys=keys, no_cache=no_cache)
        side, damaged = found.made(f"side {name} {grouped} {seed}", partial(_side, name, grouped, seed))
        if side is None:
            fail(f"{name}: no packets could be read (give a bundle with captures of the traffic to compare)", EXIT_INPUT)
        sides.append(side)
        unread |= damaged
    with steps() as progress:
        told = run(sides, level=level, seed=seed, varied=purpose, progress=progress)
    if html is not None:
        write_page(html, build(told, sides, " against ".join(side.name for side in sides)), force=force)
    _print(told, as_json=as_json)
    if unread:
        raise typer.Exit(EXIT_PROBLEMS)


def _names(paths: list[Path]) -> list[str]:
    """What to call each side: its folder's name, with as many of those above as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    times: Counter[str] = Counter()
    found = []
    for each in parts:  # the same folder twice
        times[each[-1]] += 1
        found.append(f"{each[-1]} ({times[each[-1]]})")
    return found


def _side(name: str, by: tuple[str, ...], seed: int, found: RequestTrace) -> tuple[Side | None, bool]:
    """`(what is compared of a bundle, whether some of it could not be read at all)`; None without packets."""
    from analysis.compare import Side, fingerprint, measured, positions, recordings, spreads  # noqa: PLC0415
    from analysis.frames import from_records  # noqa: PLC0415
    from analysis.requests import RequestRecorder  # noqa: PLC0415
    from analysis.summary import not_seen, summarise, summarise_requests  # noqa: PLC0415
    from tracer.bundle_files import ACCOUNT  # noqa: PLC0415

    bundle, recorder = found.trace.bundle, RequestRecorder(found)
    unread = any(problem.severity == "error" for problem in bundle.problems)
    records, connections = list(recorder), recorder.connection_records
    if not records:
        return None, unread
    told = summarise(found.trace) | {"requests": summarise_requests(found, records)}
    missing = not_seen(told)
    frames = from_records(connections, records, missing)
    accounts = [path.read_bytes() for path in bundle.files.get(ACCOUNT, [])]
    side = Side(
        name, fingerprint(found.trace, accounts, len(records), missing), measured(frames, by),
        recordings(accounts), spreads(found.trace, connections, seed=seed), positions(frames),
    )  # fmt: skip
    return side, unread


def _print(told: dict[str, Any], *, as_json: bool) -> None:
    with printing():
        if as_json:
            sys.stdout.write(json.dumps(told, indent=2) + "\n")
        else:
            from analysis.commands.compare_shown import show  # noqa: PLC0415

            show(told)
