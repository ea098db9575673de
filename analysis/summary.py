"""What was and was not seen: the header of every report, and `--summary`'s JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.records import Record

if TYPE_CHECKING:  # whoever shows what was counted needs none of it
    from tracer.bundle import Bundle
    from tracer.requests import RequestTrace
    from tracer.trace import Trace

Summary = dict[str, Any]


@dataclass(slots=True)
class Tally:
    """Connections counted by protocol and status, those with something left open by reason, those translated; and segments sent again."""

    by_protocol: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    unmatched: Counter[str] = field(default_factory=Counter)
    translated: int = 0
    retransmissions: int = 0

    def told(self) -> Summary:
        """Its fields as JSON has them, for `of`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, told: Summary) -> Tally:
        """What `told` told."""
        protocols, statuses, unmatched = (Counter[str](told[name]) for name in ("by_protocol", "by_status", "unmatched"))
        return cls(protocols, statuses, unmatched, told["translated"], told["retransmissions"])

    def add(self, other: Tally) -> None:
        """Take in what another one counted."""
        self.by_protocol += other.by_protocol
        self.by_status += other.by_status
        self.unmatched += other.unmatched
        self.translated += other.translated
        self.retransmissions += other.retransmissions


def tally(trace: Trace) -> Tally:
    """All connections of a trace, counted without making records of them."""
    from probes.decode.numbers import PROTOCOL_NAMES  # noqa: PLC0415 - slow to load, and only where connections are counted
    from tracer.status import STATUSES  # noqa: PLC0415

    tables = trace.tables
    protocols, statuses = (Counter[int](tables.connections[name].tolist()) for name in ("proto", "status"))
    return Tally(
        Counter({PROTOCOL_NAMES.get(number, str(number)): count for number, count in protocols.items()}),
        Counter({STATUSES[status]: count for status, count in statuses.items()}),
        Counter(_left_open(trace)),
        int(np.count_nonzero(np.diff(tables.translations["connection"], prepend=-1))),
        int(tables.connections["retransmissions"].sum()),
    )


def _left_open(trace: Trace) -> Iterator[str]:
    """What could not be told of each connection."""
    from tracer.status import CLOSED, OPEN, RESET  # noqa: PLC0415

    for named, status in zip(trace.named, trace.tables.connections["status"].tolist(), strict=True):
        if named.original < 0:
            yield "the tuple before translation was not seen"
        if named.translated < 0 and status in (OPEN, CLOSED, RESET):
            yield "the tuple after translation was not seen"
        if named.source >= 0 and (named.client is None or named.client.kind is None):
            yield "the client's address has no known owner"
        if named.target >= 0 and (named.server is None or named.server.kind is None):
            yield "the server's address has no known owner"


def summarise(trace: Trace) -> Summary:
    """What `told` tells of a trace."""
    return told(trace.bundle, tally(trace))


def told(bundle: Bundle, connections: Tally) -> Summary:
    """Files, packets, capture drops, truncation, evidence per node, and connections by status and by what could not be told.

    Every count is an int; unknown is None.
    """
    captures = {
        file: {
            "node": next((point.node for point in bundle.points if point.file == file), None),
            "frames": each.frames, "bytes": each.bytes, "truncated_frames": each.truncated, "non_ip_frames": each.other,
            "dropped_by_capture": each.dropped, "first_ns": each.first_ns, "last_ns": each.last_ns,
            "comments": [{"frame": frame, "text": text} for frame, text in each.comments],
        }
        for file, each in bundle.captures.items()
    }  # fmt: skip
    from tracer.status import STATUSES  # noqa: PLC0415

    captured = {point.node for point in bundle.points}
    known = set(bundle.timeline.nodes)
    first = [each["first_ns"] for each in captures.values() if each["first_ns"] is not None]
    last = [each["last_ns"] for each in captures.values() if each["last_ns"] is not None]
    return {
        "files": {kind: sorted(path.name for path in paths) for kind, paths in sorted(bundle.files.items()) if paths},
        "captures": captures,
        "first_ns": min(first, default=None), "last_ns": max(last, default=None),
        "nodes": {node: _node(bundle, node, captured) for node in sorted(captured | known | set(bundle.ledgers))},
        "nodes_not_captured": sorted(known - captured), "captured_elsewhere": sorted(captured - known) if known else [],
        "cluster": {kind: len(bundle.timeline.objects(kind)) for kind in ("Node", "Pod", "Service", "EndpointSlice")},
        "connections": {
            "total": connections.by_status.total(), "by_status": {status: connections.by_status[status] for status in STATUSES},
            "by_protocol": dict(sorted(connections.by_protocol.items())),
            "translated": connections.translated, "retransmissions": connections.retransmissions,
        },
        "unmatched": dict(sorted(connections.unmatched.items())),
        "problems": [
            {"file": p.file, "offset": p.offset, "what": p.what, "remedy": p.remedy, "severity": p.severity} for p in bundle.problems
        ],
    }  # fmt: skip


def _node(bundle: Bundle, node: str, captured: set[str]) -> Summary:
    rules, ledger = bundle.rules.get(node), bundle.ledgers.get(node)
    return {
        "captured": node in captured,
        "kube_proxy_mode": rules.mode if rules else None,
        "services": rules.services if rules else None,
        "rules": rules.rules if rules else None,
        "ledger_lines": len(ledger["proto"]) if ledger else None,
    }


@dataclass(slots=True)
class RequestTally:
    """Requests counted by protocol, those with a parent, and those with several possible ones but none given."""

    by_protocol: Counter[str] = field(default_factory=Counter)
    with_parent: int = 0
    not_told: int = 0

    def count(self, record: Record) -> None:
        """Take in one more."""
        self.by_protocol[record["protocol"]] += 1
        self.with_parent += record["parent"] is not None
        self.not_told += record["parent"] is None and bool(record["parent_candidates"])

    def add(self, other: RequestTally) -> None:
        """Take in what another one counted."""
        self.by_protocol.update(other.by_protocol)
        self.with_parent += other.with_parent
        self.not_told += other.not_told


def summarise_requests(found: RequestTrace, records: list[Record]) -> Summary:
    """What was and was not read inside connections; `records` are all requests'."""
    tally = RequestTally()
    for record in records:
        tally.count(record)
    return told_requests(found, tally)


def told_requests(found: RequestTrace, requests: RequestTally) -> Summary:
    """The same of all requests as they were counted."""
    clocks = found.clocks
    return {
        "total": requests.by_protocol.total(), "by_protocol": dict(requests.by_protocol.most_common()),
        "with_parent": requests.with_parent, "parent_not_told": requests.not_told,
        "unread": dict(sorted(Counter(found.dissection.unread.values()).items())), "problem": found.dissection.problem,
        "clocks_not_tied": [each.node for each in clocks.nodes if not each.known], "clock_problems": list(clocks.problems),
    }  # fmt: skip


def counted(count: int, noun: str) -> str:
    """`1 capture`, `1,234 captures`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def not_seen(summary: Summary) -> list[str]:
    """The header's lines about what is missing, most important first; empty where nothing is known to be."""
    lines = []
    captures = summary["captures"].values()
    dropped = [each["dropped_by_capture"] for each in captures]
    if any(dropped):
        lines.append(f"{counted(sum(filter(None, dropped)), 'packet')} dropped by the capture itself (its own counters)")
    if any(each is None for each in dropped):
        lines.append("packets dropped by the capture: unknown (no counters in these files)")
    truncated = sum(each["truncated_frames"] for each in captures)
    if truncated:
        lines.append(f"{truncated:,} of {counted(sum(each['frames'] for each in captures), 'packet')} captured cut short")
    if summary["nodes_not_captured"]:
        lines.append(f"nodes without a capture: {', '.join(summary['nodes_not_captured'])}")
    if summary["captured_elsewhere"]:
        names = ", ".join(summary["captured_elsewhere"])
        lines.append(f"captures whose name is no node's, taken to be from inside a pod: {names} (bundle.toml renames)")
    without = [node for node, each in summary["nodes"].items() if each["captured"] and each["ledger_lines"] is None]
    if without:
        lines.append(f"no conntrack from {', '.join(without)}: translations there are told from packets alone")
    if not summary["cluster"]["Pod"]:
        lines.append("no cluster metadata: addresses instead of names")
    lines += [f"{counted(count, 'connection')}: {reason}" for reason, count in summary["unmatched"].items()]
    return lines + _requests_not_seen(summary.get("requests"))


def _requests_not_seen(requests: Summary | None) -> list[str]:
    if requests is None:
        return []
    lines = [] if requests["problem"] is None else [f"requests inside connections: {requests['problem']}"]
    lines += [f"{counted(count, 'connection')} whose requests could not be read: {why}" for why, count in requests["unread"].items()]
    if requests["parent_not_told"]:
        lines.append(f"{counted(requests['parent_not_told'], 'request')} could have been made for several others: candidates are given")
    if requests["clocks_not_tied"]:
        lines.append(f"clocks not tied to the others by any packet: {', '.join(requests['clocks_not_tied'])}")
    return [*lines, *requests["clock_problems"]]
