"""`hopline archive`: a bundle whose packets are kept as Parquet."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from analysis.commands.options import EXIT_INPUT, EXIT_OUTPUT, EXIT_PROBLEMS, EXIT_USAGE, Cluster, Paths, fail, open_input, phases
from analysis.commands.record import span_seconds


def archive(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write, new or what an interrupted run left.")],
    cluster: Cluster = None,
    bucket: Annotated[
        str | None, typer.Option(metavar="TIME", help="Packets of so long are together: 10m, 1h, 24h. Default: what gives no small files.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Parts of whole connections. Default: one for each 500,000 packets.")
    ] = None,
) -> None:
    """Keep a bundle's packets as Parquet, without their payload.

    They are decoded, some 15 bytes each, for hopline and for any other tool. The archive is a bundle itself, with everything but the
    captures beside it: `hopline trace --l4-only`, `report --l4-only`, `show` and `clocks` say of it what they say of the captures.
    Requests need payload, which is not kept. Columns and queries: docs/archive.md.

    Examples:
      hopline archive bundle/ -o archive/ && hopline trace archive/ --l4-only
      hopline archive bundle/ -o s3://captures/2026-11-23 --bucket 10m

    Nothing in the input is ever changed. An interrupted run goes on where it was. Exit codes: 0 done, 1 done but some input could not be
    read at all, 2 wrong usage or the folder holds something else, 3 nothing to read, 4 the archive cannot be written.
    """
    seconds = None if bucket is None else span_seconds(bucket, "--bucket")
    if seconds is not None and (seconds < 1 or seconds != int(seconds)):
        fail(f"--bucket {bucket}: give whole seconds, one or more", EXIT_USAGE)
    for path in paths:
        if path.is_dir() and path.resolve() in output.resolve().parents:
            fail(f"{output} is inside {path}, of which it would become a part (name a folder elsewhere)", EXIT_USAGE)
    opened = open_input(paths, cluster, no_ledger=False, no_rules=False, no_cluster=False, keep_input=True)
    from analysis.commands.places import PlaceError, place  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.engine.archive import Layout, write_archive  # noqa: PLC0415
    from analysis.engine.errors import ArchiveError, SpillError  # noqa: PLC0415
    from analysis.engine.local import Local  # noqa: PLC0415
    from analysis.summary import counted  # noqa: PLC0415
    from analysis.terminal import plain  # noqa: PLC0415
    from tracer.bundle_files import BundleError, folders_of  # noqa: PLC0415

    try:
        folder = place(output)
        with phases() as (reading, working):
            layout, machine = Layout(None if seconds is None else int(seconds), partitions), Local(opened, None, reading, working)
            contents = write_archive(opened, folders_of(list(map(place, paths))), folder, layout, machine, working)
    except (ArchiveError, SpillError) as error:
        fail(str(error), EXIT_USAGE)
    except (BundleError, PlaceError) as error:
        fail(str(error), EXIT_INPUT)
    except OSError as error:
        fail(f"{output} cannot be written: {error} (check the folder and its free space, and TMPDIR's)", EXIT_OUTPUT)
    rows, size_bytes = (sum(getattr(each, name) for each in contents.packets) for name in ("rows", "size_bytes"))
    frames = sum(each.frames for each in contents.captures.values())
    said = f"{frames:,} packets ({rows:,} rows), {size_bytes / 1e6:,.1f} MB in {counted(contents.parts, 'part')}"
    problems = [*opened.bundle.problems, *contents.problems, *opened.later]
    for problem in problems:
        typer.echo(plain(str(problem)), err=True)
    typer.echo(f"{shlex.quote(str(output))}: {said}", err=True)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(EXIT_PROBLEMS)
