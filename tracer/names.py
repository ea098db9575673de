"""Names on connections: who its ends were at that moment, and which Service the client asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from probes.addresses import Address, endpoint, text
from probes.decode.link import ALL_INTERFACES
from probes.decode.numbers import IN, OUT, PROTOCOL_NAMES
from probes.links import Link
from probes.schema import Array, size
from tracer import evidence
from tracer.arrival import arrived
from tracer.cluster import Owner, ServicePort, Timeline
from tracer.first_seen import asked_for, first_packets, unmasked
from tracer.namesakes import CODES, Members, namesakes
from tracer.origin import INITIAL_TTLS, FirstPacket, could_be_door, masqueraded
from tracer.pipeline import Reconstruction
from tracer.status import REFUSED, TIMEOUT
from tracer.surroundings import Surroundings

INSIDE_POD = -1  # where a node has its number


@dataclass(slots=True)
class Named:
    """One connection with names. `original` and `translated` are tuple codes, -1 where honesty forbids to tell.

    `source` is the tuple whose source is the client's address: `original`, or the first one seen where only its destination is in doubt;
    `target` that whose destination is the server's: `translated`, or the last one seen where only its source is in doubt.
    """

    original: int
    translated: int
    confidence: float
    evidence: int
    source: int = -1
    client: Owner | None = None
    server: Owner | None = None
    service: ServicePort | None = None
    direct: bool = False  # reached without a Service's address
    target: int = -1
    candidates: list[int] = field(default_factory=list)  # tuples that `original` could be
    problems: list[str] = field(default_factory=list)


def _named_like(other: Named, codes: Sequence[int], own: Sequence[int], confidence: float) -> Named:
    """The same names, made of a connection's `own` tuples (CODES) where the other one's `codes` are."""
    place = dict(zip((-1, *codes), (-1, *own), strict=True))
    return Named(
        place[other.original], place[other.translated], confidence, other.evidence, place[other.source], other.client, other.server,
        other.service, other.direct, place[other.target], [place[each] for each in other.candidates], [*other.problems],
    )  # fmt: skip


class Naming:
    """Answers for one reconstruction, from the timeline, the nodes' links and the packets, and what is `around` them."""

    def __init__(self, traced: Reconstruction, timeline: Timeline, links: Mapping[str, Mapping[int, Link]], around: Surroundings) -> None:
        self.traced, self.timeline, self.around = traced, timeline, around
        self._columns = {name: column.tolist() for name, column in traced.connections.items()}
        self._knows_services, knows_slices = (any(True for _ in timeline.objects(kind)) for kind in ("Service", "EndpointSlice"))
        self._knows_endpoints = self._knows_services and knows_slices  # no cluster is without: there is default/kubernetes
        self._nodes = set(timeline.nodes)
        self._captured = {point.node for point in traced.points}
        self._own_addresses = {node: {a for link in known.values() for a in link.addresses} for node, known in links.items()}
        self._unmasked, self._asked_for = unmasked(traced), asked_for(traced)
        inside, possible = self._kinds_of_points(links)
        self._doors = self._find_doors(inside, possible)
        self._final, self._asked = arrived(traced, inside, possible & np.array([point.interface != "any" for point in traced.points], bool))
        self._original_on = Members(traced.entries["before"], traced.entries["node"])  # nodes whose ledger has a tuple as an original one
        self._by_itself = False  # whether what the connection in hand is called follows from more than what it shares with others

    @cached_property
    def _first_rows(self) -> tuple[dict[int, int], dict[int, int]]:
        """Per connection the observation of its first packet, and of the answer's."""
        request, answer = (first_packets(self.traced.hops, reply=reply) for reply in (False, True))
        return request, answer

    def _source(self, code: int) -> tuple[Address, int]:
        """Address and port."""
        tuples = self.traced.tuples
        return (int(tuples["src_hi"][code]), int(tuples["src_lo"][code])), int(tuples["sport"][code])

    def _destination(self, code: int) -> tuple[Address, int]:
        tuples = self.traced.tuples
        return (int(tuples["dst_hi"][code]), int(tuples["dst_lo"][code])), int(tuples["dport"][code])

    def _kinds_of_points(self, links: Mapping[str, Mapping[int, Link]]) -> tuple[Array, Array]:
        """Which observation points are inside a pod, as a capture of no node's is; which may see a pod's packet as the pod made it."""
        points = self.traced.points
        kinds = [link.kind if (link := links.get(point.node, {}).get(point.ifindex)) else None for point in points]
        inside = np.array([point.node not in self._nodes for point in points], bool)
        # of a node's Ethernet capture that names no interface nobody knows where it was taken
        placed = np.array([point.interface != "any" or point.link_type in ALL_INTERFACES for point in points], bool)
        possible = np.array([could_be_door(point.interface, kind) for point, kind in zip(points, kinds, strict=True)], bool)
        possible &= np.array([(point.node, point.interface) not in self.around.shared for point in points], bool)
        return inside, possible & (inside | placed)

    def _find_doors(self, inside: Array, possible: Array) -> Members:
        """Nodes where a packet of each connection's client was seen as its sender made it: coming into the node from a pod of it.

        A capture of no node's is taken inside a pod, where its packets go out: that is INSIDE_POD.
        """
        traced, observations = self.traced, self.traced.observations
        fresh = np.isin(np.arange(256), INITIAL_TTLS)  # by TTL
        at = np.flatnonzero(traced.sighting_forward)
        at = at[possible[observations["point"][traced.sighting_rows[at]]]]
        rows = traced.sighting_rows[at]
        made = fresh[observations["ttl"][rows]] & (observations["tunnel"][rows] == 0)
        made &= observations["direction"][rows] != np.where(inside[observations["point"][rows]], IN, OUT)
        nodes = np.array([traced.nodes.index(point.node) for point in traced.points], "i8")
        where = np.where(inside, INSIDE_POD, nodes)[observations["point"][rows[made]]]
        return Members(traced.sighting_connections[at[made]], where)

    def _is_pod(self, address: Address, when_ns: int) -> bool:
        owner = self.timeline.owner(address, when_ns)
        return owner is not None and owner.kind == "pod"

    def all(self) -> Iterator[Named]:
        """Every connection's names, in order: of those that are `namesakes`, the first one's are looked for."""
        told: dict[int, tuple[Named, tuple[int, ...]]] = {}
        codes = zip(*(self._columns[name] for name in CODES), strict=True)
        facts = zip(self._namesakes().tolist(), self._columns["confidence"], codes, strict=True)
        for connection, (kind, confidence, its) in enumerate(facts):
            if kind in told:
                yield _named_like(*told[kind], its, confidence)
                continue
            self._by_itself = False
            named = self._named(connection)
            if not self._by_itself:
                told[kind] = replace(named, candidates=[*named.candidates], problems=[*named.problems]), its
            yield named

    def _namesakes(self) -> Array:
        alone = np.zeros(len(self._final), bool)
        alone[[*self.traced.problems, *self._unmasked]] = True
        beside = (self._final, self._asked, self._asked_for, self._doors.hashes(len(alone)))
        return namesakes(self.traced, self.timeline, self._original_on.hashes(size(self.traced.tuples)), beside, alone)

    def _named(self, connection: int) -> Named:
        columns = self._columns
        original, translated = columns["original"][connection], columns["translated"][connection]
        protocol = PROTOCOL_NAMES.get(columns["proto"][connection], "")
        start_ns, answer_ns = columns["start_ns"][connection], columns["answer_ns"][connection]
        named = Named(original, translated, columns["confidence"][connection], columns["evidence"][connection])
        named.problems += self.traced.problems.get(connection, [])
        if original >= 0:
            named.source = original
            named.client = self._client(connection, original, start_ns, protocol)
            self._judge_order(named, start_ns, protocol)
        if named.original >= 0:
            self._judge_origin(named, connection, start_ns, protocol)
        if named.original >= 0:
            self._name_service(named, connection, start_ns, protocol)
        named.target = named.translated
        if named.translated >= 0:
            self._judge_arrival(named, connection, start_ns)
            address, port = self._destination(named.target)
            when = answer_ns if answer_ns >= 0 else start_ns
            named.server = self.timeline.owner(address, when, port, protocol) or self.timeline.owner(address, start_ns, port, protocol)
        return named

    def _name_service(self, named: Named, connection: int, start_ns: int, protocol: str) -> None:
        timeline = self.timeline
        address, port = self._destination(named.original)
        named.service = timeline.service(address, port, protocol, start_ns)
        if named.service is not None:
            if named.translated >= 0 and self._same_destination(named, protocol):
                # The packet kept a Service's address as far as it was seen: dropped, rejected, or translated where nobody looked.
                named.translated = -1
                if self._columns["status"][connection] not in (REFUSED, TIMEOUT):
                    named.problems.append("the translation of this Service's address was not seen")
        elif timeline.is_service_address(address, start_ns):
            named.problems.append(f"no Service has port {port}/{protocol} at {text(*address)}")
            if named.translated == named.original:
                named.translated = -1
        elif timeline.empty:
            return
        elif named.translated >= 0 and not self._same_destination(named, protocol):
            named.problems.append(f"{endpoint(*address, port)} was translated, and no Service is known that has it")
        elif self._knows_services or self._is_pod(address, start_ns):
            named.direct = True
            backed = timeline.services_of_endpoint(address, port, protocol, start_ns)
            if len(backed) == 1 and backed[0].headless:
                named.service = backed[0]

    def _same_destination(self, named: Named, protocol: str) -> bool:
        """Whether what was asked for is where packets went. An echo's identifier stands for both ports: a masquerade changes it."""
        asked, reached = self._destination(named.original), self._destination(named.translated)
        return asked == reached or (asked[0] == reached[0] and protocol in {"icmp", "icmpv6"})

    def _client(self, connection: int, original: int, start_ns: int, protocol: str) -> Owner | None:
        address, port = self._source(original)
        origin = self._columns["origin_node"][connection]
        owner = self.timeline.owner(address, start_ns, port, protocol)
        if owner is None and origin >= 0 and self.timeline.is_service_address(address, start_ns):
            node = self.traced.nodes[origin]  # IPVS makes the VIP the source of a node's own call
            known = node if node in self._nodes or not self._nodes else None  # a capture may be called otherwise than its node
            return Owner("node", known, node=known)
        return owner

    def _judge_order(self, named: Named, start_ns: int, protocol: str) -> None:
        """Take both tuples back where they would be translated to a Service's cluster IP, which nothing does: packets are missing."""
        if named.translated in {-1, named.original}:
            return
        asked = self.timeline.service(*self._destination(named.translated), protocol, start_ns)
        if asked is not None and asked.via == "ClusterIP":
            named.problems.append("packets were seen in an order in which nothing is translated: to a Service's address")
            named.candidates = [named.translated]
            named.original = named.translated = -1

    def _judge_origin(self, named: Named, connection: int, start_ns: int, protocol: str) -> None:
        """Take `original` back where the first tuple seen may be the far side of a translation that no observation point saw."""
        first_seen, client = self._columns["first_seen"][connection], named.client
        if named.original != first_seen:
            return
        if self._asked_for[connection]:
            named.evidence |= evidence.SOCKET  # that is what its application asked for
            return
        hidden, bits = self._translated_before(connection, client, start_ns, protocol)
        named.evidence |= bits
        if hidden is False:
            return
        src, _ = self._source(first_seen)
        how = "was translated" if hidden else "may have been translated"
        named.problems.append(f"{text(*src)} {how} before any observation point; the tuple before it was not seen")
        named.candidates = [] if hidden else [first_seen]
        named.original = -1
        if client is None or client.kind != "pod":  # DNAT keeps the source; only a masquerade hides it, and never behind a pod's address
            named.client, named.source = self._masqueraded_client(connection, start_ns)

    def _judge_arrival(self, named: Named, connection: int, start_ns: int) -> None:
        """Take `translated` back where its source may be translated, or was translated back, past the last observation point."""
        if self._final[connection] or self.timeline.empty:
            return
        (src, _), (dst, _) = self._source(named.translated), self._destination(named.translated)
        if self._asked[connection]:
            client, server = (self.timeline.owner(address, start_ns) for address in (src, dst))
            from_pod, to_pod = (owner is not None and owner.kind == "pod" for owner in (client, server))
            stays = client is not None and server is not None and server.kind == "node" and client.node == server.node
            if src != dst and (not from_pod or to_pod or stays):
                return
        elif named.translated == self._columns["first_seen"][connection]:
            return  # only answers were seen at all
        named.translated = -1
        named.problems.append(f"{text(*src)} may have been translated behind every observation point; the tuple after it was not seen")

    def _masqueraded_client(self, connection: int, start_ns: int) -> tuple[Owner | None, int]:
        """Whom a masquerade hides, where the answer was seen past it: the client, and the tuple whose source it is; else None, -1.

        Another node's address is no client's: that node may have masqueraded one of its own.
        """
        node, source = self._unmasked.get(connection, (-1, -1))
        if source < 0:
            return None, -1
        client = self._client(connection, source, start_ns, PROTOCOL_NAMES.get(self._columns["proto"][connection], ""))
        if client is not None and client.kind == "node" and client.node != self.traced.nodes[node]:
            return None, -1
        return client, source

    def _translated_before(self, connection: int, client: Owner | None, start_ns: int, protocol: str) -> tuple[bool | None, int]:
        """`(whether the first tuple seen had been translated before, evidence bits)`; None where that is possible."""
        first_seen = self._columns["first_seen"][connection]
        kind = client.kind if client else None
        source, _ = self._source(first_seen)
        there = (client.node if client else None) or self.traced.nodes[self._columns["first_node"][connection]]
        own = kind == "node" or source in self._own_addresses.get(there, ())
        captured = there in self._captured
        if (client is not None or own) and there in (self.traced.nodes[node] for node in self._original_on.of(first_seen)):
            return False, 0
        if self.timeline.empty:
            hidden, bits = masqueraded(self._first_packet(connection, there, first_seen)) if own else (False, 0)
            return bool(hidden), bits  # without metadata, only what the packet gives away
        target, target_port = self._destination(first_seen)
        if own and not captured:
            return None, 0
        if own and there not in self.around.pod_sides and not self._is_pod(target, start_ns):
            return None, 0  # the CNI masquerades what pods send out of the cluster, and nobody looked where pods come in
        if self.timeline.service(target, target_port, protocol, start_ns) is not None:
            return False, 0  # it still asks for a Service
        backed = self.timeline.services_of_endpoint(target, target_port, protocol, start_ns)
        whose = self.timeline.owner(target, start_ns)
        if whose is not None and all(service.headless for service in backed) and (self._knows_endpoints or whose.kind != "pod"):
            return False, 0  # no Service's address leads here
        doors = self._doors.of(connection)
        if not own and kind in ("pod", None) and any(door == INSIDE_POD or self.traced.nodes[door] == there for door in doors):
            return False, 0
        return masqueraded(self._first_packet(connection, there, first_seen)) if own else (None, 0)

    def _first_packet(self, connection: int, node: str, first_seen: int) -> FirstPacket:
        self._by_itself = True
        observations = self.traced.observations
        address, port = self._source(first_seen)
        row, answer = (rows.get(connection) for rows in self._first_rows)
        mss, ttl = (int(observations["mss"][row]), int(observations["ttl"][row])) if row is not None else (0, INITIAL_TTLS[0])
        answer_mss = int(observations["mss"][answer]) if answer is not None else 0
        return FirstPacket(mss, answer_mss, self.around.largest_mss.get((node, address[0] != 0), 0) > answer_mss, port, ttl)
