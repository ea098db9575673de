"""`hopline snapshot`: the cluster's objects at this moment, for a bundle."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Default: as kubectl finds it, else the pod's service account.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig. Default: its current one.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace (and nodes). Default: all.")]

EXIT_USAGE, EXIT_CLUSTER, EXIT_OUTPUT = 2, 3, 4


def snapshot(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write, .json. Default: stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Save what the API server knows right now: nodes, pods, Services, EndpointSlices, Ingresses, ReplicaSets, Deployments.

    Reads only (get and list), never Secrets. The file is a List as of `kubectl get -o json`, with the time it was taken.

    Example: hopline snapshot -o bundle/cluster.json

    Exit codes: 0 saved (kinds that were denied are named on stderr), 2 wrong usage or the file exists, 3 the cluster cannot be reached or
    denies everything, 4 the file cannot be written.
    """
    from tracer.live import ClusterError, connect  # noqa: PLC0415 - imports are slow
    from tracer.live import snapshot as take  # noqa: PLC0415

    if output is not None and output.exists() and not force:
        fail(f"{output} exists (name another file, or overwrite it with --force)", EXIT_USAGE)
    try:
        taken = take(connect(kubeconfig, context), warn, namespace=namespace)
    except ClusterError as error:
        fail(str(error), EXIT_CLUSTER)
    if output is None:
        with quiet_pipe():
            sys.stdout.writelines(taken.text())
            sys.stdout.flush()
        return
    _save(output, taken.text(), force=force)
    typer.echo(f"{output}: {len(taken.items)} objects of {len(taken.kinds)} kinds", err=True)


def write_whole(path: Path, pieces: Iterable[str], *, force: bool) -> None:
    """Write a file so that it is there completely or not at all. FileExistsError where it is there already, unless `force`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        if not force:
            try:
                os.link(part, path)  # unlike a rename, refuses what has come into being meanwhile
            except FileExistsError:
                raise
            except OSError:  # a filesystem without links
                if path.exists():
                    raise FileExistsError(path) from None
            else:
                return
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_page(path: Path, page: str, *, force: bool) -> None:
    """Write an HTML file whole, and say so; ends where it cannot be."""
    _save(path, [page], force=force)
    typer.echo(f"{shlex.quote(str(path))}: {path.stat().st_size / 1e6:.1f} MB, open it in any browser", err=True)


def _save(path: Path, pieces: Iterable[str], *, force: bool) -> None:
    try:
        write_whole(path, pieces, force=force)
    except FileExistsError:
        fail(f"{path} exists (name another file, or overwrite it with --force)", EXIT_USAGE)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror} (check the folder and its free space)", EXIT_OUTPUT)


def warn(problem: object) -> None:
    """One line on stderr."""
    typer.echo(f"warning: {problem}", err=True)


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, and out."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """Let `| head` end the output without a traceback."""
    try:
        yield
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends (Python docs, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
