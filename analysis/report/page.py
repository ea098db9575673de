"""The page: template, style, scripts, libraries and packed records in one file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from string import Template

from analysis.records import Record
from analysis.report import seen
from analysis.report.columns import Packer
from analysis.summary import Summary
from analysis.terminal import plain

FOLDER = Path(__file__).parent
SCRIPTS = (  # in this order
    "words", "columns", "model", "spent", "parties", "layout", "tip", "picture", "headline", "filters", "table", "waterfall", "path",
    "charts", "page",
)  # fmt: skip
POLICY = "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
ECHARTS = FOLDER / "vendor" / "echarts" / "echarts.common.min.js"


def build(records: Iterable[Record], summary: Summary, title: str) -> str:
    """One HTML file about `records` (of requests or of connections; keys that are missing count as unknown) under `title`.

    Nothing in it is fetched from anywhere: the content security policy allows our two scripts, by their hashes, and inline style.
    Needs a browser with DecompressionStream (Chrome 80, Firefox 113, Safari 16.4); others, and none, still read what was not seen.
    """
    rows = list(records)
    base_ns = min((row["start_ns"] for row in rows), default=summary["first_ns"] or 0)
    packer = Packer(base_ns)
    packed = packer.column(rows)
    told = {
        "base_ns": str(base_ns), "count": len(rows), "records": packed, "strings": packer.strings,
        "modes": {plain(node): each["kube_proxy_mode"] for node, each in summary["nodes"].items()},
    }  # fmt: skip
    script, library = _script(), ECHARTS.read_text("utf-8")
    return Template((FOLDER / "assets" / "template.html").read_text("utf-8")).substitute(
        title=seen.text(title), style=(FOLDER / "assets" / "style.css").read_text("utf-8"), script=script,
        policy=POLICY.format(scripts=f"{script_hash(script)} {script_hash(library)}"),
        data=compressed(json.dumps(told, separators=(",", ":"))), echarts=compressed(library), seen=seen.what_was_seen(summary),
        not_seen=seen.what_was_not_seen(summary), captures=seen.captures(summary), nodes=seen.nodes(summary),
        left_open=seen.left_open(summary, rows),
    )  # fmt: skip


def _script() -> str:
    """Our scripts as one: they share a scope and leave nothing outside it."""
    pieces = [(FOLDER / "assets" / f"{name}.js").read_text("utf-8") for name in SCRIPTS]
    return "(() => {\n'use strict';\n" + "\n".join(pieces) + "\n})();\n"


def script_hash(script: str) -> str:
    """A script as a Content-Security-Policy source (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def compressed(text: str) -> str:
    """Compressed (gzip) and in base64, the same for the same text: no character of it means anything to HTML."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
