"""What is compared: measurements from a bundle's frames, each with the cluster it is not independent within.

A cluster is what one connection of a client set off: its requests, their whole trees, every packet of them. Requests of one connection
share its endpoint, its NAT and its moment; requests of different clients' connections share only the machines: what is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.frames import Frames
from analysis.frames.kinds import FAILED
from probes.schema import Array

RECORDING = "recording"
DIRECT = "pods, without a Service"  # so that no NAT of kube-proxy's took part
BETWEEN_NODES = ("tunnel", "network")
BY = ("service", "hop", "node-pair")


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of one metric and group: `values` float64 (ns, or 0 and 1), `cluster` i8. `apart_ns`: how far off all may be (clocks)."""

    values: Array
    cluster: Array
    apart_ns: float = 0.0


Key = tuple[str, str]  # metric, group


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of METRICS: what it is in words, its unit ("ns", or "share" of those for which it holds), and what is independent in it."""

    words: str
    unit: str
    by: str | None = None  # measured only where --by asks for it
    independent: str = "client connections"


METRICS = {
    "nat-first": Metric("first packet through NAT (walks the rules)", "ns"),
    "nat-established": Metric("later packets through NAT", "ns"),
    "connect": Metric("connecting: SYN to SYN-ACK", "ns"),
    "failures": Metric("failed requests", "share"),
    "retransmissions": Metric("connections with segments sent again", "share"),
    "request": Metric("request to", "ns", "service"),
    "hop": Metric("hop:", "ns", "hop"),
    "node-pair": Metric("on the network:", "ns", "node-pair"),
    RECORDING: Metric("recording: CPU per packet in the filter", "ns", independent="node recordings"),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A side's samples by metric and group; `clusters` in all, the start of each (i8, ns), and how often each asked what (`mix`).

    Of what recording cost, a cluster is one recording of one node; of all else, a client's connection.
    """

    samples: Mapping[Key, Sample]
    clusters: int
    start_ns: Array
    mix: Mapping[str, Array]  # what was asked -> cluster codes, one per request of a client's own


def measured(frames: Frames, by: tuple[str, ...] = BY) -> Measured:
    """The samples of a bundle; `by` chooses from BY what latency is grouped by."""
    requests = frames.requests
    trace, connection = (requests[name].to_numpy(object) for name in ("trace", "connection"))
    root: dict[str, str] = {}
    for each, carried in zip(trace, connection, strict=True):  # a tree's root comes first
        root.setdefault(each, carried)
    codes = {carried: code for code, carried in enumerate(dict.fromkeys(root.values()))}
    cluster = np.array([codes[root[each]] for each in trace], "i8")
    of_request = dict(zip(requests["id"].to_numpy(object), cluster.tolist(), strict=True))
    of_connection: dict[str, int] = {}
    for carried, code in zip(connection, cluster.tolist(), strict=True):
        of_connection.setdefault(carried, code)
    start = np.full(len(codes), np.iinfo("i8").max)
    np.minimum.at(start, cluster, requests["start"].to_numpy("datetime64[ns]").astype("i8"))
    found: dict[Key, Sample] = {}
    for name, gather in _GATHER.items():
        if METRICS[name].by is None or METRICS[name].by in by:
            for group, sample in gather(frames, of_request, of_connection):
                found[name, group] = sample
    roots = ~requests["parent"].notna().to_numpy()
    asked = _asked(frames)
    mix: dict[str, list[int]] = {}
    for row in np.flatnonzero(roots).tolist():
        mix.setdefault(asked[row], []).append(int(cluster[row]))
    return Measured(found, len(codes), start, {what: np.array(each, "i8") for what, each in mix.items()})


def _asked(frames: Frames) -> list[str]:
    """What each request was for: Service, protocol, and the operation without what varies in it (query, numbers)."""
    rows = frames.requests
    parts = zip(_service(rows), _texts(rows["protocol"]), _texts(rows["operation"]), strict=True)
    return [f"{service} {protocol} {_VARIES.sub('#', operation.split('?')[0])}".strip() for service, protocol, operation in parts]


def _texts(column: Any) -> list[str]:
    """A column (Series) of text, empty where null."""
    found: list[str] = column.fillna("").tolist()
    return found


_VARIES = re.compile(r"\d+|(?<==)\S+")
Codes = Mapping[str, int]
Gathered = Iterator[tuple[str, Sample]]


def _service(rows: Any) -> list[str]:
    names = zip(*(_texts(rows[name]) for name in ("service_namespace", "service_name")), strict=True)
    return [f"{namespace}/{name}" if name else DIRECT for namespace, name in names]


def _sample(rows: Any, column: str, key: str, codes: Codes, apart_ns: float = 0.0) -> Sample:
    """A sample of the rows (a DataFrame) whose `column` is known; `key` names the row's request or connection."""
    rows = rows[rows[column].notna() & rows[key].isin(codes.keys())]
    cluster = np.array([codes[each] for each in rows[key].to_numpy(object)], "i8")
    return Sample(rows[column].to_numpy("f8"), cluster, apart_ns)


def _nat(frames: Frames, requests: Codes, *, first: bool) -> Gathered:
    """Of packets that were stamped on both sides.

    Where the kernel stamps a packet once and shows it twice (a datagram on veth and bridge), no time lies between: it says nothing of NAT.
    """
    rows = frames.parts[(frames.parts["kind"] == "nat") & (frames.parts["duration_ns"] > 0)]
    yield "", _sample(rows[(rows["first_packet"] == first).fillna(False)], "duration_ns", "request", requests)


def _connect(frames: Frames, _: Codes, connections: Codes) -> Gathered:
    rows = frames.connections
    yield "", _sample(rows[rows["protocol"] == "tcp"], "handshake_ns", "id", connections)


def _failures(frames: Frames, requests: Codes, _: Codes) -> Gathered:
    yield "", _sample(frames.requests, "error", "id", requests)


def _retransmissions(frames: Frames, _: Codes, connections: Codes) -> Gathered:
    rows = frames.connections[frames.connections["protocol"] == "tcp"]
    yield "", _sample(rows.assign(again=rows["retransmissions"] > 0), "again", "id", connections)


def _requests(frames: Frames, requests: Codes, _: Codes) -> Gathered:
    """Of requests that were answered: how long one was waited for in vain says nothing of latency; `failures` counts them."""
    rows = frames.requests
    rows = rows.assign(group=_service(rows))[~rows["whole"] & ~rows["status"].isin(sorted(FAILED))]
    for group, some in rows.groupby("group"):
        yield str(group), _sample(some, "total_ns", "id", requests)


def _hops(frames: Frames, requests: Codes, _: Codes) -> Gathered:
    for kind, rows in frames.hops[frames.hops["kind"].notna()].groupby("kind"):
        known = rows["uncertainty_ns"].dropna()
        apart = float(known.median()) if kind in BETWEEN_NODES and len(known) else 0.0
        yield str(kind), _sample(rows, "latency_ns", "request", requests, apart)


def _node_pairs(frames: Frames, requests: Codes, _: Codes) -> Gathered:
    rows = frames.requests[~frames.requests["whole"]]
    for (client, server), some in rows.groupby(["client_node", "server_node"]):
        yield f"{client} to {server}", _sample(some, "network_ns", "id", requests)


_GATHER: dict[str, Callable[[Frames, Codes, Codes], Gathered]] = {
    "nat-first": lambda frames, requests, _: _nat(frames, requests, first=True),
    "nat-established": lambda frames, requests, _: _nat(frames, requests, first=False),
    "connect": _connect, "failures": _failures, "retransmissions": _retransmissions, "request": _requests, "hop": _hops,
    "node-pair": _node_pairs,
}  # fmt: skip


def positions(frames: Frames) -> list[tuple[int, int]]:
    """(rules walked, ns) of each first packet through NAT on a node whose rules have its translation."""
    known = frames.translations[frames.translations["rules_walked"].notna()]
    walked = {
        (connection, node): int(rules)
        for connection, node, rules in zip(*(known[name].tolist() for name in ("connection", "node", "rules_walked")), strict=True)
    }
    parts = frames.parts[(frames.parts["kind"] == "nat") & frames.parts["first_packet"].fillna(value=False)]
    rows = zip(*(parts[name].tolist() for name in ("connection", "node", "duration_ns")), strict=True)
    return [(walked[connection, node], int(ns)) for connection, node, ns in rows if (connection, node) in walked]
