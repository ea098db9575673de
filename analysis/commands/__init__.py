"""The command line: one file per verb. The composition root: it alone imports from `probes`, `tracer` and `analysis` alike, and prints."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from analysis.commands.agent import agent
from analysis.commands.archive import archive
from analysis.commands.arguments import Command, Commands
from analysis.commands.bench import bench
from analysis.commands.clocks import clocks
from analysis.commands.collect import collect
from analysis.commands.compare import compare
from analysis.commands.doctor import doctor
from analysis.commands.explain import explain
from analysis.commands.options import EXIT_OUTPUT, EXIT_USAGE
from analysis.commands.output import ended, open_streams
from analysis.commands.record import record
from analysis.commands.report import report
from analysis.commands.show import show
from analysis.commands.snapshot import snapshot
from analysis.commands.synth import synth
from analysis.commands.trace import trace
from analysis.commands.watch import watch
from probes import code_folders

FEW_FUNCTIONS = 5  # are compiled in a second or two
MORE_FUNCTIONS = 25
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EBADF)  # where standard output is full or closed

app = typer.Typer(
    name="hopline",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (trace, show, explain, report, compare, clocks, record, collect, snapshot, watch, archive, synth, doctor):
    app.command(cls=Command)(command)
app.add_typer(bench, name="bench")
app.add_typer(agent, name="agent")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - rarely asked

        try:
            typer.echo(f"hopline {version('hopline')}")
        except PackageNotFoundError:
            typer.echo("hopline, not installed (run it from its environment: pip install .)")
        raise typer.Exit


@app.callback()
def root(
    _show: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Tell which way each request went through the cluster, and where the time went."""


def _compiling(functions: int) -> None:
    """Say what takes so long, where many functions have to be compiled."""
    if functions == FEW_FUNCTIONS:
        typer.echo("hopline: compiling for this processor, which takes half a minute, once", err=True)
    elif functions % MORE_FUNCTIONS == 0 and sys.stderr.isatty():
        typer.echo(f"hopline: {functions} functions of some 170 compiled", err=True)


def main() -> None:
    """The `hopline` command."""
    open_streams()
    if sys.argv[1:2] not in (["record"], ["agent"]):  # which tell events, as JSON
        code_folders.tell.append(_compiling)
    # Our matrices are small; threads of OpenBLAS that spin until the others are done took forty times the work on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    asked = [command for command in app.registered_commands if command.callback and command.callback.__name__ in sys.argv[1:2]]
    if asked:  # all others' options take longer to make than one's run takes to read its arguments
        app.registered_commands, app.registered_groups = asked, []
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
