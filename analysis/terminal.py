"""Words on a terminal. Everything that comes from packets or metadata passes `plain`: control characters never reach the terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from analysis.records import Record
from analysis.summary import Summary, counted, not_seen

STYLES = {"closed": "green", "open": "cyan", "refused": "red", "timeout": "red", "reset": "yellow"}
WIDE = 150  # columns from which the table shows tuples and NAT
PIPE_WIDTH = 1000  # where nobody looks at a screen, nothing is cut or wrapped


def plain(text: str) -> str:
    """`text` with control, format and surrogate characters shown as escapes."""
    if text.isprintable():
        return text
    return "".join(c if unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in text)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """What reads the output may stop (`| head`): the command ends, and has not failed, as rich would have it."""
        self.quiet = True
        # The interpreter flushes stdout once more when it ends (Python docs, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


def console(*, stderr: bool = False) -> Console:
    """A console that does not interpret markup in what it is given, wide where it writes to a pipe."""
    found = _Console(stderr=stderr, markup=False, highlight=False, soft_wrap=False)
    return (
        found
        if found.is_terminal or "COLUMNS" in found._environ
        else _Console(stderr=stderr, markup=False, highlight=False, width=PIPE_WIDTH)
    )


def duration(ns: int | None) -> str:
    """Nanoseconds as people say them: `812 ns`, `4.2 µs`, `13.1 ms`, `2.004 s`; `?` where unknown."""
    if ns is None:
        return "?"
    for unit, size, digits in (("s", 1_000_000_000, 3), ("ms", 1_000_000, 1), ("µs", 1000, 1)):
        if abs(ns) >= size:
            return f"{ns / size:.{digits}f} {unit}"
    return f"{ns} ns"


def clock(ns: int | None) -> str:
    """A moment as UTC time with microseconds."""
    return (
        "?"
        if ns is None
        else datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{ns % 1_000_000_000 // 1000:06d}Z"
    )


def who(end: Record | None, *, brief: bool = False) -> str:
    """One end of a connection: a pod's `namespace/name` (`brief`: without namespace), a node's name, else the address."""
    if end is None:
        return "?"
    if end["kind"] == "pod":
        return plain(end["name"] if brief else f"{end['namespace']}/{end['name']}")
    if end["kind"] == "node":
        return plain(f"node {end['name'] or end['address']}")
    return plain(end["address"].rpartition(":")[0] if brief else end["address"])


def what(record: Record, *, brief: bool = False) -> str:
    """What the client asked for: `namespace/service:port` and how (`brief`: `service:port`), `direct`, or `?`."""
    service = record["service"]
    if service is None:
        return "?"
    if service["name"] is None:
        return "direct"
    port = "" if service["port"] is None else f":{service['port']}"  # of a Service that is only a name (ExternalName)
    return plain(f"{service['name']}{port}" if brief else f"{service['namespace']}/{service['name']}{port} {service['via']}")


def nat(record: Record) -> str:
    """Which node did which translation: `node-a dnat+snat`."""
    return ", ".join(f"{plain(step['node'])} {'+'.join(step['kinds'])}" for step in record["translations"]) or "-"


def print_header(out: Console, summary: Summary) -> None:
    """What was seen, in two or three lines, then what was not."""
    captures = summary["captures"].values()
    frames, nodes = sum(each["frames"] for each in captures), [node for node, each in summary["nodes"].items() if each["captured"]]
    length = (summary["last_ns"] or 0) - (summary["first_ns"] or 0)
    seen = f"{counted(frames, 'packet')}, {counted(len(captures), 'capture')}, {plain(', '.join(nodes))}"
    out.print(Text(f"{seen}; {duration(length)} from {clock(summary['first_ns'])}", "bold"))
    modes: dict[str, list[str]] = {}
    for node, each in summary["nodes"].items():
        if each["kube_proxy_mode"]:
            modes.setdefault(each["kube_proxy_mode"], []).append(node)
    for mode, where in modes.items():
        services, rules = (max(summary["nodes"][node][name] for node in where) for name in ("services", "rules"))
        out.print(Text(f"kube-proxy {mode} on {plain(', '.join(where))} ({counted(services, 'Service port')}, {counted(rules, 'rule')})"))
    counts = summary["connections"]
    states = ", ".join(f"{count} {status}" for status, count in counts["by_status"].items() if count)
    totals = f"{counts['translated']:,} translated, {counted(counts['retransmissions'], 'retransmission')}"
    out.print(Text(f"{counted(counts['total'], 'connection')} ({states or 'none'}), {totals}"))
    if summary.get("requests"):
        out.print(Text(requests_line(summary["requests"])))
    for line in not_seen(summary):
        out.print(Text.assemble(("not seen  ", "yellow"), plain(line)))
    print_problems(out, summary)


def requests_line(counts: Summary) -> str:
    """How many requests of which protocol, and how many of them were made for another one."""
    kinds = ", ".join(f"{count:,} {plain(protocol)}" for protocol, count in counts["by_protocol"].items())
    return f"{counted(counts['total'], 'request')} ({kinds or 'none'}), {counts['with_parent']:,} of them made for another one"


def print_problems(out: Console, summary: Summary) -> None:
    """A line per problem: what, where, what to do."""
    for problem in summary["problems"]:
        place = "" if problem["offset"] is None else f" at {problem['offset']}"
        out.print(
            Text.assemble(
                (f"{problem['severity']:<10}", "red" if problem["severity"] == "error" else "yellow"),
                plain(f"{problem['file']}{place}: {problem['what']} ({problem['remedy']})"),
            )
        )
