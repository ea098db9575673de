"""The page about records: what was and was not seen in words, the records packed for its scripts."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.records import Record
from analysis.report import seen
from analysis.report.columns import Packer
from analysis.report.one_file import ASSETS, page
from analysis.summary import Summary
from analysis.terminal import plain

SCRIPTS = (  # in this order
    "words", "columns", "model", "spent", "parties", "layout", "tip", "picture", "headline", "filters", "table", "waterfall", "path",
    "charts", "page",
)  # fmt: skip


def build(records: Iterable[Record], summary: Summary, title: str) -> str:
    """One HTML file about `records` (of requests or of connections; keys that are missing count as unknown) under `title`.

    Browsers without scripts, or too old for them (see `one_file`), still read what was not seen.
    """
    rows = list(records)
    base_ns = min((row["start_ns"] for row in rows), default=summary["first_ns"] or 0)
    packer = Packer(base_ns)
    packed = packer.column(rows)
    told = {
        "base_ns": str(base_ns), "count": len(rows), "records": packed, "strings": packer.strings,
        "modes": {plain(node): each["kube_proxy_mode"] for node, each in summary["nodes"].items()},
    }  # fmt: skip
    parts = {
        "seen": seen.what_was_seen(summary), "not_seen": seen.what_was_not_seen(summary), "captures": seen.captures(summary),
        "nodes": seen.nodes(summary), "left_open": seen.left_open(summary, rows),
    }  # fmt: skip
    return page(ASSETS / "body.html", [ASSETS / f"{name}.js" for name in SCRIPTS], told, title, parts)
