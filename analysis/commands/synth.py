"""`hopline synth`: a bundle whose truth is known, of any size."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.commands.options import EXIT_OUTPUT, EXIT_USAGE, fail
from analysis.commands.output import nothing_partial

if TYPE_CHECKING:
    from analysis.synth import Amount, Written

REQUESTS = 1000  # where nothing says how much


def synth(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write, new or empty.")],
    packets: Annotated[int | None, typer.Option(min=1, help="So many records in the captures, about.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help=f"So many requests of clients. Default: {REQUESTS}.")] = None,
    duration: Annotated[float | None, typer.Option(metavar="SECONDS", help="So many seconds of traffic.")] = None,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 500,
    nodes: Annotated[int, typer.Option(help="Nodes of the cluster.")] = 3,
    services: Annotated[int, typer.Option(help="Services of the application.")] = 7,
    pods: Annotated[int, typer.Option(help="Pods behind each Service.")] = 3,
    mode: Annotated[str, typer.Option(help="kube-proxy's: iptables, nftables or ipvs.")] = "iptables",
    proxies: Annotated[str, typer.Option(help="ids: an ingress controller that passes X-Request-ID on; no-ids: without; none.")] = "ids",
    skew: Annotated[float, typer.Option(metavar="MS", help="Clocks of nodes are off by up to this, and drift.")] = 0,
    loss: Annotated[float, typer.Option(help="Share of segments lost on the way and sent again, 0 to 0.5.")] = 0,
    gso: Annotated[bool, typer.Option("--gso", help="Large answers too, in packets of many segments.")] = False,
    reuse: Annotated[float, typer.Option(help="Share of requests from an address and port used just before, 0 to 0.5.")] = 0,
    snaplen: Annotated[int, typer.Option("--snaplen", "-s", metavar="BYTES", help="Bytes kept of each packet.")] = 262144,
    l4_only: Annotated[bool, typer.Option("--l4-only", help="Bytes that no dissector knows, instead of HTTP.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and options give the same bytes.")] = 1,
) -> None:
    """Make a bundle of a cluster that never was.

    The truth of every request is beside it: for tests, and to see how things grow. Packets take the ways that kube-proxy's modes were seen
    to give them, with every sighting that `tcpdump -i any` has. truth.jsonl says what there is to find; it is no part of the bundle. What
    is made, and what is not: docs/synth.md.

    Examples:
      hopline synth -o made/ --requests 1000 --loss 0.01 --skew 20
      hopline synth -o large/ --packets 30000000 --l4-only --snaplen 96 && hopline trace large/ --l4-only --limit 20

    Exit codes: 0 made, 2 wrong usage or the folder is not empty, 4 it cannot be written.
    """
    from analysis.synth import Amount, Options, synthesise  # noqa: PLC0415 - imports are slow, --help is not

    if sum(each is not None for each in (packets, requests, duration)) > 1:
        fail("--packets, --requests and --duration each say how much (give one of them)", EXIT_USAGE)
    if duration is not None and not 0 < duration < math.inf:
        fail(f"--duration {duration}: give more than 0 seconds, and an end", EXIT_USAGE)
    amount = Amount(packets, REQUESTS if packets is None and duration is None and requests is None else requests, duration)
    options = Options(seed, nodes, services, pods, mode, proxies, rate, skew, loss, gso, reuse, snaplen, l4_only)
    try:
        with nothing_partial(output), _progress(amount) as update:
            written = synthesise(options, amount, output, update)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    except (FileExistsError, NotADirectoryError):
        fail(f"{output} is there already and is no empty folder (name another, or remove it)", EXIT_USAGE)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror} (check the folder and its free space)", EXIT_OUTPUT)
    said = f"{output}: {written.requests:,} requests, {written.packets:,} packets on {nodes} nodes, {written.capture_bytes / 1e6:,.1f} MB"
    typer.echo(said, err=True)


@contextmanager
def _progress(amount: Amount) -> Iterator[Callable[[Written], None]]:
    """A bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _written: None
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    what, total = ("packets", amount.packets) if amount.packets is not None else ("requests", amount.requests)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda written: bars.update(task, completed=getattr(written, what))
