"""The document as one HTML file: curves over the number of Services, and every figure in tables that need no script."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from analysis.proxy_bench import words
from analysis.report.page import ECHARTS, FOLDER, POLICY, compressed, script_hash
from analysis.report.seen import text

Json = dict[str, Any]
ASSETS = Path(__file__).parent / "assets"
SHARED = FOLDER / "assets"


def build(told: Json, title: str) -> str:
    """The page of a document (see `told`) under `title`. It fetches nothing, and needs a script for its curves only."""
    script, library = _script(), ECHARTS.read_text("utf-8")
    return Template((ASSETS / "template.html").read_text("utf-8")).substitute(
        title=text(title), style=(SHARED / "style.css").read_text("utf-8"), script=script, echarts=compressed(library),
        policy=POLICY.format(scripts=f"{script_hash(script)} {script_hash(library)}"), about=text(words.about(told)),
        summary="".join(f"<li>{text(line)}</li>" for line in words.summary(told)),
        cells=_table(words.CELL_HEADS, words.cell_rows(told)), programming=_table(words.PROGRAMMING_HEADS, words.programming_rows(told)),
        data=compressed(json.dumps(told, separators=(",", ":"))),
    )  # fmt: skip


def _script() -> str:
    pieces = [SHARED / "words.js", SHARED / "columns.js", ASSETS / "bench.js"]
    return "(() => {\n'use strict';\n" + "\n".join(each.read_text("utf-8") for each in pieces) + "\n})();\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = "\n".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>\n{lines}\n</tbody></table>"
