"""How connections are traced in parts: options that commands share, and how it fails (docs/scale.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.commands.options import EXIT_INPUT, EXIT_OUTPUT, EXIT_USAGE, fail, phases
from analysis.commands.places import PlaceError, place

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.engine.connections import Connections
    from analysis.filters import Filters
    from tracer.bundle import Opened

ENGINES = ("local", "dask")  # analysis.engine.run

L4Only = Annotated[bool, typer.Option("--l4-only", help="Connections only: fast, and needs no tshark.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes side by side (with --l4-only). Default: one a processor.")]
Partitions = Annotated[int | None, typer.Option(min=1, help="Parts that are traced one by one (with --l4-only). Default: as fits.")]
Spill = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep packets in files of this folder, not in memory; a run that was interrupted goes on there."),
]
Engine = Annotated[str, typer.Option(help="local, or dask: on Dask's workers (with --l4-only; docs/scale.md).")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask's, tcp://HOST:PORT. Default: one is started here.")]


@dataclass(frozen=True, slots=True)
class How:
    """How connections are traced, None for what fits: in so many `partitions`, by so many processes, through files in a folder, by whom."""

    partitions: int | None
    processes: int | None
    spill: Path | None
    engine: str
    scheduler: str | None

    def check(self, *, l4_only: bool) -> None:
        """End with EXIT_USAGE where that cannot be."""
        if self.engine not in ENGINES:
            fail(f"--engine {self.engine}: not one of {', '.join(ENGINES)}", EXIT_USAGE)
        if self.engine == "dask" and not l4_only:
            fail("--engine dask traces connections: give --l4-only as well", EXIT_USAGE)


def trace_parts(
    opened: Opened, how: How, filters: Callable[[int], Filters], most: int | None = None, held: int | None = None
) -> Connections:
    """The connections of a bundle: `filters` accept no more than the first `most`, or sums and `held` are of all (analysis.engine.run)."""
    from analysis.engine.errors import ClusterError, SpillError  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.engine.run import Asked, trace_connections  # noqa: PLC0415
    from tracer.bundle import BundleError  # noqa: PLC0415

    try:
        spill = None if how.spill is None else place(how.spill)
        asked = Asked(filters, most, how.partitions, how.processes, spill, how.engine, how.scheduler, held)
        with phases() as (reading, working):
            return trace_connections(opened, asked, reading, working)
    except SpillError as error:
        fail(str(error), EXIT_USAGE)
    except (BundleError, ClusterError, PlaceError) as error:
        fail(str(error), EXIT_INPUT)
    except OSError as error:
        fail(f"packets cannot be kept in files: {error} (check the folder of --spill, or TMPDIR, and its free space)", EXIT_OUTPUT)
