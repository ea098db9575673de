"""How `hopline bench proxy` shows what it does, and what it found, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from analysis.proxy_bench import words
from analysis.terminal import PIPE_WIDTH, console


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Tells what happens and how far it is: a bar on a terminal, else nothing. Only when told: no thread draws while packets are timed."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bars:
        task = bars.add_task("", total=None)
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total, refresh=True)


def show(told: dict[str, Any]) -> None:
    """The tables, and what they say."""
    out = console()
    out.print(Text(words.about(told), "bold"))
    tables = (
        _table("First and later packets, without what the node takes anyway", words.CELL_HEADS, words.cell_rows(told), 3),
        _table("Loading rules", words.PROGRAMMING_HEADS, words.programming_rows(told), 2),
    )
    screen, wide = out.width, out.options.update(max_width=PIPE_WIDTH)
    for table in tables:
        out.width = max(screen, Measurement.get(out, wide, table).maximum)  # a narrow screen wraps rows, but no figure is cut
        out.print(table)
    out.width = screen
    for line in words.summary(told):
        out.print(Text(line))


def _table(title: str, heads: Iterable[str], rows: Iterable[tuple[str, ...]], texts: int) -> Table:
    """All columns after the first `texts` are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < texts and head != "Services" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
