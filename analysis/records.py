"""The output contract: one JSON object per connection (docs/output.md; `SCHEMA` in `analysis.contract` checks it).

`analysis.record_texts` writes the same without objects: what changes here changes there, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from analysis.ends import Ends
from analysis.failures import refusal, verdict
from analysis.hops import HopRecords
from analysis.translations import TranslationRecords
from probes.decode.numbers import PROTOCOL_NAMES
from probes.schema import Array, Table
from probes.text_rows import NULL
from tracer import evidence
from tracer.cluster import Owner
from tracer.names import Named
from tracer.policies import Policy
from tracer.status import REFUSED, STATUSES, TIMEOUT
from tracer.trace import Trace

Record = dict[str, Any]
CONFIDENT = 0.9  # joins below it are not given
CHUNK = 1 << 12  # records that are made at a time
NUMBERED = ("id", "parent", "trace")


class Recorder:
    """Turns rows of a trace into records."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.ends = trace, Ends(trace.tables.tuples)
        tables = trace.tables
        self._hop_records = HopRecords(trace, tables.hops, tables.hops["connection"], self.ends)
        self._translation_records = TranslationRecords(trace, self.ends)
        self._resolutions = np.array([point.resolution_ns for point in tables.points] or [0], "i8")
        self._points = [f"{point.node}/{point.interface}" for point in tables.points]

    def __len__(self) -> int:
        return len(self.trace.named)

    def __iter__(self) -> Iterator[Record]:
        return self.between(0, len(self))

    def between(self, first: int, end: int) -> Iterator[Record]:
        """The records of rows `first` to `end`, some at a time."""
        for start in range(first, end, CHUNK):
            yield from self.records(start, min(start + CHUNK, end))

    def record(self, connection: int) -> Record:
        """The record of one row of `connections`."""
        return self.records(connection, connection + 1)[0]

    def records(self, first: int, end: int) -> list[Record]:
        """The records of rows `first` to `end` of `connections`."""
        columns = {name: column[first:end].tolist() for name, column in self.trace.tables.connections.items()}
        named = self.trace.named[first:end]
        self._learn(named, columns["first_seen"])
        rows = zip(*columns.values(), strict=True)
        last = [end - 1 if end > begin else -1 for begin, end in pairwise(bounds_of(self.trace.tables.hops, first, end))]
        parts = zip(self._hops(first, end), last, self._translations(first, end), self._losses(first, end), strict=True)
        names = list(columns)
        return [
            self._record(connection, each, dict(zip(names, row, strict=True)), *its)
            for connection, each, row, its in zip(range(first, end), named, rows, parts, strict=True)
        ]

    def _learn(self, named: Sequence[Named], first_seen: Sequence[int]) -> None:
        """Make the ends of all tuples that records of these connections have, but for those of hops and translations."""
        codes = [code for each in named for code in (each.source, each.original, each.translated, *each.candidates)]
        self.ends.learn(np.array([*codes, *first_seen], "i8"))

    def _record(
        self, connection: int, named: Named, row: dict[str, Any], hops: list[Record], last_hop: int, translations: list[Record],
        losses: list[Record],
    ) -> Record:  # fmt: skip
        ends, original, translated = self.ends, named.original, named.translated
        protocol, start, end = PROTOCOL_NAMES.get(row["proto"], str(row["proto"])), row["start_ns"], row["end_ns"]
        failed = row["status"] in (REFUSED, TIMEOUT)
        return {
            "id": f"c{connection + 1}", "parent": None, "trace": f"t{connection + 1}", "protocol": protocol, "operation": None,
            "status": STATUSES[row["status"]], "start_ns": start, "end_ns": end,
            "client": owner_record(ends.src[named.source], named.client) if named.source >= 0 else None,
            "server": owner_record(ends.dst[translated], named.server) if translated >= 0 else None,
            "service": service_record(named), "ingress": None,
            "original": self._tuple(original, protocol), "translated": self._tuple(translated, protocol),
            "ports": self._ports(named),
            "policies": [policy_record(policy) for policy in self.trace.policies.get(connection, ())],
            "translations": translations, "hops": hops,
            "packets": {"original": row["packets_original"], "reply": row["packets_reply"]},
            "handshake_ns": None if row["handshake_ns"] < 0 else row["handshake_ns"],
            "retransmissions": row["retransmissions"], "losses": losses,
            "latency": {"total_ns": end - start, "network_ns": None, "server_ns": None, "uncertainty_ns": 0},
            "evidence": evidence.names(named.evidence), "parent_evidence": [], "confidence": round(named.confidence, 4),
            "candidates": [self._tuple(code, protocol) for code in named.candidates],
            "last_seen_at": None if row["packets_reply"] else self._last_seen_at(last_hop),
            "refusal": refusal(self.trace, connection, self._replies(connection)) if failed else None,
            "verdict": verdict(self.trace, connection, named) if failed else None,
            "problems": [*named.problems, *self._unseen(original, row["first_seen"])],
        }  # fmt: skip

    def _tuple(self, code: int, protocol: str) -> Record | None:
        return None if code < 0 else {"proto": protocol, "src": self.ends.src[code], "dst": self.ends.dst[code]}

    def _unseen(self, original: int, seen: int) -> list[str]:
        return [] if original >= 0 or seen < 0 else [f"first seen as {self.ends.src[seen]} > {self.ends.dst[seen]}"]

    def _last_seen_at(self, last_hop: int) -> str | None:
        """Where an attempt without an answer was seen last: at that hop, -1 where there is none."""
        return None if last_hop < 0 else self._points[self.trace.tables.hops["point"][last_hop]]

    def _reached(self, named: Named) -> int | None:
        """The port of the server's socket."""
        return int(self.trace.tables.tuples["dport"][named.translated]) if named.translated >= 0 else None

    def _ports(self, named: Named) -> Record:
        """The four ports of a Service call, each where it applies: nodePort, port, targetPort, containerPort."""
        service, server = named.service, named.server
        return {
            "node_port": service.node_port if service and service.via == "NodePort" else None, "port": service.port if service else None,
            "target_port": service.target_port if service else None,
            "container_port": self._reached(named) if server and server.kind == "pod" and (server.container or service) else None,
            "container": server.container if server else None,
        }  # fmt: skip

    def _replies(self, connection: int) -> list[int]:
        """The rows of a connection's hops that are replies."""
        hops = self.trace.tables.hops
        return [row for row in range(*bounds_of(hops, connection, connection + 1)) if hops["reply"][row]]

    def _hops(self, first: int, end: int) -> Iterator[list[Record]]:
        """The hops of each connection, with their latencies on the clock of their node."""
        table = self.trace.tables.hops
        bounds = bounds_of(table, first, end)
        begin, after = bounds[0], bounds[-1]
        records = self._hop_records.records(begin, after)
        for record, *each in zip(records, *(column.tolist() for column in self._latencies(begin, after)), strict=True):
            record["offset_ns"], record["latency_ns"], record["uncertainty_ns"] = (None if value == NULL else value for value in each)
        return _parts(records, bounds)

    def _latencies(self, first: int, end: int) -> tuple[Array, Array, Array]:
        """The time (int64 ns) of hops `first` to `end` since the first of their path, and since the one before; and the clock's unit.

        NULL where two clocks are in it, or there is none before.
        """
        table, rows = self.trace.tables.hops, np.arange(first, end)
        start, latency = rows - table["position"][rows], table["latency_ns"][rows]
        offset = np.where(table["node"][rows] == table["node"][start], table["time_ns"][rows] - table["time_ns"][start], NULL)
        told = latency >= 0
        return offset, np.where(told, latency, NULL), np.where(told, self._resolutions[table["point"][rows]], NULL)

    def _translations(self, first: int, end: int) -> Iterator[list[Record]]:
        bounds = bounds_of(self.trace.tables.translations, first, end)
        return _parts(self._translation_records.records(bounds[0], bounds[-1]), bounds)

    def _losses(self, first: int, end: int) -> Iterator[list[Record]]:
        table = self.trace.tables.losses
        bounds = bounds_of(table, first, end)
        rows = zip(*(table[name][bounds[0] : bounds[-1]].tolist() for name in table), strict=True)
        return _parts([self._loss(dict(zip(table, row, strict=True))) for row in rows], bounds)

    def _loss(self, row: dict[str, int]) -> Record:
        return {
            "path": "reply" if row["reply"] else "request", "seq": row["seq"], "time_ns": row["time_ns"],
            "sent_again_after_ns": row["again_ns"],
            "last_seen_at": None if row["last_point"] < 0 else self._points[row["last_point"]],
            "first_missed_at": None if row["missed_point"] < 0 else self._points[row["missed_point"]],
        }  # fmt: skip


def unnumbered(record: Record) -> Record:
    """`record` without what depends on all the others."""
    return {name: value for name, value in record.items() if name not in NUMBERED}


def bounds_of(table: Table, first: int, end: int) -> list[int]:
    """Where the rows of each of the connections `first` to `end` begin in a table sorted by connection, and where the last one's end."""
    bounds: list[int] = np.searchsorted(table["connection"], np.arange(first, end + 1, dtype=table["connection"].dtype)).tolist()
    return bounds


def _parts(records: list[Record], bounds: list[int]) -> Iterator[list[Record]]:
    """The records of each connection, of those from `bounds[0]` on."""
    return (records[begin - bounds[0] : end - bounds[0]] for begin, end in pairwise(bounds))


def policy_record(policy: Policy) -> Record:
    """One policy as it is told."""
    return {"name": policy.name, "value": policy.value, "held": policy.held, "why": policy.why}


def owner_record(address: str, owner: Owner | None) -> Record:
    """Who has an address."""
    if owner is None:
        return {"address": address, "kind": None, "namespace": None, "name": None, "node": None, "container": None}
    record = {
        "address": address, "kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "node": owner.node,
        "container": owner.container, "container_port": owner.container_port_name,
    }  # fmt: skip
    if owner.process is not None:
        record["process"] = owner.process
    return record


def service_record(named: Named) -> Record | None:
    """The Service that was asked for; "direct" without one, None where nobody knows."""
    service = named.service
    if service is None:
        return {"namespace": None, "name": None, "port": None, "via": "direct"} if named.direct else None
    return {
        "namespace": service.namespace, "name": service.name, "port": str(service.port), "via": service.via, "port_name": service.port_name,
        "type": service.type,
    }  # fmt: skip
