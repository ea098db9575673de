"""Requests as records: the output contract of `hopline trace --json` (docs/output.md; `analysis.contract` has its schema)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from analysis.blocks import Blocks
from analysis.claims import ingress, route, true_client
from analysis.hop_texts import HopTexts, latency_texts
from analysis.latency import DATABASES, Doors, covered, journey, part, rewritings, shares
from analysis.records import CONFIDENT, Recorder
from probes.addresses import parse
from probes.decode.numbers import PROTOCOL_NAMES
from probes.dissect import Exchange
from probes.schema import Array, Table, size
from probes.text_rows import NULL
from tracer.cluster import ServicePort
from tracer.requests import RequestTrace
from tracer.requests.moments import handshakes, logins
from tracer.requests.passed import GAVE_UP, GOT

Record = dict[str, Any]
Row = dict[str, int]
MOST_CANDIDATES = 3
_NO_HOPS = '"hops": []'


class RequestRecorder:
    """Turns requests into records, children after their parents."""

    def __init__(self, found: RequestTrace, min_confidence: float = CONFIDENT, connection_records: Sequence[Record] | None = None) -> None:
        """`connection_records` are made here where they are not given."""
        self.found, self.trace = found, found.trace
        self.min_confidence = min_confidence
        self.connections = Recorder(found.trace)
        self.connection_records = list(self.connections) if connection_records is None else connection_records
        self.connections.ends.learn(np.array([each.target for each in found.trace.named], "i8"))
        table, hops = found.requests.table, found.requests.hops
        self._columns = {name: table[name].tolist() for name in ("connection", "start_ns", "end_ns")}
        self._rows: Sequence[Row] = Blocks(size(table), lambda first, end: _rows(table, first, end))
        asked, ends, own = hops["request"], self.connections.ends, found.trace.tables.hops
        self._hops = HopTexts(found.trace, ends, hops, table["connection"][asked], asked)
        self._hop_texts = Blocks(size(table), self._write_hops)
        self._resolutions = np.array([point.resolution_ns for point in found.trace.tables.points] or [0], "i8")[hops["point"]]
        self._first_hop = np.searchsorted(asked, np.arange(size(table) + 1))
        self._coarsest = _highest(self._resolutions, self._first_hop)
        self._rewritten = rewritings(ends, hops, asked, hops["aligned_ns"])
        self._opening_rewritten = rewritings(ends, own, own["connection"], found.clocks.align(own["node"], own["time_ns"]))
        self._apart = _uncertainties(found)
        self._request_apart = self._apart["request"].tolist()
        self._handshakes = handshakes(found.passed.beginnings, found.clocks)
        self._logins = logins(found.passed.beginnings, found.clocks)
        self._unanswered = found.passed.unanswered.tolist()
        self._protocols = found.trace.tables.connections["proto"].tolist()
        self.parent = self._parents()
        self.children: dict[int, list[int]] = {}
        for child, parent in sorted(self.parent.items()):
            self.children.setdefault(parent, []).append(child)
        self.order = self._order()
        self.ids = {request: f"r{place + 1}" for place, request in enumerate(self.order)}
        self._doors = cache(self._find_doors)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Record]:
        return (self.record(request) for request in self.order)

    def _parents(self) -> dict[int, int]:
        """The parent of each request that has one confident enough; a chain that would close into a ring is left open."""
        given: dict[int, int] = {}
        for request, candidates in self.found.parents.candidates.items():
            if candidates and candidates[0][1] >= self.min_confidence:
                above = candidates[0][0]
                while above in given and above != request:
                    above = given[above]
                if above != request:
                    given[request] = candidates[0][0]
        return given

    def _order(self) -> list[int]:
        """All requests: trees by their root's start, in each every child behind its parent and what came of the child before it."""
        placed: list[int] = []
        for root in range(len(self._columns["start_ns"])):
            waiting = [] if root in self.parent else [root]
            while waiting:
                placed.append(waiting.pop())
                waiting += reversed(self.children.get(placed[-1], ()))
        return placed

    def depths(self) -> dict[str, int]:
        """How deep below its root each request is, by its id."""
        depth: dict[int, int] = {}
        for request in self.order:
            depth[request] = depth[self.parent[request]] + 1 if request in self.parent else 0
        return {self.ids[request]: each for request, each in depth.items()}

    def _root(self, request: int) -> int:
        while request in self.parent:
            request = self.parent[request]
        return request

    def record(self, request: int) -> Record:
        """The record of one row of REQUESTS."""
        return self.without_hops(request) | {"hops": json.loads(f"[{self._hop_texts[request]}]")}

    def text(self, request: int, record: Record) -> str:
        """The same as JSON, of what `without_hops` gave."""
        before, after = json.dumps(record).split(_NO_HOPS, 1)  # no text has that in it: there, quotation marks are escaped
        return f'{before}"hops": [{self._hop_texts[request]}]{after}'

    def without_hops(self, request: int) -> Record:
        """The record of one row of REQUESTS, but for its hops."""
        row = self._rows[request]
        whole = self.connection_records[row["connection"]]
        exchange = self.found.requests.exchange(request)
        candidates = self.found.parents.candidates.get(request, [])
        given = request in self.parent
        losses = [loss for loss in whole["losses"] if exchange is None or row["begin_ns"] <= self._aligned(loss, row) <= row["end_ns"]]
        record = {
            **whole, "id": self.ids[request], "connection": whole["id"], "parent": self.ids[self.parent[request]] if given else None,
            "trace": f"t{self.ids[self._root(request)][1:]}", "start_ns": row["start_ns"], "end_ns": row["end_ns"],
            "service": self._service(request, whole), "hops": [], "losses": losses,
            "retransmissions": whole["retransmissions"] if exchange is None else len(losses),
            "handshake_ns": whole["handshake_ns"] if row["number"] == 0 else None,
            "parent_evidence": self.found.parents.evidence.get(request, []) if candidates else [],
            "parent_confidence": _rounded(candidates[0][1]) if candidates else None,
            "parent_candidates": [
                {"id": self.ids[each], "confidence": _rounded(share)} for each, share in candidates[int(given) :][:MOST_CANDIDATES]
            ],
            "host": None, "tries": exchange.tries if exchange else 1,
            "true_client": true_client(exchange, whole["client"], lambda address: self._inside(address, row["start_ns"])),
            "bytes": {side: None if row[f"{side}_bytes"] < 0 else row[f"{side}_bytes"] for side in ("request", "response")},
            "tls": self._tls(row["connection"]), "ingress": self._ingress(request, whole, exchange),
            "unread": self.found.dissection.unread.get(row["connection"]),
        }  # fmt: skip
        if exchange is not None:
            said = exchange.attributes
            record |= {
                "protocol": exchange.protocol, "operation": exchange.operation,
                "status": exchange.status or self._without_answer(exchange, row["exchange"], whole),
                "last_seen_at": None if self._unanswered[row["exchange"]] == GOT else whole["last_seen_at"],
                "host": said.get("host"), "problems": [*whole["problems"], *self._problems(exchange, row["exchange"])],
            }  # fmt: skip
        if record["host"] is None and record["tls"] is not None:
            record["host"] = record["tls"]["server_name"]
        record["latency"] = self._latency(request, record, row, whole)
        return record

    def _problems(self, exchange: Exchange, place: int) -> Iterator[str]:
        if exchange.problem:
            yield exchange.problem
        if exchange.request_start < 0:
            yield "the request was not captured: its response was"
        if self._unanswered[place] == GOT:
            yield "the response was not captured: its client acknowledged it"

    def _without_answer(self, exchange: Exchange, place: int, whole: Record) -> str:
        """The status of a request without a response: its connection's, unless its client gave up, asked in vain again, or got one."""
        in_vain = self._unanswered[place] == GAVE_UP or (exchange.response_start < 0 and exchange.tries > 1)
        return "closed" if self._unanswered[place] == GOT else "timeout" if in_vain else str(whole["status"])

    def _tls(self, connection: int) -> Record | None:
        known = self.found.dissection.handshakes.get(connection)
        return None if known is None else {"server_name": known.server_name, "alpn": known.protocol, "version": known.version}

    def _aligned(self, loss: Record, row: Row) -> int:
        node = row["server_node" if loss["path"] == "reply" else "client_node"]
        recorded = np.array([loss["time_ns"]])
        return int(self.found.clocks.align(np.array([node]), recorded)[0]) if node >= 0 else int(recorded[0])

    def _write_hops(self, first: int, end: int) -> list[str]:
        """The hops of requests `first` to `end`, of each those of its first byte, then of the response's, on the aligned clock."""
        bounds = self._first_hop[first : end + 1]
        low, high = bounds[[0, -1]].tolist()
        times, rows = self.found.requests.hops["aligned_ns"], np.arange(low, high)
        begin, apart, since = (self._apart[name][low:high] for name in ("begin", "hop", "path"))
        known = (rows != begin) & (apart >= 0)
        latency, uncertainty = times[rows] - times[rows - 1], apart + self._resolutions[rows]
        separable = np.where(known, latency > uncertainty, 2)
        columns = latency_texts(*(np.where(told, ns, NULL) for told, ns in (
            (since >= 0, times[rows] - times[begin]), (known, latency), (known, uncertainty)
        )))  # fmt: skip
        columns += [', "separable": ', (["false", "true", "null"], separable)]
        texts = self._hops.texts(low, high, times[low:high], columns).grouped(bounds - low)
        return [str(texts.row(each), "ascii") for each in range(end - first)]

    @cached_property
    def _external_names(self) -> dict[int, Record]:
        """The ExternalName Service of each request that opened a connection to where such a name led, as the DNS answer before it shows."""
        found: dict[int, Record] = {}
        for call, (lookup, likely) in self.found.parents.lookups.items():
            answer = self.found.requests.exchange(lookup)
            if likely < self.min_confidence or answer is None:
                continue
            when = self._columns["start_ns"][lookup]
            asked, timeline = answer.attributes.get("qname", "").rstrip("."), self.trace.bundle.timeline
            targets = timeline.external_names(when)
            names = [targets[name] for name in answer.answers.get("cnames", "").split() if name.rstrip(".") in targets]
            service = timeline.service_of_dns_name(asked, when)
            if names and (service is None or service in names):
                namespace, name = service or names[0]
                found[call] = {
                    "namespace": namespace,
                    "name": name,
                    "port": None,
                    "via": "ExternalName",
                    "port_name": None,
                    "type": "ExternalName",
                }
        return found

    def _service(self, request: int, whole: Record) -> Record | None:
        service: Record | None = whole["service"]
        return self._external_names.get(request, service) if service is None or service["via"] == "direct" else service

    def _inside(self, address: str, when: int) -> bool:
        """Whether an address was a pod's or a node's."""
        try:
            owner = self.trace.bundle.timeline.owner(parse(address.strip("[]")), when)
        except ValueError:
            return False  # with a port, or no address at all: a proxy of the cluster would not be called so
        return owner is not None and owner.kind in ("pod", "node")

    def _ingress(self, request: int, whole: Record, exchange: Exchange | None) -> Record | None:
        timeline, when = self.trace.bundle.timeline, self._columns["start_ns"][request]
        found = route(timeline, exchange, whole["server"], when)
        if found is None:
            return None
        wanted = (found.service_namespace, found.service_name)
        return ingress(found, [each for child in self.children.get(request, ()) for each in self._behind(child, when, wanted)])

    def _behind(self, request: int, when: int, wanted: tuple[str | None, str | None]) -> list[tuple[str | None, str | None]]:
        """The Services behind which a proxy's upstream request went: the one whose address it asked for, else one of the endpoint's.

        Of those, the one that the rule `wanted`.
        """
        named = self.trace.named[self._columns["connection"][request]]
        if named.service is not None:
            return [(named.service.namespace, named.service.name)]
        if named.target < 0:
            return []
        address, _, port = self.connections.ends.dst[named.target].rpartition(":")
        backed: Sequence[ServicePort] = self.trace.bundle.timeline.services_of_endpoint(parse(address.strip("[]")), int(port), "tcp", when)
        mine: set[tuple[str | None, str | None]] = {(each.namespace, each.name) for each in backed}
        return [wanted] if wanted in mine else list(mine)[:1]

    def _find_doors(self, request: int) -> Doors:
        row = self._rows[request]
        arrival, done = (row[name] if row[name] >= 0 else None for name in ("arrival_ns", "done_ns"))
        return Doors(row["start_ns"], arrival, done, row["end_ns"], self._role(request, row))

    def _role(self, request: int, row: Row) -> str:
        exchange = self.found.requests.exchange(request)
        if exchange is None:
            return "server"
        if exchange.protocol in DATABASES or exchange.protocol == "dns":
            return "dns" if exchange.protocol == "dns" else "database"
        passes = any((child := self.found.requests.exchange(each)) is not None and child.operation == exchange.operation
                     for each in self.children.get(request, ()))  # fmt: skip
        server = self.trace.named[row["connection"]].server
        controllers = self.trace.bundle.timeline.ingress_controllers(row["start_ns"])
        return "proxy" if passes or (server is not None and (server.namespace, server.name) in controllers) else "server"

    def _latency(self, request: int, record: Record, row: Row, whole: Record) -> Record:
        doors, nodes = self._doors(request), self.trace.tables.nodes
        client, server = (nodes[row[name]] if row[name] >= 0 else None for name in ("client_node", "server_node"))
        apart = self._request_apart[request]
        resolution = 2 * self._coarsest[request]
        between = None if apart < 0 else apart + resolution
        spent = None if doors.arrival is None or doors.done is None else doors.done - doors.arrival
        below = [(self._columns["start_ns"][child], self._columns["end_ns"][child]) for child in self.children.get(request, ())]
        total = self._total(request, row)
        # the packet that walks the rules: a connection's SYN, or the first datagram of a flow that was not there before
        opens = row["number"] == 0 and (row["exchange"] < 0 or PROTOCOL_NAMES.get(self._protocols[row["connection"]]) == "udp")
        return {
            "total_ns": total, "network_ns": None if spent is None or total is None else total - spent, "server_ns": spent,
            "self_ns": None if spent is None else spent - covered(below, doors.arrival or 0, doors.done or 0), "uncertainty_ns": resolution,
            "shares": shares(request, self._doors, lambda each: self.children.get(each, [])) if request not in self.parent else None,
            "parts": [
                *self._before(request, row, whole, client, resolution), *journey(doors, client, server, between, resolution),
                *self._nat(self._rewritten.get(request, ()), resolution, first_packet=opens), *self._waits(record, row, resolution),
            ],
        }  # fmt: skip

    def _total(self, request: int, row: Row) -> int | None:
        """How long it took; None where its request or its response was not captured, and nobody waited, or where all was one moment."""
        exchange = self.found.requests.exchange(request)
        asked = exchange is None or exchange.request_start >= 0
        ended = exchange is None or row["answer_ns"] >= 0 or row["end_ns"] > max(row["start_ns"], row["sent_ns"])
        return row["end_ns"] - row["start_ns"] or None if asked and ended else None

    def _before(self, request: int, row: Row, whole: Record, client: str | None, resolution: int) -> list[Record]:
        """What had to happen before anything could be asked: a name looked up, the connection opened."""
        found = []
        lookup, likely = self.found.parents.lookups.get(request, (-1, 0.0))
        if likely >= self.min_confidence:
            found.append(part("dns", client, self._columns["start_ns"][lookup], self._columns["end_ns"][lookup], resolution))
        whole_connection = row["exchange"] < 0  # its first packet is the request's own
        if row["number"] == 0 and (whole_connection or row["begin_ns"] < row["start_ns"]) and whole["handshake_ns"] is not None:
            found.append(part("connect", client, row["begin_ns"], row["begin_ns"] + whole["handshake_ns"], resolution))
            if row["connection"] in self._handshakes:
                found.append(part("tls", client, *self._handshakes[row["connection"]], resolution))
            if row["connection"] in self._logins and not whole_connection:
                found.append(part("login", client, self._logins[row["connection"]], row["start_ns"], resolution))
            if not whole_connection:
                found += self._nat(self._opening_rewritten.get(row["connection"], ()), resolution, first_packet=True)
        return found

    def _nat(self, rewritten: Iterable[tuple[int, int, int]], resolution: int, *, first_packet: bool) -> list[Record]:
        nodes = self.trace.tables.nodes
        return [part("nat", nodes[node], start, end, resolution, first_packet=first_packet) for node, start, end in rewritten]

    def _waits(self, record: Record, row: Row, resolution: int) -> list[Record]:
        return [
            part("retransmission", None, start, start + loss["sent_again_after_ns"], resolution)
            for loss in record["losses"] for start in [self._aligned(loss, row)]
        ]  # fmt: skip


def _rows(table: Table, first: int, end: int) -> list[Row]:
    columns = (column[first:end].tolist() for column in table.values())
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]


def _rounded(confidence: float) -> float:
    """To a thousandth, downwards: nothing looks surer than it is, or than what `min_confidence` asked for."""
    return math.floor(confidence * 1000) / 1000


def _highest(values: Array, bounds: Array) -> list[int]:
    """The highest of `values` (0 and more) between each of `bounds` and the next, 0 where there are none."""
    found = np.zeros(len(bounds) - 1, "i8")
    np.maximum.at(found, np.repeat(np.arange(len(found)), np.diff(bounds)), values)
    return found.tolist()


def _uncertainties(found: RequestTrace) -> Table:
    """How far off (ns) differences on the aligned clock may be, -1 where nothing ties the clocks together.

    `hop`: between a hop and the one before it; `path`: and the first of its path, which is hop `begin`; `request`: between both ends of a
    request.
    """
    hops, table = found.requests.hops, found.requests.table
    node, time = hops["node"], hops["aligned_ns"]
    begins = np.diff(hops["request"].astype("i8") * 2 + hops["reply"], prepend=-1) != 0
    first = np.maximum.accumulate(np.where(begins, np.arange(len(node)), 0))
    client, server = table["client_node"], table["server_node"]
    ends = found.clocks.uncertainty(np.maximum(client, 0), np.maximum(server, 0), table["start_ns"])
    return {
        "begin": first,
        "hop": found.clocks.uncertainty(np.roll(node, 1), node, time),
        "path": found.clocks.uncertainty(node[first], node, time),
        "request": np.where((client < 0) | (server < 0), -1, ends),
    }  # fmt: skip
