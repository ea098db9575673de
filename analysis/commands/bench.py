"""`hopline bench`: measurements that need no cluster. `proxy`: what each of kube-proxy's modes costs on this machine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.commands.arguments import Command
from analysis.commands.interrupts import EXIT_INTERRUPTED, SIGNALS
from analysis.commands.options import EXIT_INPUT, EXIT_PROBLEMS, EXIT_USAGE, fail
from analysis.commands.output import printing, refuse_existing, write_page
from probes.processors import PROCESSORS

if TYPE_CHECKING:
    from probes.live.proxy_bench.plan import Given, Plan

MODES = "iptables-legacy,iptables-nft,nftables,ipvs"
MOST_SERVICES = 60_000  # an ipset of kube-proxy's has room for 65,536 elements


class Caches(StrEnum):
    """probes.live.proxy_bench.caches: COLD and WARM."""

    cold = "cold"
    warm = "warm"


bench = typer.Typer(
    help="Measurements on this machine, without a cluster.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@bench.callback()
def root() -> None:
    """Measurements on this machine, without a cluster."""


@bench.command(cls=Command)
def proxy(
    modes: Annotated[str, typer.Option(metavar="LIST", help="kube-proxy's modes to compare.")] = MODES,
    services: Annotated[str, typer.Option(metavar="LIST", help="Numbers of Services.")] = "1,10,100,1000,5000,10000",
    endpoints: Annotated[int, typer.Option(min=1, max=100, help="Of each Service.")] = 2,
    connections: Annotated[int, typer.Option(min=1, help="Of a cell (mode, number of Services, target), in all rounds.")] = 12_000,
    rounds: Annotated[int, typer.Option(min=1, help="In each of them every mode has its turns, in an order by chance.")] = 5,
    caches: Annotated[
        Caches,
        typer.Option(help="Processors' own ones: emptied before each connection, as by a node's other work, or as the last one left them."),
    ] = Caches.cold,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is left to chance.")] = 0,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Bench a node's own rules instead: the dumps of a bundle (node-a.iptables-save.txt …)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document (docs/kube-proxy-modes.md).")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one HTML file with the curves as well.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite that file.")] = False,
) -> None:
    """Measure what a Service costs in each of kube-proxy's modes.

    That is what it costs a connection's first packet, and its later ones, on this kernel. Namespaces stand for a client, a node and a
    server; the node gets rules as kube-proxy writes them, and hopline's own packets probe sees each packet before and after them. Needs
    root. Nothing outside these namespaces is changed; they are gone at the end, Ctrl-C included.

    Examples:
      hopline bench proxy
      hopline bench proxy --modes iptables-nft,nftables --services 100,5000 --html modes.html
      hopline bench proxy --rules bundle/ --json > modes.json

    Exit codes: 0 done, 1 it cannot be done here, 2 wrong usage or the file exists, 3 no rules in the folder, 4 the file cannot be written,
    130 interrupted.
    """
    refuse_existing(html, force=force)
    if rounds > connections:
        fail(f"--rounds {rounds}: more than --connections {connections}; give each round at least one", EXIT_USAGE)
    sizes = _numbers(services)
    if os.geteuid() != 0:
        fail("this needs root, for network namespaces, rules and a probe in them: sudo hopline bench proxy", EXIT_PROBLEMS)
    from analysis.commands.bench_shown import progress, show  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.proxy_bench.told import document  # noqa: PLC0415
    from probes.live.bpf import BpfError  # noqa: PLC0415
    from probes.live.proxy_bench.measure import measure, unavailable  # noqa: PLC0415
    from probes.live.proxy_bench.plan import Plan  # noqa: PLC0415
    from probes.live.proxy_bench.road import RoadError  # noqa: PLC0415

    cluster, whose = _given(rules)
    asked = Plan(_modes(modes, cluster), sizes, endpoints, connections, rounds, seed, caches)
    asked = asked if cluster is None else cluster.plan(asked)
    with _interruptible():
        try:
            missing = unavailable(asked.modes, cluster)
            asked = _possible(asked, missing)
            with progress() as say:
                found = list(measure(asked, say, cluster))
        except (RoadError, BpfError, OSError) as error:
            fail(f"nothing can be measured here: {error} (hopline doctor says what this machine lacks)", EXIT_PROBLEMS)
    told = document(asked, found, missing, _machine() | ({"rules": whose} if whose else {}))
    with printing():
        if as_json:
            typer.echo(json.dumps(told))
        else:
            show(told)
    if html is not None:
        from analysis.proxy_bench.page import build  # noqa: PLC0415

        write_page(html, build(told, "kube-proxy's modes"), force=force)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(int(each) for each in text.split(",")))
    except ValueError:
        found = ()
    if not found or not all(1 <= each <= MOST_SERVICES for each in found):
        fail(f"--services {text}: no list of numbers from 1 to {MOST_SERVICES:,} (give 1,100,5000)", EXIT_USAGE)
    return found


def _modes(text: str, cluster: Given | None) -> tuple[str, ...]:
    """The modes that are asked for; of a cluster's rules, by default, those that they are of."""
    known = MODES.split(",")
    wanted = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
    unknown = [each for each in wanted if each not in known] or ([] if wanted else ["nothing"])
    if unknown:
        fail(f"--modes {', '.join(unknown)}: there is no such mode (there are {', '.join(known)})", EXIT_USAGE)
    return tuple(each for each in wanted if each in cluster.texts) if cluster is not None and text == MODES else wanted


def _given(folder: Path | None) -> tuple[Given | None, str | None]:
    """A cluster's rules, and the file names' first part."""
    if folder is None:
        return None, None
    from analysis.proxy_bench.dumps import DumpError, given  # noqa: PLC0415

    try:
        cluster, node = given(folder)
    except DumpError as error:
        fail(str(error), EXIT_INPUT)
    except OSError as error:
        fail(f"{folder} cannot be read: {error.strerror or error} (give a folder with a node's dumps)", EXIT_INPUT)
    return cluster, f"{folder.resolve().name}/{node}"


def _possible(asked: Plan, missing: dict[str, str]) -> Plan:
    """The plan with the modes that this kernel has; ends where it has none."""
    from dataclasses import replace  # noqa: PLC0415

    modes = tuple(mode for mode in asked.modes if mode not in missing)
    if not modes:
        reasons = "; ".join(f"{mode}: {why}" for mode, why in missing.items())
        fail(f"none of these modes can be used here: {reasons}", EXIT_PROBLEMS)
    return replace(asked, modes=modes)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Signals end the block as Ctrl-C does, once: what comes later does not disturb the cleaning up."""

    def stop(_signal: int, _frame: object) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("hopline: interrupted; the namespaces are deleted, nothing was measured to the end", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _machine() -> dict[str, Any]:
    """Where it was measured. Read at the end: the load is that of the measurement itself, too."""
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "kernel": os.uname().release, "processors": PROCESSORS,
        "processor": models[0] if models else os.uname().machine, "load": os.getloadavg()[1],
    }  # fmt: skip
