"""The document as one HTML file: curves over the number of Services, and every figure in tables that need no script."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.proxy_bench import words
from analysis.report import one_file
from analysis.report.seen import text

Json = dict[str, Any]
ASSETS = Path(__file__).parent / "assets"


def build(told: Json, title: str) -> str:
    """The page of a document (see `told`) under `title`. It fetches nothing, and needs a script for its curves only."""
    parts = {
        "about": text(words.about(told)), "summary": "".join(f"<li>{text(line)}</li>" for line in words.summary(told)),
        "cells": _table(words.CELL_HEADS, words.cell_rows(told)),
        "programming": _table(words.PROGRAMMING_HEADS, words.programming_rows(told)),
    }  # fmt: skip
    scripts = (one_file.ASSETS / "words.js", one_file.ASSETS / "columns.js", ASSETS / "bench.js")
    return one_file.page(ASSETS / "body.html", scripts, told, title, parts)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = "\n".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>\n{lines}\n</tbody></table>"
