"""The output contract: one JSON object per connection (docs/output.md; `SCHEMA` in `analysis.contract` checks it).

Text is written from columns by machine code (`probes.text_rows`); `analysis.records` reads it where objects are wanted.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from analysis.ends import Ends
from analysis.failures import refusal, verdict
from analysis.hop_texts import HopTexts, one_clock
from analysis.text_columns import alike, evidence_texts, some
from analysis.translations import TranslationTexts
from probes.addresses import endpoint
from probes.decode.numbers import PROTOCOL_NAMES
from probes.schema import Array, Table
from probes.text_rows import NULL, Rows, Texts, text_rows
from tracer.cluster import Owner
from tracer.names import Named
from tracer.policies import Policy
from tracer.status import REFUSED, STATUSES, TIMEOUT
from tracer.trace import Trace

Record = dict[str, Any]


class RecordTexts:
    """Turns rows of a trace into JSON, without what depends on all the others (`analysis.records.NUMBERED`)."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.ends = trace, Ends(trace.tables.tuples)
        tables = trace.tables
        self._hops = HopTexts(trace, self.ends, tables.hops, tables.hops["connection"], tables.hops["connection"])
        self._resolutions = np.array([point.resolution_ns for point in tables.points] or [0], "i8")
        self._translations = TranslationTexts(trace, self.ends)
        self._points = [f"{point.node}/{point.interface}" for point in tables.points]

    def texts(self, first: int, end: int) -> Rows:
        """The records of rows `first` to `end` of `connections`: some thousands, as all of them are in memory."""
        tables, count, named = self.trace.tables, end - first, self.trace.named[first:end]
        table = {name: column[first:end] for name, column in tables.connections.items()}
        source, target, original, translated = (
            np.array([getattr(each, name) for each in named], "i8") for name in ("source", "target", "original", "translated")
        )
        client, server, service = (np.array([id(getattr(each, name)) for each in named], "u8") for name in ("client", "server", "service"))
        direct = np.array([each.direct for each in named], "u1")
        bits, confidence = (np.array([getattr(each, name) for each in named]) for name in ("evidence", "confidence"))
        reached = np.where(target < 0, NULL, tables.tuples["dport"][target])
        hops, translations = (bounds_of(each, first, end) for each in (tables.hops, tables.translations))
        reply, handshake, start_ns, end_ns = (table[name] for name in ("packets_reply", "handshake_ns", "start_ns", "end_ns"))
        opening = alike([table["proto"], table["status"]], lambda row: _opening(int(table["proto"][row]), int(table["status"][row])))
        return text_rows(
            count,
            [
                opening, start_ns, ', "end_ns": ', end_ns,
                *self._owner("client", "src", source, client, [each.client for each in named]),
                *self._owner("server", "dst", target, server, [each.server for each in named]),
                alike([service, direct], lambda row: f', "service": {json.dumps(service_record(named[row]))}, "ingress": null'),
                *self._tuple("original", original), *self._tuple("translated", translated),
                ', "ports": ', alike([service, server, reached], lambda row: json.dumps(_ports(named[row], int(reached[row])))),
                ', "policies": ', self._policies(first, end), ', "translations": [',
                (self._translations.texts(*translations[[0, -1]]).grouped(translations - translations[0]), np.arange(count)),
                '], "hops": [', (self._hop_texts(*hops[[0, -1]].tolist()).grouped(hops - hops[0]), np.arange(count)),
                '], "packets": {"original": ', table["packets_original"], ', "reply": ', reply,
                '}, "handshake_ns": ', np.where(handshake < 0, NULL, handshake), ', "retransmissions": ', table["retransmissions"],
                ', "losses": ', self._losses(first, end), ', "latency": {"total_ns": ',
                np.where(end_ns > start_ns, end_ns - start_ns, NULL),
                ', "network_ns": null, "server_ns": null, "uncertainty_ns": 0}, "evidence": ', evidence_texts(bits),
                ', "parent_evidence": [], "confidence": ',
                alike([confidence.view("u8")], lambda row: json.dumps(round(named[row].confidence, 4))),
                ', "candidates": ', self._candidates(named, table["proto"]), ', "last_seen_at": ', self._last_seen_at(hops, reply),
                self._failures(first, table["status"], named), ', "problems": ', self._problems(named, table["first_seen"]), "}",
            ],
        )  # fmt: skip

    def _hop_texts(self, first: int, end: int) -> Rows:
        """Rows `first` to `end` of HOPS."""
        hops = self.trace.tables.hops
        return self._hops.texts(first, end, hops["time_ns"][first:end], one_clock(hops, self._resolutions, first, end))

    def _owner(self, name: str, side: str, codes: Array, ids: Array, owners: list[Owner | None]) -> list[str | Texts]:
        """Who has the "src" or "dst" of a tuple, null without one. Owners are told apart by `ids`: all are kept by the trace."""
        none = codes < 0
        texts, which = alike([ids], lambda row: json.dumps(owner_record("", owners[row]))[_BEFORE_ADDRESS:])
        return [
            f', "{name}": ', (["null", _NOBODY[:_BEFORE_ADDRESS]], 1 - none.astype("i8")), self.ends.column(side, codes),
            ([*texts, ""], np.where(none, len(texts), which)),
        ]  # fmt: skip

    def _tuple(self, name: str, codes: Array) -> list[str | Texts]:
        """A tuple, null without one."""
        none, proto = codes < 0, self.trace.tables.tuples["proto"][codes]
        before = alike(
            [none, proto], lambda row: f', "{name}": null' if none[row] else f', "{name}": {{"proto": "{_name(int(proto[row]))}", "src": "'
        )
        return [
            before, self.ends.column("src", codes), (['", "dst": "', ""], none.astype("i8")), self.ends.column("dst", codes),
            (['"}', ""], none.astype("i8")),
        ]  # fmt: skip

    def _policies(self, first: int, end: int) -> Texts:
        @cache
        def told(*policies: Policy) -> str:
            return json.dumps([policy_record(each) for each in policies])

        found = self.trace.policies
        return some(end - first, {row - first: told(*found[row]) for row in sorted(found.keys() & range(first, end))}, "[]")

    def _losses(self, first: int, end: int) -> Texts:
        table, found = self.trace.tables.losses, dict[int, list[Record]]()
        begin, after = bounds_of(table, first, end)[[0, -1]]
        for row in zip(*(table[name][begin:after].tolist() for name in table), strict=True):
            loss = dict(zip(table, row, strict=True))
            found.setdefault(loss["connection"] - first, []).append(self._loss(loss))
        return some(end - first, {row: json.dumps(losses) for row, losses in found.items()}, "[]")

    def _loss(self, row: dict[str, int]) -> Record:
        return {
            "path": "reply" if row["reply"] else "request", "seq": row["seq"], "time_ns": row["time_ns"],
            "sent_again_after_ns": row["again_ns"],
            "last_seen_at": None if row["last_point"] < 0 else self._points[row["last_point"]],
            "first_missed_at": None if row["missed_point"] < 0 else self._points[row["missed_point"]],
        }  # fmt: skip

    def _candidates(self, named: list[Named], proto: Array) -> Texts:
        def told(row: int) -> str:
            return json.dumps([self._told(code, int(proto[row])) for code in named[row].candidates])

        return some(len(named), {row: told(row) for row, each in enumerate(named) if each.candidates}, "[]")

    def _told(self, code: int, proto: int) -> Record:
        return {"proto": _name(proto), "src": self._end("src", code), "dst": self._end("dst", code)}

    def _end(self, side: str, code: int) -> str:
        tuples = self.trace.tables.tuples
        return endpoint(*(int(tuples[name][code]) for name in (f"{side}_hi", f"{side}_lo", f"{side[0]}port")))

    def _last_seen_at(self, hops: Array, reply: Array) -> Texts:
        """Where attempts without an answer were seen last: at their last hop."""
        unanswered = (reply == 0) & (np.diff(hops) > 0)
        which = np.zeros(len(reply), "i8")
        which[unanswered] = self.trace.tables.hops["point"][hops[1:][unanswered] - 1] + 1
        return ["null", *map(json.dumps, self._points)], which

    def _failures(self, first: int, status: Array, named: list[Named]) -> Texts:
        def told(row: int) -> str:
            refused, why = refusal(self.trace, first + row, self._replies(first + row)), verdict(self.trace, first + row, named[row])
            return f', "refusal": {json.dumps(refused)}, "verdict": {json.dumps(why)}'

        failed = np.flatnonzero((status == REFUSED) | (status == TIMEOUT)).tolist()
        return some(len(named), {row: told(row) for row in failed}, ', "refusal": null, "verdict": null')

    def _replies(self, connection: int) -> list[int]:
        """The rows of a connection's hops that are replies."""
        hops = self.trace.tables.hops
        return [row for row in range(*bounds_of(hops, connection, connection + 1).tolist()) if hops["reply"][row]]

    def _problems(self, named: list[Named], first_seen: Array) -> Texts:
        found = {row: each.problems for row, each in enumerate(named) if each.problems}
        for row, seen in enumerate(first_seen.tolist()):
            if named[row].original < 0 and seen >= 0:
                found[row] = [*found.get(row, []), f"first seen as {self._end('src', seen)} > {self._end('dst', seen)}"]
        return some(len(named), {row: json.dumps(problems) for row, problems in found.items()}, "[]")


def bounds_of(table: Table, first: int, end: int) -> Array:
    """Where the rows of each of the connections `first` to `end` begin in a table sorted by connection, and where the last one's end."""
    return np.searchsorted(table["connection"], np.arange(first, end + 1, dtype=table["connection"].dtype))


def _name(proto: int) -> str:
    return PROTOCOL_NAMES.get(proto, str(proto))


def _opening(proto: int, status: int) -> str:
    return f'{{"protocol": "{_name(proto)}", "operation": null, "status": "{STATUSES[status]}", "start_ns": '


def _ports(named: Named, reached: int) -> Record:
    """The four ports of a Service call, each where it applies: nodePort, port, targetPort, containerPort (of the server's socket)."""
    service, server = named.service, named.server
    return {
        "node_port": service.node_port if service and service.via == "NodePort" else None, "port": service.port if service else None,
        "target_port": service.target_port if service else None,
        "container_port": reached if reached != NULL and server and server.kind == "pod" and (server.container or service) else None,
        "container": server.container if server else None,
    }  # fmt: skip


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


_NOBODY = json.dumps(owner_record("", None))
_BEFORE_ADDRESS = _NOBODY.index('""') + 1
