"""`hopline agent`: what runs on each node of a cluster, and what `hopline collect` asks of it through the API server."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.commands.logs import json_sayer
from analysis.commands.options import EXIT_OUTPUT, EXIT_PROBLEMS, EXIT_USAGE, fail
from analysis.commands.output import printing

STOP_SECONDS = 20.0  # what a recorder may take to end its files
SWEEP_SECONDS = 10.0
SILENCE_SECONDS = 5.0  # after which a follower is told that the line is still open

agent = typer.Typer(
    help="The recorder's home on a node; `hopline collect` talks to it.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The recording's name.")]
StoreOption = Annotated[Path, typer.Option("--store", envvar="HOPLINE_STORE", help="Folder that recordings are kept in.")]
STORE = Path("/var/lib/hopline")


@agent.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    store: StoreOption = STORE,
    keep: Annotated[float, typer.Option("--keep", min=60, help="Seconds after its end that a recording nobody fetched is deleted.")] = 3600,
    listen: Annotated[str | None, typer.Option("--listen", help="ADDRESS:PORT of /metrics, /healthz and /readyz. Default: none.")] = None,
) -> None:
    """Wait on a node, recording nothing until `hopline collect` starts it, and delete what nobody fetched. Asks nothing of the API server.

    Example: hopline agent --listen 0.0.0.0:9469

    Exit codes: 0 ended by SIGTERM or Ctrl-C, 2 wrong usage, 4 the folder cannot be used.
    """
    context.obj = store
    if context.invoked_subcommand is not None:
        return
    from probes.live.store import Store  # noqa: PLC0415 - imports are slow, --help is not

    kept = Store(store)
    _make(store)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    removed, say = 0, json_sayer()
    with _listening(listen, kept, lambda: removed):
        say("waiting", store=str(store), recordings=len(kept.names()))
        while True:
            _reap()
            for name in kept.expire(keep, time.time()):
                removed += 1
                say("expired", recording=name)
            if stop.wait(SWEEP_SECONDS):
                return


@contextmanager
def _listening(listen: str | None, kept: Any, removed: Callable[[], int]) -> Iterator[None]:
    """`/metrics` and health while the block runs."""
    if listen is None:
        yield
        return
    from probes.live.metrics import Endpoint, Family  # noqa: PLC0415

    def families() -> Iterator[Family]:
        names = kept.names()
        yield Family("hopline_recordings", "Recordings kept here.", "gauge", {(): len(names)})
        yield Family("hopline_recordings_running", "Recordings under way.", "gauge", {(): sum(map(kept.running, names))})
        yield Family("hopline_recordings_bytes", "What recordings take on disk.", "gauge", {(): kept.size_bytes()})
        yield Family("hopline_recordings_expired", "Recordings that nobody fetched.", "counter", {(): removed()})

    def unready() -> str | None:
        return None if os.access(kept.root, os.W_OK) else f"{kept.root} cannot be written to"

    try:
        endpoint = Endpoint(listen, families, unready)
    except (ValueError, OSError) as error:
        fail(f"--listen {listen}: {error}", EXIT_USAGE)
    try:
        yield
    finally:
        endpoint.close()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{folder} cannot be made: {error.strerror} (mount a volume there, or give --store)", EXIT_OUTPUT)


def _reap() -> None:
    """As the container's first process, take note of the deaths of orphans: else they stay as zombies."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@contextmanager
def _store(context: typer.Context) -> Iterator[Any]:
    """The store, with its errors as exit codes and a reader who leaves as no error."""
    from probes.live.store import Store, StoreError  # noqa: PLC0415

    with printing():
        try:
            yield Store(context.obj)
        except StoreError as error:
            fail(str(error), EXIT_PROBLEMS)


def _say(content: dict[str, object]) -> None:
    print(json.dumps(content), flush=True)


@agent.command()
def hello(context: typer.Context) -> None:
    """This node's clock, and hopline's version; fails where nothing could be kept."""
    from importlib.metadata import version  # noqa: PLC0415

    _make(context.obj)
    _say({"time_ns": time.time_ns(), "version": version("hopline")})


@agent.command()
def start(
    context: typer.Context, name: Name, options: Annotated[list[str] | None, typer.Argument(help="After --: of `record`.")] = None
) -> None:
    """Start `hopline record` by itself; where NAME is here already, nothing happens."""
    program = sys.argv[0] if os.access(sys.argv[0], os.X_OK) else "hopline"
    with _store(context) as store:
        started = store.start(name, lambda folder: [program, "record", "-o", str(folder), "--log", "json", *(options or [])])
        _say({"started": started})


@agent.command()
def follow(context: typer.Context, name: Name, position: Annotated[int, typer.Option("--from", min=0)] = 0) -> None:
    """What the recorder says, line by line from a byte on, until it ends. Lines of the agent itself have the key "agent"."""
    with _store(context) as store:
        spoke = time.monotonic()
        for line in store.lines(name, position):
            if line is not None:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            elif time.monotonic() - spoke > SILENCE_SECONDS:
                _say({"agent": "waiting"})
            else:
                continue
            spoke = time.monotonic()
        _say({"agent": "ended", "code": store.code(name)})


@agent.command()
def stop(context: typer.Context, name: Name) -> None:
    """Have the recorder end its files."""
    with _store(context) as store:
        _say({"stopped": store.stop(name, STOP_SECONDS)})


@agent.command()
def files(context: typer.Context, name: Name) -> None:
    """What was recorded, in the order in which `send` sends it: name, size and SHA-256, a line each; their number last."""
    with _store(context) as store:
        number = 0
        for file in store.files(name):
            _say({"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256})
            number += 1
        _say({"files": number})


@agent.command()
def send(context: typer.Context, name: Name, position: Annotated[int, typer.Option("--from", min=0)] = 0) -> None:
    """All files, one after another, from a byte of the whole on."""
    with _store(context) as store:
        for chunk in store.content(name, position):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@agent.command()
def remove(context: typer.Context, name: Name) -> None:
    """End and delete a recording; where it is not here, nothing happens."""
    with _store(context) as store:
        _say({"removed": store.remove(name, STOP_SECONDS)})
