"""How fast two tables are joined by 64-bit keys, beside pandas, Polars and DuckDB."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import joined
from bench.rounds import Bar, Row, interleaved, medians, ratios, told
from bench.rounds import report as reported

SHOWN = {"hopline": "hopline", "pandas": "pandas.merge", "polars": "Polars, streaming", "duckdb": "DuckDB"}
BARS = (Bar("hopline", "pandas", 10, "cpu_seconds"), Bar("hopline", "polars", 3, "cpu_seconds"), Bar("hopline", "duckdb", 3, "cpu_seconds"))


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this one."""
    parser.add_argument("--join-rows", type=int, default=10_000_000, metavar="ROWS", help="of each table (default: %(default)s)")


def rows(count: int) -> dict[str, Row]:
    """Each tool with two tables of `count` rows."""
    return {
        name: Row(SHOWN[name], partial(told, ["bench.joined", name, str(count)]), None if name == "hopline" or find_spec(name) else name)
        for name in joined.TOOLS
    }


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All rounds; all tools must have found the same."""
    asked_of = rows(asked.join_rows)
    runs = interleaved(asked_of, asked.rounds, console)
    answers = {(run["count"], run["sum_ns"]) for each in runs.values() for run in each}
    if len(answers) != 1:
        raise SystemExit(f"bench: the tools do not agree about the join: {runs}")
    lacking = {name: row.lacking for name, row in asked_of.items() if row.lacking}
    return {"rows": asked.join_rows, "runs": runs, "ratios": ratios(medians(runs), BARS), "lacking": lacking}


def report(found: dict[str, Any]) -> Iterator[Table | str]:
    """The results as a table, and which bars are reached."""
    return reported(f"join, {found['rows']:,} rows a side", SHOWN, found)
