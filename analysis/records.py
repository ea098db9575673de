"""The output contract: one JSON object per connection (docs/output.md; `SCHEMA` in `analysis.contract` checks it)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.failures import refusal, verdict
from analysis.hops import HopColumns, address_of
from probes.addresses import endpoint
from probes.decode.numbers import ICMP, ICMPV6, PROTOCOL_NAMES
from probes.schema import Table
from tracer import evidence
from tracer.cluster import Owner
from tracer.names import Named
from tracer.rules import ProxyRules
from tracer.status import STATUSES
from tracer.trace import Trace

Record = dict[str, Any]
CONFIDENT = 0.9  # joins below it are not given


class Recorder:
    """Turns rows of a trace into records."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        tables = trace.tables
        self._connections = {name: column.tolist() for name, column in tables.connections.items()}
        self._translations = _rows_by_connection(tables.translations)
        self._hops = _rows_by_connection(tables.hops)
        self._losses = _rows_by_connection(tables.losses)
        self._rule_paths: dict[tuple[int, str, str, str], Record | None] = {}  # the same for every connection of a client to a Service
        self._src: dict[int, str] = {}
        self._dst: dict[int, str] = {}
        self._hop_columns = HopColumns(trace, tables.hops, self.src, self.dst)
        self._seen = self._hop_columns.columns

    def __iter__(self) -> Iterator[Record]:
        return (self.record(connection) for connection in range(len(self.trace.named)))

    def src(self, code: int) -> str:
        """The source of a tuple as `address:port`."""
        if code not in self._src:
            self._src[code] = self._end(code, "src", "sport")
        return self._src[code]

    def dst(self, code: int) -> str:
        """The destination of a tuple as `address:port`."""
        if code not in self._dst:
            self._dst[code] = self._end(code, "dst", "dport")
        return self._dst[code]

    def _end(self, code: int, side: str, port: str) -> str:
        tuples = self.trace.tables.tuples
        return endpoint(int(tuples[f"{side}_hi"][code]), int(tuples[f"{side}_lo"][code]), int(tuples[port][code]))

    def _tuple(self, code: int, protocol: str) -> Record | None:
        return None if code < 0 else {"proto": protocol, "src": self.src(code), "dst": self.dst(code)}

    def record(self, connection: int) -> Record:
        """The record of one row of `connections`."""
        named, columns = self.trace.named[connection], self._connections
        protocol = PROTOCOL_NAMES.get(columns["proto"][connection], str(columns["proto"][connection]))
        start, end = columns["start_ns"][connection], columns["end_ns"][connection]
        original, translated = named.original, named.translated
        seen = columns["first_seen"][connection]
        return {
            "id": f"c{connection + 1}", "parent": None, "trace": f"t{connection + 1}", "protocol": protocol, "operation": None,
            "status": STATUSES[columns["status"][connection]], "start_ns": start, "end_ns": end,
            "client": _owner(self.src(named.source), named.client) if named.source >= 0 else None,
            "server": _owner(self.dst(translated), named.server) if translated >= 0 else None,
            "service": _service(named), "ingress": None,
            "original": self._tuple(original, protocol), "translated": self._tuple(translated, protocol),
            "ports": self._ports(named),
            "policies": [{"name": p.name, "value": p.value, "held": p.held, "why": p.why} for p in self.trace.policies.get(connection, ())],
            "translations": [self._translation(row) for row in self._translations.get(connection, ())],
            "hops": [self._hop(row, named) for row in self._hops.get(connection, ())],
            "packets": {"original": columns["packets_original"][connection], "reply": columns["packets_reply"][connection]},
            "handshake_ns": _known(columns["handshake_ns"][connection]),
            "retransmissions": columns["retransmissions"][connection],
            "losses": [self._loss(row) for row in self._losses.get(connection, ())],
            "latency": {"total_ns": end - start, "network_ns": None, "server_ns": None, "uncertainty_ns": 0},
            "evidence": evidence.names(named.evidence), "parent_evidence": [], "confidence": round(named.confidence, 4),
            "candidates": [self._tuple(code, protocol) for code in named.candidates],
            "last_seen_at": self._last_seen(connection),
            "refusal": refusal(self.trace, connection, [row for row in self._hops.get(connection, ()) if self._seen["reply"][row]]),
            "verdict": verdict(self.trace, connection, named),
            "problems": [*named.problems, *self._unseen(original, seen)],
        }  # fmt: skip

    def _last_seen(self, connection: int) -> str | None:
        """Where an attempt without an answer was seen last; None where there was an answer."""
        rows = self._hops.get(connection, ())
        if self._connections["packets_reply"][connection] or not rows:
            return None
        point = self.trace.tables.points[int(self.trace.tables.hops["point"][rows[-1]])]
        return f"{point.node}/{point.interface}"

    def _unseen(self, original: int, seen: int) -> list[str]:
        return [] if original >= 0 or seen < 0 else [f"first seen as {self.src(seen)} > {self.dst(seen)}"]

    def _translation(self, row: int) -> Record:
        table = self.trace.tables.translations
        before, after = int(table["before"][row]), int(table["after"][row])
        kinds = [kind for kind, columns in self._rewritten(before).items() if self._differ(before, after, columns)]
        return {
            "node": self.trace.tables.nodes[int(table["node"][row])], "before": f"{self.src(before)} > {self.dst(before)}",
            "after": f"{self.src(after)} > {self.dst(after)}", "kinds": kinds, "evidence": evidence.names(int(table["evidence"][row])),
            "rules": self._rules(int(table["node"][row]), before, after),
        } | self._evaluation(row)  # fmt: skip

    def _evaluation(self, row: int) -> Record:
        """What the kernel's functions took of a first packet's translation, where they were measured."""
        calls = self.trace.evaluations.get(row)
        if not calls:
            return {}
        evaluated = [call.inside_ns for call in calls if call.evaluates]
        return {
            "evaluation_ns": sum(evaluated) if evaluated else None,
            "calls": [
                {
                    "function": call.step.function, "hook": call.step.hook, "type": call.step.type, "table": call.step.table,
                    "chain": call.step.chain, "depth": call.depth, "time_ns": call.time_ns, "inside_ns": call.inside_ns,
                }
                for call in calls
            ],
        }  # fmt: skip

    def _rewritten(self, code: int) -> dict[str, tuple[str, ...]]:
        """What each kind of translation rewrites; an ICMP echo's identifier stands as the port of both ends and is the source's."""
        source, destination = ("src_hi", "src_lo", "sport"), ("dst_hi", "dst_lo", "dport")
        echo = int(self.trace.tables.tuples["proto"][code]) in (ICMP, ICMPV6)
        return {"dnat": destination[:2] if echo else destination, "snat": source}

    def _differ(self, one: int, other: int, columns: tuple[str, ...]) -> bool:
        tuples = self.trace.tables.tuples
        return any(tuples[name][one] != tuples[name][other] for name in columns)

    def _rules(self, node: int, before: int, after: int) -> Record | None:
        """What kube-proxy's rules of the node say of this translation; None without a dump, or where they do not have it."""
        rules = self.trace.bundle.rules.get(self.trace.tables.nodes[node])
        if rules is None or self.dst(before) == self.dst(after):
            return None
        memo = node, self.src(before).rpartition(":")[0], self.dst(before), self.dst(after)
        if memo not in self._rule_paths:
            self._rule_paths[memo] = self._walk(rules, before, after)
        return self._rule_paths[memo]

    def _walk(self, rules: ProxyRules, before: int, after: int) -> Record | None:
        tuples = self.trace.tables.tuples
        (address, port), (target, target_port) = ((address_of(tuples, code, "dst"), int(tuples["dport"][code])) for code in (before, after))
        protocol, source = PROTOCOL_NAMES.get(int(tuples["proto"][before]), ""), address_of(tuples, before, "src")
        endpoint_ = (target, target_port)
        path = rules.service_path(address, port, protocol, endpoint_, source=source)
        path = path or rules.node_port_path(port, protocol, endpoint_, source=source, ipv6=address[0] != 0)
        return (
            None
            if path is None
            else {"mode": rules.mode, "service": path.service, "chains": list(path.chains), "walked": path.rules_walked}
        )

    def _ports(self, named: Named) -> Record:
        """The four ports of a Service call, each where it applies: nodePort, port, targetPort, containerPort."""
        service, server, tuples = named.service, named.server, self.trace.tables.tuples
        reached = int(tuples["dport"][named.translated]) if named.translated >= 0 else None
        return {
            "node_port": service.node_port if service and service.via == "NodePort" else None, "port": service.port if service else None,
            "target_port": service.target_port if service else None,
            "container_port": reached if server and server.kind == "pod" and (server.container or service) else None,
            "container": server.container if server else None,
        }  # fmt: skip

    def _hop(self, row: int, named: Named) -> Record:
        seen = self._seen
        first = row - seen["position"][row]
        same_clock = seen["node"][row] == seen["node"][first]
        latency = _known(seen["latency_ns"][row])
        return self._hop_columns.record(row, named) | {
            "offset_ns": seen["time_ns"][row] - seen["time_ns"][first] if same_clock else None,
            "latency_ns": latency, "uncertainty_ns": None if latency is None else self._hop_columns.resolution_ns(row),
        }  # fmt: skip

    def _loss(self, row: int) -> Record:
        table, tables = self.trace.tables.losses, self.trace.tables
        last, missed = int(table["last_point"][row]), int(table["missed_point"][row])
        return {
            "path": "reply" if table["reply"][row] else "request", "seq": int(table["seq"][row]), "time_ns": int(table["time_ns"][row]),
            "sent_again_after_ns": int(table["again_ns"][row]),
            "last_seen_at": None if last < 0 else f"{tables.points[last].node}/{tables.points[last].interface}",
            "first_missed_at": None if missed < 0 else f"{tables.points[missed].node}/{tables.points[missed].interface}",
        }  # fmt: skip


def _known(value: int) -> int | None:
    return None if value < 0 else value


def _rows_by_connection(table: Table) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, connection in enumerate(table["connection"].tolist()):
        found.setdefault(connection, []).append(row)
    return found


def _owner(address: str, owner: Owner | None) -> Record:
    if owner is None:
        return {"address": address, "kind": None, "namespace": None, "name": None, "node": None, "container": None}
    process = {} if owner.process is None else {"process": owner.process}
    return {
        "address": address, "kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "node": owner.node,
        "container": owner.container, "container_port": owner.container_port_name, **process,
    }  # fmt: skip


def _service(named: Named) -> Record | None:
    service = named.service
    if service is None:
        return {"namespace": None, "name": None, "port": None, "via": "direct"} if named.direct else None
    return {
        "namespace": service.namespace, "name": service.name, "port": str(service.port), "via": service.via, "port_name": service.port_name,
        "type": service.type,
    }  # fmt: skip
