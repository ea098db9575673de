"""What `hopline trace` shows, of connections or of requests: as a table, JSON lines, Parquet."""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.commands.options import EXIT_OUTPUT, fail, steps
from analysis.commands.output import nothing_partial, printing, write_whole
from analysis.commands.parts import How, request_parts, trace_parts, whole_parts

if TYPE_CHECKING:
    from analysis.cache import Answers
    from analysis.filters import Filters
    from analysis.parquet import Records
    from tracer.bundle import Opened
    from tracer.requests import RequestTrace

Record = dict[str, Any]
ON_A_SCREEN = 200  # rows printed where somebody looks, unless --limit says otherwise
LINES_AT_ONCE = 64  # that are written together: a connection's has some 4 kB


@dataclass(frozen=True, slots=True)
class Shown:
    """`lines` are the `count` records that were asked for, as JSON (ASCII), in order; `told` is what was and was not seen.

    `depths` says how deep below its root each request is, by id; it is None where the records are connections. `tables` gives the records
    of all connections, then those of all requests; it is None where they were not asked for.
    """

    lines: Callable[[], Iterable[bytes]]
    count: int
    told: Record
    tables: Callable[[], tuple[Records, Records]] | None = None
    depths: dict[str, int] | None = field(default=None)

    def records(self, most: int | None) -> Iterator[Record]:
        """The first `most` of them."""
        return (json.loads(line) for line in itertools.islice(self.lines(), most))


def rows_on_screen() -> int | None:
    """How many rows are printed if nobody said: None for all, where nobody looks."""
    return ON_A_SCREEN if sys.stdout.isatty() else None


def connections(opened: Opened, filters: Callable[[int], Filters], most: int | None, how: How) -> Shown:
    """The connections of a bundle; of its records no more than the first `most`."""
    from analysis.summary import told  # noqa: PLC0415 - imports are slow, --help is not

    found = trace_parts(opened, how, filters, most)
    return Shown(found.lines, len(found), told(found.bundle, found.tally))


def connections_and_tables(opened: Opened, filters: Callable[[int], Filters], how: How) -> Shown:
    """The connections of a bundle, and tables of all of them."""
    from analysis.summary import told  # noqa: PLC0415 - imports are slow, --help is not

    found, recorder = whole_parts(opened, how)
    summary = told(found.bundle, found.tally)
    asked = filters(summary["first_ns"] or 0)
    count = sum(1 for _ in _chosen(found.lines(), asked))
    return Shown(lambda: _chosen(found.lines(), asked), count, summary, lambda: (recorder.connection_records, recorder))


def requests_in_parts(opened: Opened, filters: Callable[[int], Filters], min_confidence: float, how: How) -> Shown:
    """The requests of a bundle, of whose packets memory holds some at a time."""
    found = request_parts(opened, how, filters, min_confidence)
    return Shown(found.lines, len(found), found.told, lambda: (found.recorder.connection_records, found.recorder), found.depths)


def requests(known: Answers, min_confidence: float, filters: Callable[[int], Filters]) -> Shown:
    """The requests of a bundle."""
    lines, depths, told = known.made(f"records {min_confidence}", partial(_recorded, min_confidence))
    chosen = list(_chosen(lines, filters(told["first_ns"] or 0)))

    def tables() -> tuple[Records, Records]:
        from analysis.requests import RequestRecorder  # noqa: PLC0415

        recorder = RequestRecorder(known.requests(), min_confidence)
        return recorder.connection_records, recorder

    return Shown(lambda: chosen, len(chosen), told, tables, depths)


def _chosen(lines: Iterable[bytes], asked: Filters) -> Iterable[bytes]:
    """Those of the records that were asked for."""
    return (line for line in lines if asked.accept(json.loads(line))) if asked.tests() else lines


def _recorded(min_confidence: float, found: RequestTrace) -> tuple[list[bytes], dict[str, int], Record]:
    """`(records as JSON (ASCII), depth of each below its root by id, what was and was not seen)`."""
    from analysis.engine.request_records import write_records  # noqa: PLC0415 - imports are slow, --help is not
    from analysis.engine.room import processors  # noqa: PLC0415
    from analysis.filters import Filters  # noqa: PLC0415
    from analysis.requests import RequestRecorder  # noqa: PLC0415
    from analysis.summary import summarise, told_requests  # noqa: PLC0415

    recorder = RequestRecorder(found, min_confidence)
    with steps() as working:
        written = write_records(recorder, Filters(), processors(), working)
    told = summarise(found.trace) | {"requests": told_requests(found, written.tally)}
    return list(written.lines()), recorder.depths(), told


def write_summary(path: Path, told: Record) -> None:
    """What was and was not seen into a new file."""
    write_whole(path, [json.dumps(told, indent=2), "\n"], force=False)


def write_tables(folder: Path, shown: Shown) -> None:
    """All of it as Parquet into a new folder."""
    from analysis.parquet import write_parquet  # noqa: PLC0415

    assert shown.tables is not None
    try:
        with nothing_partial(folder), steps() as working:
            write_parquet(folder, *shown.tables(), working)
    except OSError as error:
        fail(f"{folder} cannot be written: {error.strerror or error} (check the folder and its free space)", EXIT_OUTPUT)


def print_json(shown: Shown, most: int | None) -> None:
    """Records as JSON lines."""
    if shown.told["problems"]:
        from analysis.terminal import console, print_problems  # noqa: PLC0415

        print_problems(console(stderr=True), shown.told)
    with printing():
        lines = itertools.islice(shown.lines(), most)
        while some := list(itertools.islice(lines, LINES_AT_ONCE)):
            sys.stdout.buffer.write(b"\n".join([*some, b""]))  # ASCII: what a pod is called cannot steer a terminal


def print_table(shown: Shown, most: int | None, paths: list[Path]) -> None:
    """Records as a table, below what was not seen."""
    from analysis.connection_table import connection_table  # noqa: PLC0415
    from analysis.layout import table  # noqa: PLC0415
    from analysis.request_table import request_table  # noqa: PLC0415
    from analysis.terminal import WIDE, console, plain, print_header  # noqa: PLC0415

    out = console()
    first_ns, some = shown.told["first_ns"] or 0, shown.records(most)
    wide = out.width >= WIDE
    made = connection_table(some, first_ns, wide=wide) if shown.depths is None else request_table(some, shown.depths, first_ns, wide=wide)
    left_out = 0 if most is None else max(0, shown.count - most)
    with printing():
        print_header(out, shown.told)
        out.print()
        if not shown.count and shown.told["connections"]["total"]:
            out.print(
                "none of them is what was asked for (names and statuses are whole, or end with *: --service 'shop/*')", style="yellow"
            )
            return
        out.file.writelines(f"{line}\n" for line in table(*made, out))
        out.print()
        if left_out:
            out.print(f"{left_out:,} more: --limit 0 prints all, filters (--service, --pod, --status …) choose")
        first = next(shown.records(1), None)
        if first is not None and len(paths) == 1 and paths[0] != Path("-"):
            verb = "show" if shown.depths is None else "explain"
            out.print(f"hopline {verb} {plain(shlex.quote(str(paths[0])))} {first['id']}  tells all about one of them", style="dim")
