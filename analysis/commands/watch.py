"""`hopline watch`: the cluster's objects and every change to them, for a bundle."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from analysis.commands.options import EXIT_OUTPUT, fail
from analysis.commands.output import printing
from analysis.commands.snapshot import EXIT_CLUSTER, Context, Kubeconfig, Namespace, warn


def watch(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to add to, .jsonl. Default: stdout.")] = None,
    duration: Annotated[float | None, typer.Option("--duration", min=0.0, help="Seconds to watch. Default: until Ctrl-C.")] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Record the cluster's objects as they change.

    Addresses can then be named as of any moment of a capture. Reads only (list and watch), never Secrets. One JSON line per event: first
    everything there is as ADDED, then each change. Outages of the API server are waited out and what was missed is caught up with. A file
    that exists is added to.

    Example: hopline watch -o bundle/watch.jsonl --duration 600

    Exit codes: 0 ended by Ctrl-C, SIGTERM or --duration, 2 wrong usage, 3 the cluster cannot be reached to begin with or denies everything,
    4 the file cannot be written.
    """
    from tracer.live import ClusterError, connect  # noqa: PLC0415 - imports are slow
    from tracer.live import watch as record  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopping(duration))
        try:
            file = stack.enter_context(appending(output)) if output is not None else stdout()
            if output is None:
                stack.enter_context(printing())
            lines = record(connect(kubeconfig, context), file.write, warn, stop, namespace=namespace)
        except ClusterError as error:
            fail(str(error), EXIT_CLUSTER)
        except BrokenPipeError:
            raise
        except OSError as error:
            place = "stdout" if output is None else output
            fail(f"{place} cannot be written: {error.strerror} (check the folder and its free space)", EXIT_OUTPUT)
        typer.echo(f"{'stdout' if output is None else output}: {lines} events", err=True)


def stdout() -> BinaryIO:
    """Standard output as bytes, unbuffered: an event is out when it has come."""
    sys.stdout.flush()
    return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)


@contextlib.contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """The file, written to at its end and unbuffered. A half-written last line, of a crash, gets its newline first."""
    with path.open("ab", buffering=0) as file:
        if file.tell() and _last_byte(path) != b"\n":
            file.write(b"\n")
        yield file


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


@contextlib.contextmanager
def stopping(duration_seconds: float | None) -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM or the end of `duration_seconds` sets."""
    stop = threading.Event()

    def on_signal(_signal: int, _frame: object) -> None:
        # Not here: the signal may have come while this very thread holds the event's lock.
        threading.Thread(target=stop.set, daemon=True).start()

    timer = threading.Timer(duration_seconds, stop.set) if duration_seconds is not None else None
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if timer is not None:
            timer.daemon = True
            timer.start()
        yield stop
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
