"""The page about records: what was and was not seen in words, the records packed for its scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from analysis.histograms import ERROR
from analysis.records import Record
from analysis.report import seen
from analysis.report.columns import Packer
from analysis.report.kinds import kinds_with_times
from analysis.report.one_file import ASSETS, page
from analysis.summary import Summary
from analysis.sums import Sums
from analysis.terminal import plain

SCRIPTS = (  # in this order
    "words", "columns", "model", "spent", "parties", "layout", "tip", "picture", "headline", "filters", "table", "waterfall", "path",
    "charts", "page",
)  # fmt: skip


def build(records: Iterable[Record], summary: Summary, title: str, sums: tuple[Sums, Sequence[int]] | None = None) -> str:
    """One HTML file about `records` (of requests or of connections; keys that are missing count as unknown) under `title`.

    `sums`, if these are not all connections: those of all, and which of their kinds each record is of.

    Browsers without scripts, or too old for them (see `one_file`), still read what was not seen.
    """
    rows = list(records)
    base_ns = min((row["start_ns"] for row in rows), default=summary["first_ns"] or 0)
    packer = Packer(base_ns)
    packed = packer.column(rows)
    told = {
        "base_ns": str(base_ns), "count": len(rows), "records": packed,
        "modes": {plain(node): each["kube_proxy_mode"] for node, each in summary["nodes"].items()},
        "kinds": None if sums is None else _kinds(*sums, packer), "strings": packer.strings,
    }  # fmt: skip
    parts = {
        "seen": seen.what_was_seen(summary), "not_seen": seen.what_was_not_seen(summary), "captures": seen.captures(summary),
        "nodes": seen.nodes(summary), "left_open": seen.left_open(summary, rows, None if sums is None else sums[0].problems),
    }  # fmt: skip
    return page(ASSETS / "body.html", [ASSETS / f"{name}.js" for name in SCRIPTS], told, title, parts)


def _kinds(sums: Sums, of: Sequence[int], packer: Packer) -> dict[str, Any]:
    return {"records": packer.column(kinds_with_times(sums)), "counts": sums.counts.tolist(), "of": list(of), "error": ERROR}
