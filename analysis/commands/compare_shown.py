"""A comparison on a terminal: the verdict first, then what else sets the sides apart, then question by question."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.compare import words
from analysis.compare.claims import DIFFERS, PERHAPS, REFUSED, SAME, SMALL
from analysis.compare.clusters import FEWEST
from analysis.compare.spread import BREAKS
from analysis.terminal import console, plain

Json = dict[str, Any]
STYLES = {DIFFERS: "bold", PERHAPS: "yellow", SAME: "dim", SMALL: "dim", REFUSED: "yellow"}


def show(told: Json) -> None:
    """Print all of it."""
    out = console()
    for pair in told["comparisons"]:
        _pair(out, pair)
    _balance(out, told["sides"])
    _facts(out, told["sides"])


def _pair(out: Console, pair: Json) -> None:
    out.print(Text(plain(words.headline(pair)), "bold"))
    for each in pair["confounders"]:
        _line(out, "differs", f"{each['fact']}: {pair['a']} has {each['a']}; {pair['b']} has {each['b']}", "red")
    for each in pair["unchecked"]:
        _line(out, "unchecked", f"{each['fact']}: {pair['a']} {each['a']}, {pair['b']} {each['b']} ({each['record_instead']})")
    for each in pair["cautions"]:
        _line(out, "caution", each)
    for each in pair["record_instead"]:
        _line(out, "to do", each, "cyan")
    for group in (lambda verdict: verdict not in (SAME, SMALL), lambda verdict: verdict == SAME):
        claims = [claim for claim in pair["claims"] if group(claim["verdict"])]
        if claims:
            out.print(_claims(claims, pair))
    small = [words.question(claim) for claim in pair["claims"] if claim["verdict"] == SMALL]
    if small:
        _line(out, SMALL, f"worth fewer than {FEWEST} independent client connections (node recordings) on a side: {'; '.join(small)}")
    out.print()


def _line(out: Console, label: str, text: str, style: str = "yellow") -> None:
    out.print(Text.assemble((f"{label:<11}", style), plain(text)))


def _claims(claims: Iterable[Json], pair: Json) -> Table:
    rows = [
        ((words.question(claim), *words.sides(claim), words.change(claim), words.answer(claim, pair)), claim["verdict"]) for claim in claims
    ]  # fmt: skip
    return _table(("Question", pair["a"], pair["b"], f"{pair['b']} against {pair['a']}", "Answer"), rows)


def _balance(out: Console, sides: Iterable[Json]) -> None:
    for side in sides:
        told = [each for each in side["balance"] if len(each["endpoints"]) > 1]
        if told:
            out.print(Text(plain(f"load balancing in {side['name']}"), "bold"))
            rows = [(words.spread(each), DIFFERS if each["verdict"] == BREAKS else "") for each in told]
            out.print(_table(("Service", "Promises", "Connections", "Answer"), rows))


def _facts(out: Console, sides: list[Json]) -> None:
    columns = [words.facts(side) for side in sides]
    rows = [((each[0][0], *(told for _, told in each)), "") for each in zip(*columns, strict=True)]
    out.print(_table(("", *(side["name"] for side in sides)), rows))


def _table(head: Iterable[str], rows: Iterable[tuple[Iterable[str], str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), expand=False)
    for name in head:
        table.add_column(Text(plain(name)), overflow="fold")
    for cells, verdict in rows:
        table.add_row(*(Text(plain(cell)) for cell in cells), style=STYLES.get(verdict, ""))
    return table
