"""Connections as JSON at once, several times as fast as by way of `Recorder`'s records: byte for byte what `json.dumps` makes of those."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from analysis.failures import refusal, verdict
from analysis.hop_texts import HopTexts
from analysis.records import CHUNK, Record, Recorder, bounds_of, owner_record, policy_record, service_record
from probes.decode.numbers import PROTOCOL_NAMES
from tracer import evidence
from tracer.cluster import Owner
from tracer.names import Named
from tracer.status import REFUSED, STATUSES, TIMEOUT
from tracer.trace import Trace

_NOBODY = json.dumps(owner_record("", None))
_BEFORE_ADDRESS = _NOBODY.index('""') + 1


class RecordTexts(Recorder):
    """Turns rows of a trace into JSON. What many records have alike is made once."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self._hop_texts = HopTexts(trace, self._hop_records)
        self._evidence: dict[int, str] = {}
        self._owners: dict[int, str] = {}  # by id, as what follows: all are kept by the trace
        self._services: dict[tuple[int, bool], str] = {}
        self._port_texts: dict[tuple[int, int, int | None], str] = {}

    def texts(self, first: int, end: int) -> Iterator[tuple[str, memoryview, str]]:
        """The records of rows `first` to `end` without what `unnumbered` leaves out: what is before their hops, those, what is behind."""
        for start in range(first, end, CHUNK):
            yield from self._some(start, min(start + CHUNK, end))

    def _some(self, first: int, end: int) -> Iterator[tuple[str, memoryview, str]]:
        tables = self.trace.tables
        columns = [tables.connections[name][first:end].tolist() for name in (
            "proto", "status", "start_ns", "end_ns", "packets_original", "packets_reply", "handshake_ns", "retransmissions", "first_seen",
        )]  # fmt: skip
        named = self.trace.named[first:end]
        self._learn(named, columns[-1])
        bounds = bounds_of(tables.hops, first, end)
        hops = {name: column[bounds[0] : bounds[-1]] for name, column in tables.hops.items()}
        text, ends = self._hop_texts.texts(hops, self._latencies(bounds[0], bounds[-1]))
        at = pairwise(ends[np.array(bounds) - bounds[0]].tolist())
        parts = zip(pairwise(bounds), self._translations(first, end), self._losses(first, end), strict=True)
        for row, each, values, (rows, translations, losses), (begin, after) in zip(
            range(first, end), named, zip(*columns, strict=True), parts, at, strict=True
        ):
            last_hop = rows[1] - 1 if rows[1] > rows[0] else -1
            before, behind = self._text(row, each, values, last_hop, translations, losses)
            yield before, text[min(begin + 2, after) : after].data, behind

    def _text(
        self, connection: int, named: Named, row: tuple[int, ...], last_hop: int, translations: list[Record], losses: list[Record]
    ) -> tuple[str, str]:  # fmt: skip
        ends, original, translated = self.ends, named.original, named.translated
        number, status, start, end, packets_original, packets_reply, handshake, retransmissions, first_seen = row
        protocol = PROTOCOL_NAMES.get(number, str(number))
        client = "null" if named.source < 0 else self._owner(ends.src[named.source], named.client)
        server = "null" if translated < 0 else self._owner(ends.dst[translated], named.server)
        policies = [policy_record(policy) for policy in self.trace.policies.get(connection, ())]
        refused = _json(refusal(self.trace, connection, self._replies(connection))) if status == REFUSED else "null"
        verdicts = _json(verdict(self.trace, connection, named)) if status in (REFUSED, TIMEOUT) else "null"
        before = (
            f'{{"protocol": "{protocol}", "operation": null, "status": "{STATUSES[status]}", "start_ns": {start}, "end_ns": {end}, '
            f'"client": {client}, "server": {server}, "service": {self._service(named)}, "ingress": null, '
            f'"original": {self._tuple_text(original, protocol)}, "translated": {self._tuple_text(translated, protocol)}, '
            f'"ports": {self._ports_text(named)}, "policies": {_json(policies)}, "translations": {_json(translations)}, "hops": ['
        )
        behind = (
            f'], "packets": {{"original": {packets_original}, "reply": {packets_reply}}}, '
            f'"handshake_ns": {"null" if handshake < 0 else handshake}, "retransmissions": {retransmissions}, "losses": {_json(losses)}, '
            f'"latency": {{"total_ns": {end - start}, "network_ns": null, "server_ns": null, "uncertainty_ns": 0}}, '
            f'"evidence": {self._evidence_text(named.evidence)}, "parent_evidence": [], "confidence": {round(named.confidence, 4)}, '
            f'"candidates": {_json([self._tuple(code, protocol) for code in named.candidates])}, '
            f'"last_seen_at": {"null" if packets_reply else _json(self._last_seen_at(last_hop))}, '
            f'"refusal": {refused}, "verdict": {verdicts}, '
            f'"problems": {_json([*named.problems, *self._unseen(original, first_seen)])}}}'
        )
        return before, behind

    def _owner(self, address: str, owner: Owner | None) -> str:
        text = self._owners.get(id(owner))
        if text is None:
            text = self._owners[id(owner)] = json.dumps(owner_record("", owner))
        return f"{text[:_BEFORE_ADDRESS]}{address}{text[_BEFORE_ADDRESS:]}"

    def _service(self, named: Named) -> str:
        key = id(named.service), named.direct
        text = self._services.get(key)
        if text is None:
            text = self._services[key] = json.dumps(service_record(named))
        return text

    def _ports_text(self, named: Named) -> str:
        key = id(named.service), id(named.server), self._reached(named)
        text = self._port_texts.get(key)
        if text is None:
            text = self._port_texts[key] = json.dumps(self._ports(named))
        return text

    def _evidence_text(self, bits: int) -> str:
        text = self._evidence.get(bits)
        if text is None:
            text = self._evidence[bits] = json.dumps(evidence.names(bits))
        return text

    def _tuple_text(self, code: int, protocol: str) -> str:
        return "null" if code < 0 else f'{{"proto": "{protocol}", "src": "{self.ends.src[code]}", "dst": "{self.ends.dst[code]}"}}'


def _json(value: Any) -> str:
    return json.dumps(value) if value else "null" if value is None else "[]"
