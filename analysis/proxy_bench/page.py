"""The document as one HTML file: curves over the number of Services, and every figure in tables that need no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.proxy_bench import words
from analysis.report import one_file
from analysis.report.markup import table, text

Json = dict[str, Any]
ASSETS = Path(__file__).parent / "assets"


def build(told: Json, title: str) -> str:
    """The page of a document (see `told`) under `title`. It fetches nothing, and needs a script for its curves only."""
    parts = {
        "about": text(words.about(told)), "summary": "".join(f"<li>{text(line)}</li>" for line in words.summary(told)),
        "cells": table(words.CELL_HEADS, words.cell_rows(told)),
        "programming": table(words.PROGRAMMING_HEADS, words.programming_rows(told)),
    }  # fmt: skip
    scripts = (one_file.ASSETS / "words.js", one_file.ASSETS / "columns.js", ASSETS / "bench.js")
    return one_file.page(ASSETS / "body.html", scripts, told, title, parts)
