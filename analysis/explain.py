"""What happened to one request or connection, line by line, each line with its evidence: `hopline explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from analysis.requests import RequestRecorder
from analysis.terminal import duration, what, who
from analysis.translations import undone
from probes.decode.numbers import UDP
from tracer.natpath import SCHEDULERS
from tracer.requests.carried import Connection

Record = dict[str, Any]
MOST_PERHAPS = 5  # calls that may be a request's own, the likeliest of them
_BEFORE = {"connect": "connection {connection} opened: SYN to SYN-ACK", "tls": "TLS handshake"}  # kinds of `latency.parts`


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a story. Times are ns on the reference clock, `source` is `file#frame`; None is not known, or not of this kind of line.

    Text and evidence hold what packets said: escape them before they reach a terminal.
    """

    kind: str
    text: str
    time_ns: int | None = None
    evidence: tuple[str, ...] = ()
    took_ns: int | None = None
    uncertainty_ns: int | None = None
    separable: bool | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """A record and its lines in order; `depth` is how far below its root it is.

    `connection` is its row of CONNECTIONS, `request` that of REQUESTS: None where a connection has requests of its own.
    """

    record: Record
    connection: int
    request: int | None
    lines: list[Line]
    depth: int = 0


class Explainer:
    """Tells the stories of what `recorder` makes records of."""

    def __init__(self, recorder: RequestRecorder) -> None:
        self._recorder, self._found = recorder, recorder.found
        self._table = recorder.found.requests.table
        self._resolution = max((point.resolution_ns for point in recorder.trace.tables.points), default=1)

    def trace(self, root: int) -> Iterator[Story]:
        """The story of a request (row of REQUESTS) and of all below it."""
        waiting = [(root, 0)]
        while waiting:
            request, depth = waiting.pop()
            yield self.request(request, depth)
            below = sorted(self._recorder.children.get(request, ()), key=self._recorder.order.index, reverse=True)
            waiting += [(child, depth + 1) for child in below]

    def request(self, request: int, depth: int = 0) -> Story:
        """The story of one request."""
        record, connection = self._recorder.record(request), int(self._table["connection"][request])
        exchange = self._found.requests.exchange(request)
        stream = "datagram" if int(self._recorder.trace.tables.connections["proto"][connection]) == UDP else "byte"
        first = (
            ("first packet", "first answer")
            if exchange is None
            else (f"{stream} {exchange.request_start} of the client's", f"{stream} {exchange.response_start} of the server's")
        )
        whole = self._recorder.connections.record(connection)
        opens = _source(whole["hops"]) == _source(record["hops"])  # its first packet is the connection's
        lines = [*self._caller(request, record), *self._before(request, record, whole, opens=opens)]
        lines += _hops(record, "request", first[0], walks=opens)
        arrival = int(self._table["arrival_ns"][request])
        lines.append(_served(record, arrival if arrival >= 0 else None, record["latency"]["uncertainty_ns"]))
        lines += [*_hops(record, "reply", first[1]), *_failure(record)]
        besides = [*self._calls(request), *self._perhaps(request), *self._waits(connection, record["losses"])]
        lines = _in_time(lines, besides)
        lines.append(Line("end", record["status"], record["end_ns"], ("last packet" if exchange is None else "last byte",),
                          *_took(record), self._last(connection, request)))  # fmt: skip
        return Story(record, connection, request, lines, depth)

    def connection(self, connection: int) -> Story:
        """The story of a connection (row of CONNECTIONS), and of the requests on it."""
        carried = np.flatnonzero(self._table["connection"] == connection).tolist()
        record = self._recorder.connections.record(connection)
        record["hops"] = self._aligned(record)
        whole = [request for request in carried if self._found.requests.exchange(request) is None]
        if whole:
            record |= {"hops": self._recorder.record(whole[0])["hops"], "unread": self._found.dissection.unread.get(connection)}
        lines = [*_hops(record, "request", "first packet", walks=True), _served(record, None, 0), *_hops(record, "reply", "first answer")]
        start, end = (self._align(self._first_node(record), record[name]) for name in ("start_ns", "end_ns"))
        record |= {"start_ns": start, "end_ns": end}
        besides = [self._call("request", self._recorder.record(each), ()) for each in carried if each not in whole]
        shaken = record["handshake_ns"]
        if shaken is not None:
            text = _BEFORE["connect"].format(connection=record["id"])
            besides.append(Line("connect", text, start, ("handshake",), shaken, self._resolution, shaken > self._resolution,
                                _source(record["hops"])))  # fmt: skip
        lines = _in_time([*lines, *_failure(record)], [*besides, *self._waits(connection, record["losses"])])
        took = end - start
        lines.append(Line("end", record["status"], end, ("last packet",), took or None, self._resolution, took > self._resolution,
                          self._last(connection, None)))  # fmt: skip
        return Story(record, connection, whole[0] if whole else None, lines)

    def _last(self, connection: int, request: int | None) -> str | None:
        """The last packet that carried it at the client's door."""
        sightings = Connection(self._found, connection)
        door = sightings.places(request)[:1]
        rows = [row for place in door for each in sightings.carried(place, request) for row in each.rows[each.wanted].tolist()]
        if not rows:
            return None
        tables = self._recorder.trace.tables
        last = max(rows, key=lambda row: int(tables.observations["time_ns"][row]))
        return f"{tables.points[int(tables.observations['point'][last])].file}#{int(tables.observations['frame'][last])}"

    def _first_node(self, record: Record) -> str | None:
        return record["hops"][0]["node"] if record["hops"] else None

    def _align(self, node: str | None, time_ns: int) -> int:
        nodes = self._recorder.trace.tables.nodes
        if node is None or node not in nodes:
            return time_ns
        return int(self._found.clocks.align(np.array([nodes.index(node)]), np.array([time_ns]))[0])

    def _caller(self, request: int, record: Record) -> Iterator[Line]:
        """Who made this call, or who may have."""
        if record["parent"] is not None:
            above = self._recorder.record(self._recorder.parent[request])
            text = f"{above['id']} {_name(above)}, served by {who(above['server'])}"
            yield Line("called by", text, above["start_ns"], _why(record), source=_source(above["hops"]))
        elif record["parent_candidates"]:
            names = " or ".join(f"{each['id']} ({each['confidence']:.2f})" for each in record["parent_candidates"])
            why = tuple(record["parent_evidence"])
            yield Line("called by", f"not told: perhaps {names}, below --min-confidence {self._recorder.min_confidence}", None, why)

    def _before(self, request: int, record: Record, whole: Record, *, opens: bool) -> Iterator[Line]:
        """What had to happen before the request could be sent on its connection, whose record is `whole`."""
        lookup, likely = self._found.parents.lookups.get(request, (-1, 0.0))
        if lookup >= 0:
            asked = self._recorder.record(lookup)
            answered = self._found.requests.exchange(lookup)
            told = answered.answers.get("addresses", "") if answered else ""
            text = f"{asked['id']} {_name(asked)}{f': {told}' if told else ''}"
            yield Line("lookup", text, asked["start_ns"], ("resolved-address", f"confidence {likely:.3f}"),
                       *_took(asked), _source(asked["hops"]))  # fmt: skip
        number, parts = int(self._table["number"][request]), record["latency"]["parts"]
        if number:
            yield Line("connect", f"none: request {number + 1} on {record['connection']}, which was open", None, ("same connection",))
        for part in (part for part in parts if part["kind"] in _BEFORE):
            took, text = part["end_ns"] - part["start_ns"], _BEFORE[part["kind"]].format(connection=record["connection"])
            source = _source(whole["hops"]) if part["kind"] == "connect" else None
            yield Line(part["kind"], text, part["start_ns"], ("handshake",), took, part["uncertainty_ns"], part["separable"], source)
        if not opens and any(part.get("first_packet") for part in parts):
            yield from self._first_translations(whole)

    def _first_translations(self, whole: Record) -> Iterator[Line]:
        """NAT of the first packet of a connection (its record), which takes longer than that of those behind it."""
        hops = [hop for hop in self._aligned(whole) if hop["path"] == "request"]
        for before, after in pairwise(hops):
            line = _between(whole, before, after, walks=True)
            if line is not None and line.kind == "NAT":
                took = after["time_ns"] - before["time_ns"]
                yield replace(line, text=f"first packet: {line.text}", took_ns=took, uncertainty_ns=after["uncertainty_ns"],
                              separable=took > self._resolution)  # fmt: skip

    def _aligned(self, record: Record) -> list[Record]:
        """The hops of a connection's record with their times on the reference clock."""
        return [hop | {"time_ns": self._align(hop["node"], hop["time_ns"])} for hop in record["hops"]]

    def _call(self, kind: str, child: Record, why: tuple[str, ...]) -> Line:
        asked = what(child)
        to = who(child["server"]) if asked in ("?", "direct") else asked
        text = f"{child['id']} {_name(child)} to {to}"
        return Line(kind, text, child["start_ns"], why or (child["protocol"],), *_took(child), _source(child["hops"]))  # fmt: skip

    def _calls(self, request: int) -> Iterator[Line]:
        for child in self._recorder.children.get(request, ()):
            record = self._recorder.record(child)
            yield self._call("called", record, _why(record))

    def _perhaps(self, request: int) -> Iterator[Line]:
        likeliest = sorted(self._undecided.get(request, ()), key=lambda each: -each[1])
        for child, share in likeliest[:MOST_PERHAPS]:
            record = self._recorder.record(child)
            yield self._call("perhaps", record, (*record["parent_evidence"], f"confidence {share:.3f} only"))

    @cached_property
    def _undecided(self) -> dict[int, list[tuple[int, float]]]:
        """By request: calls that it may have made, with how likely that is; whose they are is not told."""
        found: dict[int, list[tuple[int, float]]] = {}
        for child, candidates in self._found.parents.candidates.items():
            for parent, share in candidates if child not in self._recorder.parent else ():
                found.setdefault(parent, []).append((child, share))
        return found

    def _waits(self, connection: int, losses: Sequence[Record]) -> Iterator[Line]:
        tables = self._recorder.trace.tables
        rows = tables.sighting_rows[tables.sighting_connections == connection]
        seq, times = tables.observations["seq"][rows], tables.observations["time_ns"][rows]
        for loss in losses:
            at = rows[(seq == loss["seq"]) & (times == loss["time_ns"])]
            point = tables.points[int(tables.observations["point"][at[0]])] if len(at) else None
            way = "answer" if loss["path"] == "reply" else "request"
            missed = f"first missed at {loss['first_missed_at']}" if loss["first_missed_at"] else "missed nowhere"
            text = f"{way} seq {loss['seq']} was sent again; last seen at {loss['last_seen_at'] or '?'}, {missed}"
            wait = loss["sent_again_after_ns"]
            yield Line("waited", text, self._align(point.node if point else None, loss["time_ns"]), ("seq",), wait, self._resolution,
                       wait > self._resolution, f"{point.file}#{int(tables.observations['frame'][at[0]])}" if point else None)  # fmt: skip


def _name(record: Record) -> str:
    return " ".join(str(each) for each in (record["protocol"], record["operation"], record["status"]) if each)


def _why(record: Record) -> tuple[str, ...]:
    """Why a call is believed to be its parent's, how sure that is, and who else it might be."""
    others = [f"else {each['id']} ({each['confidence']:.3f})" for each in record["parent_candidates"]]
    return (*record["parent_evidence"], f"confidence {record['parent_confidence']:.3f}", *others)


def _took(record: Record) -> tuple[int | None, int | None, bool | None]:
    """How long it took, how far that may be off (ns), and whether it is longer than that; None where it is not known."""
    took, apart = record["latency"]["total_ns"], record["latency"]["uncertainty_ns"]
    return (None, None, None) if took is None else (took, apart, took > apart)


def _walked(steps: Sequence[Record]) -> str:
    """The rules that a first packet walked; those behind it are translated as the first one was."""
    rules = next((step["rules"] for step in steps if step["rules"]), None)
    walked = f"; {rules['mode']}, {rules['walked']} rules walked: {' → '.join(rules['chains'])}" if rules else ""
    return walked + "".join(f"; {_evaluated(step)}" for step in steps if step.get("evaluation_ns") is not None)


def _evaluated(step: Record) -> str:
    """What the walk took inside the kernel, function by function."""
    calls = [call for call in step["calls"] if call["type"] == "nat" or call["function"] in SCHEDULERS]
    names = (" ".join(filter(None, (call["function"], call["table"], call["chain"] or call["hook"]))) for call in calls)
    each = ", ".join(f"{name} {duration(call['inside_ns'])}" for name, call in zip(names, calls, strict=True))
    return f"rule evaluation {duration(step['evaluation_ns'])} ({each})"


def _source(hops: Sequence[Record]) -> str | None:
    return f"{hops[0]['file']}#{hops[0]['frame']}" if hops else None


def _hops(record: Record, path: str, first: str, *, walks: bool = False) -> Iterator[Line]:
    """Every sighting on one way, and what happened between two of them."""
    hops = [hop for hop in record["hops"] if hop["path"] == path]
    widths = [max((len(hop[name]) for hop in hops), default=0) for name in ("node", "interface")]
    before: Record | None = None
    for hop in hops:
        between = None if before is None else _between(record, before, hop, walks=walks)
        if between is not None:
            yield between
        same = before is not None and (before["src"], before["dst"]) == (hop["src"], hop["dst"])
        tunnel = hop["tunnel"]
        text = f"{hop['node']:<{widths[0]}} {hop['interface']:<{widths[1]}} {hop['direction']:<3} {hop['src']} > {hop['dst']}"
        text += f", {hop['port_kind']}" if hop["port_kind"] else ""
        text += f", in {tunnel['kind']} {tunnel['id']} {tunnel['src']} > {tunnel['dst']}" if tunnel else ""
        yield Line("request" if path == "request" else "response", text, hop["time_ns"], (first, *(("tuple",) if same else ())),
                   hop["latency_ns"], hop["uncertainty_ns"], hop.get("separable"), f"{hop['file']}#{hop['frame']}")  # fmt: skip
        before = hop


def _between(record: Record, before: Record, hop: Record, *, walks: bool) -> Line | None:
    """What made two sightings of one packet differ: another node, or NAT."""
    ends = [f"{each['src']} > {each['dst']}" for each in (before, hop)]
    if before["node"] != hop["node"]:
        tied = "" if hop["latency_ns"] is not None else ": nothing ties their clocks together"
        text = f"from {before['node']} to {hop['node']}{tied}"
        return Line("crossing", text, hop["time_ns"], tuple(record["evidence"]), source=_source([hop]))
    if ends[0] == ends[1]:
        return None
    here = [step for step in record["translations"] if step["node"] == hop["node"]]
    reply = hop["path"] == "reply"
    if reply:
        made, kinds = here, undone(here, before, hop)
    else:
        made = [step for step in here if [step["before"], step["after"]] == ends]
        kinds = [kind for step in made for kind in step["kinds"]]
    if not kinds:
        text = "half-translated copy, as br_netfilter shows on a bridge" if here else "rewritten"
        return Line("NAT", f"{text} on {hop['node']}", hop["time_ns"], tuple(record["evidence"]), source=_source([hop]))
    done = " undone" if reply else _walked(made) if walks else ""
    text = f"{'+'.join(dict.fromkeys(kinds)).upper()} on {hop['node']}{done}"
    return Line("NAT", text, hop["time_ns"], tuple(made[0]["evidence"]), source=_source([hop]))


def _served(record: Record, arrival_ns: int | None, resolution_ns: int) -> Line:
    server = record["server"]
    spent = record["latency"].get("server_ns")
    if server is None:
        return Line("served by", "not known: no translation of the request was seen", arrival_ns)
    about = f", container {server['container']}" if server["container"] else ""
    where = f", on {server['node']}" if server["node"] else ""
    known = ("cluster metadata",) if server["kind"] in ("pod", "node", "service") else ("address",)
    name = f"{who(server)} " if server["kind"] in ("pod", "node") else ""
    text = f"{name}{server['address']}{about}{where}"
    door = [hop for hop in record["hops"] if hop["path"] == "request"][-1:]
    return Line("served by", text, arrival_ns, known, spent, None if spent is None else resolution_ns,
                None if spent is None else spent > resolution_ns, _source(door))  # fmt: skip


def _failure(record: Record) -> Iterator[Line]:
    """Why there was no answer."""
    refusal, verdict = record["refusal"], record["verdict"]
    if refusal:
        yield Line("refused", f"{refusal['kind']} from {refusal['from']}, seen at {refusal['at']}", None, ("packet",))
    elif record["last_seen_at"]:
        yield Line("no answer", f"last seen at {record['last_seen_at']}", None, ("no reply captured",))
    if verdict:
        chains = " → ".join(verdict["chains"])
        yield Line("rules", f"{verdict['node']} ({verdict['mode']}) would {verdict['verdict']} it: {chains}", None, ("rules",))


def _in_time(path: Sequence[Line], besides: Sequence[Line]) -> list[Line]:
    """`path` in its own order (clocks of several nodes may contradict it), with `besides` where their times belong."""
    reached, keyed = -1, []
    for line in path:
        reached = reached if line.time_ns is None else max(reached, line.time_ns)
        keyed.append((reached, 0, line))
    keyed += [(line.time_ns or 0, 1, line) for line in besides]
    return [line for _, _, line in sorted(keyed, key=lambda item: item[:2])]


__all__ = ["Explainer", "Line", "Story"]
