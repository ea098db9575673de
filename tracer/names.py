"""Names on connections: who its ends were at that moment, and which Service the client asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from probes.addresses import Address, text
from probes.decode.numbers import PROTOCOL_NAMES, SYN, TCP
from probes.links import Link
from probes.schema import Table
from tracer import evidence
from tracer.cluster import Owner, ServicePort, Timeline
from tracer.origin import FirstPacket, verdict
from tracer.pipeline import Reconstruction
from tracer.status import REFUSED, STATUSES, TIMEOUT

EXTERNAL_SOURCE = "external"


@dataclass(slots=True)
class Named:
    """One connection with names. `original` and `translated` are tuple codes, -1 where honesty forbids to tell."""

    original: int
    translated: int
    client: Owner | None
    server: Owner | None
    service: ServicePort | None
    direct: bool  # reached without a Service's address
    confidence: float
    evidence: int
    candidates: list[int] = field(default_factory=list)  # tuples that `original` could be
    problems: list[str] = field(default_factory=list)


def _source(tuples: Table, code: int) -> tuple[Address, int]:
    return (int(tuples["src_hi"][code]), int(tuples["src_lo"][code])), int(tuples["sport"][code])


def _destination(tuples: Table, code: int) -> tuple[Address, int]:
    return (int(tuples["dst_hi"][code]), int(tuples["dst_lo"][code])), int(tuples["dport"][code])


class Naming:
    """Answers for one reconstruction, from the timeline, the nodes' links and the packets."""

    def __init__(self, traced: Reconstruction, timeline: Timeline, links: Mapping[str, Mapping[int, Link]]) -> None:
        self.traced, self.timeline = traced, timeline
        self._columns = {name: column.tolist() for name, column in traced.connections.items()}
        first = traced.hops["position"] == 0
        request, answer = first & (traced.hops["reply"] == 0), first & (traced.hops["reply"] == 1)
        self._first = dict(zip(traced.hops["connection"][request].tolist(), traced.hops["row"][request].tolist(), strict=True))
        self._answer = dict(zip(traced.hops["connection"][answer].tolist(), traced.hops["row"][answer].tolist(), strict=True))
        self._ledgers = set(np.unique(traced.entries["node"]).tolist())
        self._largest_mss = self._largest(links)

    def _largest(self, links: Mapping[str, Mapping[int, Link]]) -> dict[tuple[str, bool], int]:
        """The largest MSS a socket of each node could use, per family (True: IPv6): of its links' MTUs and of the SYNs that passed it."""
        observations, points = self.traced.observations, self.traced.points
        largest: dict[tuple[str, bool], int] = {}
        for node, known in links.items():
            for link in known.values():
                if link.mtu and not link.loopback and link.kind != "dummy":
                    for six in (False, True):
                        largest[node, six] = max(largest.get((node, six), 0), link.mtu - (60 if six else 40))
        syn = np.flatnonzero((observations["proto"] == TCP) & (observations["tcp_flags"] & SYN > 0) & (observations["mss"] > 0))
        six_rows = observations["src_hi"][syn] != 0
        for point, where in enumerate(points):
            for six in (False, True):
                there = syn[(observations["point"][syn] == point) & (six_rows == six)]
                if len(there):
                    largest[where.node, six] = max(largest.get((where.node, six), 0), int(observations["mss"][there].max()))
        return largest

    def all(self) -> Iterator[Named]:
        """Every connection's names, in order."""
        for connection in range(len(self._columns["proto"])):
            yield self._named(connection)

    def _named(self, connection: int) -> Named:
        tuples, columns = self.traced.tuples, self._columns
        original, translated = columns["original"][connection], columns["translated"][connection]
        protocol = PROTOCOL_NAMES.get(columns["proto"][connection], "")
        start_ns, answer_ns = columns["start_ns"][connection], columns["answer_ns"][connection]
        named = Named(original, translated, None, None, None, False, columns["confidence"][connection], columns["evidence"][connection])
        named.problems += self.traced.problems.get(connection, [])
        if original >= 0:
            self._judge_origin(named, connection, start_ns)
            original = named.original
        if original >= 0:
            named.client = self._client(connection, original, start_ns, protocol)
            address, port = _destination(tuples, original)
            named.service = self.timeline.service(address, port, protocol, start_ns)
            if named.service is None and self.timeline.is_service_address(address, start_ns):
                named.problems.append(f"no Service has port {port}/{protocol} at {text(*address)}")
                if translated == original:
                    named.translated = -1
            elif named.service is not None and translated >= 0 and _destination(tuples, translated) == (address, port):
                # The packet kept a Service's address as far as it was seen: dropped, rejected, or translated where nobody looked.
                named.translated = -1
                if columns["status"][connection] not in (REFUSED, TIMEOUT):
                    named.problems.append("the translation of this Service's address was not seen")
            named.direct = named.service is None and not self.timeline.empty and not self.timeline.is_service_address(address, start_ns)
        if named.translated >= 0:
            address, port = _destination(tuples, named.translated)
            when = answer_ns if answer_ns >= 0 else start_ns
            named.server = self.timeline.owner(address, when, port, protocol) or self.timeline.owner(address, start_ns, port, protocol)
        if named.direct and named.translated >= 0:
            address, port = _destination(tuples, named.translated)
            backed = self.timeline.services_of_endpoint(address, port, protocol, start_ns)
            if len(backed) == 1 and backed[0].headless:
                named.service = backed[0]
        return named

    def _client(self, connection: int, original: int, start_ns: int, protocol: str) -> Owner | None:
        address, port = _source(self.traced.tuples, original)
        origin = self._columns["origin_node"][connection]
        owner = self.timeline.owner(address, start_ns, port, protocol)
        if owner is None and origin >= 0 and self.timeline.is_service_address(address, start_ns):
            node = self.traced.nodes[origin]
            return Owner("node", node, None, node, None, None, None)
        return owner

    def _judge_origin(self, named: Named, connection: int, start_ns: int) -> None:
        """Take `original` back where the first tuple seen may be the far side of a masquerade that no observation point saw."""
        tuples, first_seen = self.traced.tuples, self._columns["first_seen"][connection]
        if named.original != first_seen or self._columns["first_node"][connection] in self._confirmed(first_seen):
            return
        address, port = _source(tuples, first_seen)
        if not self.timeline.is_node_address(address, start_ns):
            return
        target, target_port = _destination(tuples, first_seen)
        protocol = PROTOCOL_NAMES.get(self._columns["proto"][connection], "")
        if self.timeline.service(target, target_port, protocol, start_ns):
            return  # still asks for a Service: nothing was translated yet
        owner = self.timeline.owner(address, start_ns, None)
        backed = self.timeline.services_of_endpoint(target, target_port, protocol, start_ns)
        there = self.traced.nodes[self._columns["first_node"][connection]]
        if owner is None or owner.kind != "node" or (owner.node != there and not backed):
            return
        if owner.node == there:
            if not any(not service.headless for service in backed):
                return  # no Service leads here: nothing would have translated it
            masqueraded, bits = verdict(self._first_packet(connection, there, address, port))
        else:
            masqueraded, bits = None, 0
        if masqueraded is False:
            named.evidence |= bits
            return
        why = "was masqueraded by" if masqueraded else "may have been masqueraded by"
        named.problems.append(f"{text(*address)} {why} {owner.node} before any observation point; the tuple before it was not seen")
        named.candidates = [] if masqueraded else [first_seen]
        named.original, named.evidence = -1, named.evidence | bits

    def _confirmed(self, code: int) -> frozenset[int]:
        """Nodes whose ledger has `code` as an original tuple."""
        if not hasattr(self, "_originals"):
            self._originals: dict[int, set[int]] = {}
            for node, before in zip(self.traced.entries["node"].tolist(), self.traced.entries["before"].tolist(), strict=True):
                self._originals.setdefault(before, set()).add(node)
        return frozenset(self._originals.get(code, ()))

    def _first_packet(self, connection: int, node: str, address: Address, port: int) -> FirstPacket:
        observations = self.traced.observations
        row, answer = self._first.get(connection), self._answer.get(connection)
        mss = int(observations["mss"][row]) if row is not None else 0
        ttl = int(observations["ttl"][row]) if row is not None else 64
        answer_mss = int(observations["mss"][answer]) if answer is not None else 0
        largest = self._largest_mss.get((node, address[0] != 0), 0)
        return FirstPacket(mss, answer_mss, largest > answer_mss, port, ttl)


def confidence_of(named: Named) -> float:
    """0 where nothing was told; else that of the evidence."""
    return named.confidence if named.original >= 0 or named.translated >= 0 else 0.0


__all__ = ["STATUSES", "Named", "Naming", "confidence_of", "evidence"]
