"""Options that several commands share, and how they fail."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from tracer.bundle import Bundle

EXIT_PROBLEMS, EXIT_USAGE, EXIT_INPUT, EXIT_OUTPUT = 1, 2, 3, 4
PROGRESS_AFTER_S = 2.0

Paths = Annotated[
    list[Path], typer.Argument(help='Bundle folders, or captures and other files by themselves; "-" is a capture on standard input.')
]
Cluster = Annotated[list[Path] | None, typer.Option("--cluster", help="Cluster metadata besides the bundle's: JSON, YAML, watch events.")]
NoLedger = Annotated[bool, typer.Option("--no-ledger", help="Leave conntrack out.")]
NoRules = Annotated[bool, typer.Option("--no-rules", help="Leave kube-proxy's rules out.")]
NoCluster = Annotated[bool, typer.Option("--no-cluster", help="Leave cluster metadata out.")]


def fail(message: str, code: int) -> NoReturn:
    """End with one clear line on standard error."""
    typer.echo(f"hopline: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def progress() -> Iterator[Callable[[str, int], None]]:
    """A progress callback for `read_bundle`: a bar per file on a terminal once reading takes longer than PROGRESS_AFTER_S, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _file, _position: None
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    waiting = bars.add_task("reading (a first run compiles the decoder)", total=None)
    tasks: dict[str, TaskID] = {}

    def update(file: str, position: int) -> None:
        if file not in tasks:
            path = Path(file)
            packed = path.suffix in (".gz", ".zst") or not path.is_file()
            tasks[file] = bars.add_task(path.name, total=None if packed else path.stat().st_size)
            bars.update(waiting, visible=False)
        bars.update(tasks[file], completed=position)

    later = threading.Timer(PROGRESS_AFTER_S, bars.start)
    later.daemon = True
    later.start()
    try:
        yield update
    finally:
        later.cancel()
        later.join()
        bars.stop()


def load(paths: list[Path], cluster: list[Path] | None, *, no_ledger: bool, no_rules: bool, no_cluster: bool) -> Bundle:
    """Read the bundle, or end with EXIT_INPUT where there is nothing to read."""
    from tracer.bundle import BundleError, read_bundle  # noqa: PLC0415 - imports are slow, --help is not

    try:
        with progress() as update:
            return read_bundle(
                paths, cluster or [], use_ledger=not no_ledger, use_rules=not no_rules, use_cluster=not no_cluster, progress=update
            )
    except BundleError as error:
        fail(str(error), EXIT_INPUT)
