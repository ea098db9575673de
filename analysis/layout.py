"""Tables of thousands of rows, line by line: rich, which draws all others, takes a millisecond for each row."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

AT_ONCE = 50_000  # rows of which columns are as wide as one of them needs; with the next ones they may become wider
GAP = "  "
_NARROW = re.compile("[ -~→…└µ]*")  # what hopline itself writes: rich looks up each other character


def short(text: str, width: int) -> str:
    """`text` in at most `width` cells; the middle of a long name says least (hashes are at its end, the app at its start)."""
    if _width(text) <= width:
        return text
    tail = max(3, width // 3)
    return f"{_fitting(text, width - tail - 1)}…{_fitting(text[::-1], tail)[::-1]}"


def begun(text: str, width: int) -> str:
    """The beginning of `text` in at most `width` cells, for what says the most first."""
    return text if _width(text) <= width else f"{_fitting(text, width - 1)}…"


def _fitting(text: str, width: int) -> str:
    """As much of the front of `text` as fits into `width` cells: some characters take two."""
    reached = itertools.accumulate(map(cell_len, text))
    return "".join(character for character, end in zip(text, reached, strict=True) if end <= width)


def _width(text: str) -> int:
    """How many cells of a terminal a line takes."""
    return len(text) if _NARROW.fullmatch(text) else cell_len(text)


class Column(NamedTuple):
    """`least` is how many cells of a terminal it has at least, where there is no room for all that it says; None: it is never cut.

    `style` says how a cell with a text looks, as rich calls it. `cut` makes a text fit into so many cells.
    """

    name: str
    least: int | None = None
    right: bool = False
    style: Callable[[str], str] | None = None
    cut: Callable[[str, int], str] = short


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], out: Console) -> Iterator[str]:
    """A head, then the lines of each row, as wide as `out` or less. Cells are printable, with a newline between lines."""

    @cache
    def painted(style: str) -> list[str]:
        with out.capture() as captured:
            out.print(Text("|", style), end="")
        return captured.get().split("|")

    def fitted(cells: Iterable[str], column: Column, width: int) -> Iterator[str]:
        made = {text: column.cut(text, width) for text in set(cells)}
        for text, cell in made.items():
            space = " " * (width - _width(cell))
            told = cell if column.style is None else cell.join(painted(column.style(text)))
            made[text] = space + told if column.right else told + space
        return map(made.__getitem__, cells)

    def laid(lines: Iterable[Iterable[str]], columns: Sequence[Column]) -> Iterator[str]:
        cells = zip(*lines, strict=True)
        return (GAP.join(line).rstrip() for line in zip(*map(fitted, cells, columns, widths), strict=True))

    rows = iter(rows)
    widths: list[int] = []
    while some := list(itertools.islice(rows, AT_ONCE)):
        first, widths = not widths, _widths(columns, some, widths, out.width)
        if first:
            (head,) = laid([[column.name for column in columns]], [column._replace(style=None) for column in columns])
            yield head.join(painted("bold"))
            yield "─" * (sum(widths) + len(GAP) * (len(columns) - 1))
        lines = (line for row in some for line in itertools.zip_longest(*(text.split("\n") for text in row), fillvalue=""))
        yield from laid(lines, columns)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], before: Sequence[int], room: int) -> list[int]:
    """How wide columns are, no narrower than `before`: those that may be cut share what others leave of `room`, as far as they need it."""
    least = before or [0] * len(columns)
    needs = [
        max(_width(column.name), *(_width(line) for text in set(cells) for line in text.split("\n")), width)
        for column, cells, width in zip(columns, zip(*rows, strict=True), least, strict=True)
    ]
    cut = sorted((need, at, columns[at].least or 0) for at, need in enumerate(needs) if columns[at].least is not None)
    left = room - len(GAP) * (len(columns) - 1) - (sum(needs) - sum(need for need, _, _ in cut))
    for number, (need, at, narrow) in enumerate(cut, 1):
        others = len(cut) - number
        kept = sum(narrowest for _, _, narrowest in cut[number:])
        needs[at] = min(need, max(narrow, least[at], min(left // (others + 1), left - kept)))
        left -= needs[at]
    return needs
