"""Tables are as wide as they need, or as the screen: what is never cut is whole, the others share what is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from analysis import layout
from analysis.layout import GAP, Column, begun, table

WHOLE, CUT = Column("ID"), Column("Name", 4)


def drawn(columns: list[Column], rows: list[list[str]], width: int = 80, **how: bool) -> list[str]:
    return [*table(columns, rows, Console(width=width, **how))]  # type: ignore[arg-type]


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    rows = [["c1", "web", "1/2"], ["c10", "a longer name", "10/20"]]
    assert drawn([WHOLE, CUT, Column("Packets", right=True)], rows) == [
        "ID   Name           Packets",
        "───────────────────────────",
        "c1   web                1/2",
        "c10  a longer name    10/20",
    ]


def test_a_cell_may_have_several_lines() -> None:
    assert drawn([WHOLE, Column("NAT"), Column("Status")], [["c1", "a\nb", "closed"], ["c2", "-", "open"]])[2:] == [
        "c1  a    closed",
        "    b",
        "c2  -    open",
    ]


def test_no_rows_no_table() -> None:
    assert drawn([WHOLE, CUT], []) == []


def test_who_needs_less_leaves_it_to_others() -> None:
    (line,) = drawn([CUT, CUT, CUT], [["abcd", "d" * 30, "e" * 90]], width=60)[2:]
    assert [len(cell) for cell in line.split(GAP)] == [4, 26, 26]


@given(st.lists(st.lists(st.text("ab漢👩", max_size=60), min_size=4, max_size=4), min_size=1, max_size=9), st.integers(40, 120))
def test_it_fits_and_says_who_it_is_about(rows: list[list[str]], width: int) -> None:
    columns = [WHOLE, CUT, Column("Other", 9, right=True), CUT]
    rows = [[f"c{number}", *row[1:]] for number, row in enumerate(rows)]
    lines = drawn(columns, rows, width)
    assert max(map(cell_len, lines)) <= width
    assert [line.split()[0] for line in lines[2:]] == [row[0] for row in rows]
    assert all(text in line for row, line in zip(rows, lines[2:], strict=True) for text in row if cell_len(text) <= 4)


def test_what_says_the_most_first_is_cut_at_its_end() -> None:
    columns = [WHOLE, Column("Time", 9, cut=begun)]
    assert drawn(columns, [["c1", "server 61 %, network 39 %"]], width=20)[2:] == ["c1  server 61 %, ne…"]


def test_colours_take_no_room_and_are_for_terminals() -> None:
    columns = [Column("Status", style=lambda text: "" if text == "closed" else "red"), WHOLE]
    rows = [["reset", "c1"], ["closed", "c2"]]
    assert "\x1b" not in "".join(drawn(columns, rows))
    coloured = drawn(columns, rows, force_terminal=True)
    assert coloured == ["\x1b[1mStatus  ID\x1b[0m", "──────────", "\x1b[31mreset\x1b[0m   c1", "closed  c2"]


def test_later_rows_may_widen_columns_and_never_narrow_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "AT_ONCE", 2)
    lines = drawn([WHOLE, Column("Status")], [[f"c{10**n}", "open"] for n in (0, 3, 0, 1, 6, 0)])
    assert [line.index("open") for line in lines[2:]] == [7, 7, 7, 7, 10, 10]
