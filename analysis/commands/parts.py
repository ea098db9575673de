"""How connections are traced in parts: options that commands share, and how it fails (docs/scale.md)."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.commands.options import EXIT_INPUT, EXIT_OUTPUT, EXIT_USAGE, fail, phases
from analysis.commands.places import PlaceError, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from analysis.engine.connections import Connections
    from analysis.engine.requests import Requests
    from analysis.engine.run import Asked
    from analysis.filters import Filters
    from analysis.requests import RequestRecorder
    from tracer.bundle import Opened

ENGINES = ("local", "dask")  # analysis.engine.run

L4Only = Annotated[bool, typer.Option("--l4-only", help="Connections only: fast, and needs no tshark.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes side by side (report: with --l4-only). Default: one a processor.")]
Partitions = Annotated[int | None, typer.Option(min=1, help="Parts that are traced one by one (report: with --l4-only). Default: as fits.")]
Spill = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep packets in files of this folder, not in memory; a run that was interrupted goes on there."),
]
Engine = Annotated[str, typer.Option(help="local, or dask: on Dask's workers (report: with --l4-only; docs/scale.md).")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask's, tcp://HOST:PORT. Default: one is started here.")]


@dataclass(frozen=True, slots=True)
class How:
    """How a bundle is traced, None for what fits: in so many `partitions`, by so many processes, through files in a folder, by whom."""

    partitions: int | None = None
    processes: int | None = None
    spill: Path | None = None
    engine: str = "local"
    scheduler: str | None = None

    def check(self, *, in_parts: bool) -> None:
        """End with EXIT_USAGE where that cannot be: what is asked for is made of parts, or is not."""
        if self.engine not in ENGINES:
            fail(f"--engine {self.engine}: not one of {', '.join(ENGINES)}", EXIT_USAGE)
        if self.engine == "dask" and not in_parts:
            fail("--engine dask traces connections: give --l4-only as well", EXIT_USAGE)

    def begin(self) -> None:
        """Have loaded what workers that are started here will need, while the bundle is opened."""
        if self.engine == "dask" and self.scheduler is None:
            from analysis.engine.ahead import load_ahead  # noqa: PLC0415 - imports are slow, --help is not

            load_ahead()

    def load(self) -> None:
        """Load what traces a bundle, which takes as long as a ledger does."""
        import analysis.engine.run  # noqa: PLC0415 - imports are slow, --help is not

        if self.engine == "dask":
            with suppress(ImportError):  # which is said when it is needed
                import analysis.engine.cluster  # noqa: F401, PLC0415

    def finds_requests(self, paths: list[Path], keys: Path | None) -> bool:
        """Whether requests are found in parts: that was asked for, or packets would not fit into memory.

        With TLS keys they never are: what one connection resumes, another one began.
        """
        if keys is not None:
            if self != How():
                fail("--keys: TLS is read all at once (leave --spill, --workers, --partitions and --engine out)", EXIT_USAGE)
            return False
        if self != How():
            return True
        from analysis.engine.room import fits  # noqa: PLC0415 - imports are slow, --help is not
        from tracer.bundle_files import CAPTURE, BundleError, find_files  # noqa: PLC0415

        try:
            return not fits(find_files([place(path) for path in paths])[CAPTURE])
        except (BundleError, PlaceError, OSError):
            return False  # there is nothing to read, which is said when it is opened


def trace_parts(
    opened: Opened, how: How, filters: Callable[[int], Filters], most: int | None = None, held: int | None = None
) -> Connections:
    """The connections of a bundle: `filters` accept no more than the first `most`, or sums and `held` are of all (analysis.engine.run)."""
    from analysis.engine.run import trace_connections  # noqa: PLC0415 - imports are slow, --help is not

    with _asked(how, filters, most, held) as (asked, reading, working):
        return trace_connections(opened, asked, reading, working)


def whole_parts(opened: Opened, how: How) -> tuple[Connections, RequestRecorder]:
    """All connections of a bundle, and each of them as a request."""
    from analysis.engine.run import trace_whole  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.filters import Filters  # noqa: PLC0415

    with _asked(how, lambda _first_ns: Filters()) as (asked, reading, working):
        return trace_whole(opened, asked, reading, working)


def request_parts(opened: Opened, how: How, filters: Callable[[int], Filters], min_confidence: float) -> Requests:
    """The requests of a bundle."""
    from analysis.engine.run import trace_requests  # noqa: PLC0415 - imports are slow, --help is not

    with _asked(how, filters) as (asked, reading, working):
        return trace_requests(opened, asked, min_confidence, reading, working)


@contextmanager
def _asked(
    how: How, filters: Callable[[int], Filters], most: int | None = None, held: int | None = None
) -> Iterator[tuple[Asked, Callable[[str, int], None], Callable[[str, int, int], None]]]:
    """What is asked for, and who is told of reading and working; ends with one line where that cannot be done."""
    from analysis.engine.errors import ClusterError, SpillError  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.engine.run import Asked  # noqa: PLC0415
    from tracer.bundle import BundleError  # noqa: PLC0415

    try:
        spill = None if how.spill is None else place(how.spill)
        with phases() as (reading, working):
            yield Asked(filters, most, how.partitions, how.processes, spill, how.engine, how.scheduler, held), reading, working
    except SpillError as error:
        fail(str(error), EXIT_USAGE)
    except (BundleError, ClusterError, PlaceError) as error:
        fail(str(error), EXIT_INPUT)
    except OSError as error:
        fail(f"packets cannot be kept in files: {error} (check the folder of --spill, or TMPDIR, and its free space)", EXIT_OUTPUT)
