"""What is said in plain HTML, script or not: what was and was not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from analysis.kinds import reason_of
from analysis.records import Record
from analysis.report.markup import table, text
from analysis.summary import Summary, counted, not_seen
from analysis.terminal import clock, duration

NOTHING_MISSING = "Nothing is known to be missing."


def what_was_seen(summary: Summary) -> str:
    """One line: packets, captures, nodes, how long from when."""
    captures = summary["captures"].values()
    nodes = ", ".join(node for node, each in summary["nodes"].items() if each["captured"])
    length = duration((summary["last_ns"] or 0) - (summary["first_ns"] or 0))
    packets = sum(each["frames"] for each in captures)
    seen = f"{counted(packets, 'packet')}, {counted(len(captures), 'capture')} on {nodes or 'no node'}"
    return text(f"{seen}; {length} from {clock(summary['first_ns'])}")


def what_was_not_seen(summary: Summary) -> str:
    """List items, most important first: what is missing, then what went wrong and the remedy."""
    lines = [f"<li>{text(line)}</li>" for line in not_seen(summary)]
    for problem in summary["problems"]:
        place = "" if problem["offset"] is None else f" at {problem['offset']}"
        said = text(f"{problem['file']}{place}: {problem['what']}")
        lines.append(
            f'<li class="{text(problem["severity"])}"><b>{text(problem["severity"])}</b> {said} <i>{text(problem["remedy"])}</i></li>'
        )
    return "\n".join(lines) or f"<li>{NOTHING_MISSING}</li>"


def captures(summary: Summary) -> str:
    """The table of capture files."""
    head = ("Capture", "Node", "Packets", "Cut short", "Not IP", "Dropped by the capture", "First packet", "Length")
    rows = (
        (
            file, each["node"] or "?", f"{each['frames']:,}", f"{each['truncated_frames']:,}", f"{each['non_ip_frames']:,}",
            "unknown" if each["dropped_by_capture"] is None else f"{each['dropped_by_capture']:,}", clock(each["first_ns"]),
            "?" if each["first_ns"] is None else duration(each["last_ns"] - each["first_ns"]),
        )
        for file, each in summary["captures"].items()
    )  # fmt: skip
    return table(head, rows)


def nodes(summary: Summary) -> str:
    """The table of nodes: what evidence there is of each."""
    head = ("Node", "Captured", "kube-proxy", "Service ports", "Rules", "conntrack lines")
    rows = (
        (node, "yes" if each["captured"] else "no", *("none" if each[name] is None else each[name] for name in NODE_FACTS))
        for node, each in summary["nodes"].items()
    )
    return table(head, rows)


NODE_FACTS = ("kube_proxy_mode", "services", "rules", "ledger_lines")


def left_open(summary: Summary, records: Iterable[Record], problems: Counter[str] | None = None) -> str:
    """What could not be told, and how often: reasons of the summary, of unread connections, and the records' own problems.

    `problems` are those of all, if the records are not all.
    """
    rows: list[tuple[str, str, int]] = [("not matched", reason, count) for reason, count in summary["unmatched"].items()]
    unread: dict[str, set[Any]] = {}
    said: Counter[str] = Counter()
    parents = 0
    for record in records:
        if record.get("unread"):
            unread.setdefault(record["unread"], set()).add(record.get("connection") or record["id"])
        said.update(map(reason_of, record.get("problems") or ()))
        parents += record.get("parent") is None and bool(record.get("parent_candidates"))
    rows += [("connections not read", reason, len(ids)) for reason, ids in sorted(unread.items())]
    rows += [("parent not told", "several requests could have caused it, none surely enough", parents)] * bool(parents)
    rows += [("problem", reason, count) for reason, count in (said if problems is None else problems).most_common(20)]
    return table(("What", "Why", "How many"), ((what, why, f"{count:,}") for what, why, count in rows))
