"""What a tool should find in a made bundle: one line per request, with its legs. Never an input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

from analysis.synth.cluster import NAMESPACE, OUTSIDE_ADDRESS, OUTSIDE_SERVICE, MadeCluster
from analysis.synth.ledger import steps
from analysis.synth.objects import dotted, host
from analysis.synth.options import Options
from analysis.synth.slices import Slice
from analysis.synth.traffic import NO_SERVICE, NODE, ORIGINAL, POD, THE_OUTSIDE_SERVICE, TRANSLATED


class Truth:
    """Writes the lines. What a Service, a pod or a client is called is put together once."""

    def __init__(self, made: MadeCluster, options: Options) -> None:
        self._made, self._options, self._numbers = made, options, count(1)
        pods, services = made.pods, made.services
        self._pods = [
            json.dumps({"pod": f"{namespace}/{name}", "node": made.nodes[node], "ip": dotted(address)})
            for namespace, name, node, address in zip(pods.namespaces, pods.names, pods.node.tolist(), pods.address.tolist(), strict=True)
        ]
        self._nodes = [
            json.dumps({"node": name, "ip": dotted(address)}) for name, address in zip(made.nodes, made.node_address.tolist(), strict=True)
        ]
        self._outside = [json.dumps({"external": "client", "ip": dotted(address)}) for address in made.outside.tolist()]
        self._services = {
            row: json.dumps(f"{namespace}/{name}")
            for row, (namespace, name) in enumerate(zip(services.namespaces, services.names, strict=True))
        }
        self._services |= {NO_SERVICE: "null", THE_OUTSIDE_SERVICE: json.dumps(f"{NAMESPACE}/{OUTSIDE_SERVICE}")}

    def lines(self, drawn: Slice) -> Iterator[str]:
        """The requests of a slice, in the order of its exchanges."""
        exchanges = {name: column.tolist() for name, column in drawn.exchanges.items()}
        conversations = [self._conversation(drawn, row) for row in range(len(drawn.conversations["way"]))]
        made_for = {parent: row for row, parent in enumerate(exchanges["parent"]) if parent >= 0}
        rid = "header" if self._options.proxies == "ids" and not self._options.l4_only else "none"
        for row, parent in enumerate(exchanges["parent"]):
            if parent >= 0:
                continue
            legs = [self._leg(exchanges, conversations, row, 1, 0)]
            if row in made_for:
                legs.append(self._leg(exchanges, conversations, made_for[row], 2, 1))
            status = "null" if self._options.l4_only else exchanges["status"][row]
            name = json.dumps(host(self._made.services.names[exchanges["service"][row]]))
            yield (
                f'{{"id": "r{next(self._numbers):08d}", "rid_on_wire": "{rid}", "host": {name}, '
                f'"path": "/items/{exchanges["item"][row]:08d}", "status": {status}, "error": null, '
                f'"t_start": {_seconds(exchanges["asked_ns"][row])}, '
                f'"t_end": {_seconds(exchanges["answered_ns"][row])}, "legs": [{", ".join(legs)}]}}\n'
            )

    def _leg(self, exchanges: dict[str, list[int]], conversations: list[str], row: int, leg: int, parent: int) -> str:
        what = "upstream" if parent else "client"
        return (
            f'{{"leg": {leg}, "parent": {parent}, "what": "{what}", {conversations[exchanges["conversation"][row]]}, '
            f'"conn_seq": {exchanges["number"][row] + 1}, "t_start": {_seconds(exchanges["asked_ns"][row])}, '
            f'"t_end": {_seconds(exchanges["answered_ns"][row])}, "verified": true}}'
        )

    def _conversation(self, drawn: Slice, row: int) -> str:
        """What all exchanges of a conversation share."""
        table = drawn.conversations
        client, server = int(table["client"][row]), int(table["server"][row])
        kind, ends = int(table["client_kind"][row]), table["ends"][row].tolist()
        caller = (self._pods if kind == POD else self._nodes if kind == NODE else self._outside)[client]
        called = self._pods[server] if server >= 0 else json.dumps({"external": "server", "ip": dotted(OUTSIDE_ADDRESS)})
        nat = [
            f'{{"node": "{self._made.nodes[node]}", "before": "{_tuple(ends[before])}", "after": "{_tuple(ends[after])}", '
            f'"dnat": {_word(ends[before][2:] != ends[after][2:])}, "snat": {_word(ends[before][:2] != ends[after][:2])}}}'
            for node, before, after in steps(int(table["way"][row]), table["places"][row].tolist())
            if ends[before] != ends[after]
        ]
        (source, sport, destination, dport), (peer, peer_port, local, local_port) = ends[ORIGINAL], ends[TRANSLATED]
        return (
            f'"proto": "tcp", "from": {caller}, "to": {called}, "src": "{dotted(source)}:{sport}", "dst": "{dotted(destination)}:{dport}", '
            f'"service": {self._services[int(table["service"][row])]}, "via": "{table["via"][row]}", "nat": [{", ".join(nat)}], '
            f'"peer": "{dotted(peer)}:{peer_port}", "local": "{dotted(local)}:{local_port}"'
        )


def _tuple(ends: list[int]) -> str:
    source, sport, destination, dport = ends
    return f"{dotted(source)}:{sport} > {dotted(destination)}:{dport}"


def _seconds(time_ns: int) -> str:
    return f"{time_ns // 10**9}.{time_ns % 10**9:09d}"


def _word(true: bool) -> str:
    return "true" if true else "false"
