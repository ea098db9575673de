"""Options that several commands share, and how they fail."""

from __future__ import annotations

import atexit
import functools
import gc
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from analysis.cache import Answers
    from tracer.bundle import Bundle, Opened
    from tracer.requests import RequestTrace
    from tracer.trace import Trace

EXIT_PROBLEMS, EXIT_USAGE, EXIT_INPUT, EXIT_OUTPUT = 1, 2, 3, 4
PROGRESS_AFTER_S = 2.0
SMALL_BYTES = 1_000_000  # of captures, packed or not
# Objects after which Python looks for cycles of garbage: records and tables have none, and after every 700 that takes a tenth of a run.
COLLECT_AFTER = 1_000_000
_KEY = re.compile(rb"^[A-Z0-9_]+ (Session-ID:)?[0-9A-Fa-f]{16}")  # draft-ietf-tls-keylogfile, and OpenSSL's

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH", help='Bundle folders, or captures and other files by themselves; "-" is a capture on standard input.'),
]
Cluster = Annotated[
    list[Path] | None, typer.Option("--cluster", metavar="FILE", help="Cluster metadata besides the bundle's: JSON, YAML, watch events.")
]
NoLedger = Annotated[bool, typer.Option("--no-ledger", help="Leave conntrack out.")]
NoRules = Annotated[bool, typer.Option("--no-rules", help="Leave kube-proxy's rules out.")]
NoCluster = Annotated[bool, typer.Option("--no-cluster", help="Leave cluster metadata out.")]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Find requests anew, and keep nothing in ~/.cache/hopline ($XDG_CACHE_HOME, $HOPLINE_CACHE).")
]


def fail(message: str, code: int) -> NoReturn:
    """End with one clear line on standard error."""
    typer.echo(f"hopline: {message}", err=True)
    raise typer.Exit(code)


Keys = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="TLS keys (SSLKEYLOGFILE), to read what was encrypted.")]
MinConfidence = Annotated[
    float, typer.Option("--min-confidence", min=0, max=1, help="Parents less certain than this are not given; their candidates are.")
]


@contextmanager
def _shown_later(bars: Progress) -> Iterator[None]:
    """Show `bars` once this takes longer than PROGRESS_AFTER_S."""
    later = threading.Timer(PROGRESS_AFTER_S, bars.start)
    later.daemon = True
    later.start()
    try:
        yield
    finally:
        later.cancel()
        later.join()
        bars.stop()


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

    with _shown_later(bars):
        yield update


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A progress callback for `trace_requests`: a bar per step on a terminal once it takes longer than PROGRESS_AFTER_S, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done)

    with _shown_later(bars):
        yield update


@contextmanager
def phases() -> Iterator[tuple[Callable[[str, int], None], Callable[[str, int, int], None]]]:
    """The callbacks of `progress` and `steps`, for work that begins with reading: a terminal shows one kind of bars at a time."""
    with ExitStack() as first, ExitStack() as second:
        reading = first.enter_context(progress())
        shown: list[Callable[[str, int, int], None]] = []

        def working(what: str, done: int, total: int) -> None:
            if not shown:
                first.close()
                shown.append(second.enter_context(steps()))
            shown[0](what, done, total)

        yield reading, working


def find_requests(traced: Trace, keys: Path | None = None) -> RequestTrace:
    """The requests of a trace; ends with EXIT_USAGE where the key log is none."""
    _check_keys(keys)
    from tracer.requests import trace_requests  # noqa: PLC0415 - imports are slow, --help is not

    with steps() as update:
        return trace_requests(traced, keys=keys, progress=update)


def _check_keys(keys: Path | None) -> None:
    if keys is None:
        return
    if not keys.is_file():
        fail(f"--keys {keys}: no such file (give the file that SSLKEYLOGFILE named)", EXIT_USAGE)
    with keys.open("rb") as lines:
        found = any(map(_KEY.match, lines))
    if not found:
        fail(f"--keys {keys}: no TLS keys in it, lines such as CLIENT_RANDOM … (give the file that SSLKEYLOGFILE named)", EXIT_USAGE)


@functools.cache
def collect_seldom() -> None:
    """Look for cycles of garbage after COLLECT_AFTER objects, from now on; importing makes many, too."""
    gc.set_threshold(COLLECT_AFTER)
    atexit.register(gc.freeze)  # Python looks once more when it ends, at all that a run made


def answers(
    paths: list[Path], cluster: list[Path] | None, *, no_ledger: bool, no_rules: bool, no_cluster: bool, keys: Path | None, no_cache: bool
) -> Answers:
    """What an earlier run found out about a bundle, or this one will; fails like `load` and `find_requests`."""
    collect_seldom()
    _check_keys(keys)
    from analysis.cache import Answers, Question, open_store  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.cache.protocols import keep_protocols, recall_protocols  # noqa: PLC0415

    def load_rest() -> None:
        import analysis.record_texts  # noqa: PLC0415 - they take as long as a ledger does
        import analysis.requests  # noqa: F401, PLC0415

    store = None if no_cache else open_store()
    if store is not None:
        recall_protocols(store)

    def find() -> RequestTrace:
        from probes.dissect import ask_ahead, begin_ahead, end_ahead  # noqa: PLC0415

        if _small(paths):
            begin_ahead(keys)
        else:
            ask_ahead()
        left_out = {"no_ledger": no_ledger, "no_rules": no_rules, "no_cluster": no_cluster}
        try:
            opened = open_input(paths, cluster, load_rest, **left_out, keep_input=True)
            from tracer.trace import trace  # noqa: PLC0415

            found = find_requests(trace(read(opened)), keys)
        finally:
            end_ahead()
        if store is not None:
            keep_protocols(store)
        return found

    question = Question(paths, cluster or (), use_ledger=not no_ledger, use_rules=not no_rules, use_cluster=not no_cluster, keys=keys)
    return Answers(question, store, find)


def _small(paths: list[Path]) -> bool:
    """Whether captures have so few bytes that one tshark is enough for them, as far as is known."""
    from tracer.bundle_files import CAPTURE, BundleError, find_files  # noqa: PLC0415 - imports are slow, --help is not

    try:
        return sum(path.stat().st_size for path in find_files(paths).get(CAPTURE, ())) < SMALL_BYTES
    except (BundleError, OSError):  # which is said when they are opened
        return False


def open_input(
    paths: list[Path], cluster: list[Path] | None, meanwhile: Callable[[], None] = lambda: None, /, *,
    no_ledger: bool, no_rules: bool, no_cluster: bool, keep_input: bool = False,
) -> Opened:  # fmt: skip
    """Find a bundle, and read all but its packets; ends with EXIT_INPUT where there is nothing to read.

    `keep_input`: standard input will be read a second time. `meanwhile` is called while ledgers are read.
    """
    from analysis.commands.places import PlaceError, place  # noqa: PLC0415 - imports are slow, --help is not
    from tracer.bundle import BundleError, open_bundle  # noqa: PLC0415

    collect_seldom()
    try:
        return open_bundle(
            list(map(place, paths)),
            list(map(place, cluster or [])),
            use_ledger=not no_ledger,
            use_rules=not no_rules,
            use_cluster=not no_cluster,
            keep_input=keep_input,
            meanwhile=meanwhile,
        )
    except (BundleError, PlaceError) as error:
        fail(str(error), EXIT_INPUT)


def read(opened: Opened) -> Bundle:
    """The whole bundle in memory, its packets too; ends with EXIT_INPUT where an archive has none that can be read."""
    from tracer.bundle import BundleError, read_packets  # noqa: PLC0415 - imports are slow, --help is not

    try:
        with progress() as update:
            return read_packets(opened, update)
    except BundleError as error:
        fail(str(error), EXIT_INPUT)


def load(
    paths: list[Path], cluster: list[Path] | None, *, no_ledger: bool, no_rules: bool, no_cluster: bool, keep_input: bool = False
) -> Bundle:
    """`open_input` and `read` in one."""
    return read(open_input(paths, cluster, no_ledger=no_ledger, no_rules=no_rules, no_cluster=no_cluster, keep_input=keep_input))
