"""The command line: one file per verb. The composition root: it alone imports from `probes`, `tracer` and `analysis` alike, and prints."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Collection
from importlib import import_module
from typing import Annotated

import typer

from analysis.commands.arguments import Command, Commands
from analysis.commands.interrupts import end_tidily
from analysis.commands.options import EXIT_OUTPUT, EXIT_USAGE
from analysis.commands.output import ended, open_streams
from probes import code_folders

COMMANDS = (
    "trace", "show", "explain", "report", "compare", "clocks", "record", "collect", "snapshot", "watch", "archive", "synth", "doctor",
)  # fmt: skip
GROUPS = ("bench", "agent")
FEW_FUNCTIONS = 5  # are compiled in a second or two
MORE_FUNCTIONS = 25
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EBADF)  # where standard output is full or closed


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - rarely asked

        try:
            typer.echo(f"hopline {version('hopline')}")
        except PackageNotFoundError:
            typer.echo("hopline, not installed (run it from its environment: pip install .)")
        raise typer.Exit


def _root(
    _show: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Tell which way each request went through the cluster, and where the time went."""


def _app(asked: Collection[str]) -> typer.Typer:
    """The command line with those of COMMANDS and GROUPS that are asked for, whose modules are imported."""
    whole = typer.Typer(
        name="hopline",
        cls=Commands,
        callback=_root,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in (each for each in COMMANDS if each in asked):
        whole.command(cls=Command)(getattr(import_module(f"analysis.commands.{name}"), name))
    for name in (each for each in GROUPS if each in asked):
        whole.add_typer(getattr(import_module(f"analysis.commands.{name}"), name), name=name)
    return whole


def __getattr__(name: str) -> typer.Typer:
    """`app` is the command line with all there is."""
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return _app([*COMMANDS, *GROUPS])


def _compiling(functions: int) -> None:
    """Say what takes so long, where many functions have to be compiled."""
    if functions == FEW_FUNCTIONS:
        typer.echo("hopline: compiling for this processor, which takes half a minute, once", err=True)
    elif functions % MORE_FUNCTIONS == 0 and sys.stderr.isatty():
        typer.echo(f"hopline: {functions} functions of some 170 compiled", err=True)


def main() -> None:
    """The `hopline` command."""
    open_streams()
    end_tidily()
    if sys.argv[1:2] not in (["record"], ["agent"]):  # which tell events, as JSON
        code_folders.tell.append(_compiling)
    # Our matrices are small; threads of OpenBLAS that spin until the others are done took forty times the work on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    everything = [*COMMANDS, *GROUPS]
    app = _app([each for each in everything if each in sys.argv[1:2]] or everything)  # all others take as long to load as typer does
    try:
        app()
    except OSError as error:
        if error.filename is None and error.errno in _NOT_WRITTEN:  # that of --help and --version
            typer.echo(f"hopline: {ended(error)}", err=True)
            sys.exit(EXIT_OUTPUT)
        if error.filename is None or not isinstance(error, PermissionError):
            raise
        # of a path that was named, looked at before anything is done
        typer.echo(f"hopline: {error.filename}: {error.strerror} (check its permissions and those of its folders)", err=True)
        sys.exit(EXIT_USAGE)
