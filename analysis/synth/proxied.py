"""What the ingress controller asks for on behalf of its clients: exchanges on connections that it keeps open."""

from __future__ import annotations

import numpy as np

from analysis.synth.cluster import MadeCluster
from analysis.synth.timeline import MARGIN_NS
from analysis.synth.traffic import NO_SERVICE, POD, Calls
from probes.schema import Array, Table

FORWARD_NS, RETURN_NS = 60_000, 40_000  # inside the proxy, on the way there and back
LANES, KEPT_EXCHANGES = 4, 16  # connections of one proxy to one pod side by side; what one of them carries


def remote(made: MadeCluster, proxy: Array, pod: Array) -> Array:
    """Whether the pods that are asked are on other nodes than those that ask."""
    return np.asarray(made.pods.node[proxy] != made.pods.node[pod])


def kept_connections(proxy: Array, pod: Array, start_ns: Array, end_ns: Array) -> tuple[Array, Array]:
    """`(connection, number on it)` of each exchange: from a proxy to a pod, between two moments, one at a time on each connection."""
    pair = proxy.astype("i8") << 32 | pod
    order = np.lexsort((start_ns, pair))
    rank = np.empty(len(order), "i8")
    rank[order] = _since(np.diff(pair[order], prepend=-1) != 0)
    lane = pair * LANES + rank % LANES
    order = np.lexsort((start_ns, lane))
    new = np.diff(lane[order], prepend=-1) != 0
    new[1:] |= start_ns[order][1:] < end_ns[order][:-1] + MARGIN_NS
    new |= _since(new) % KEPT_EXCHANGES == 0
    connection, number = np.empty(len(order), "i8"), np.empty(len(order), "i8")
    connection[order] = np.cumsum(new) - 1
    number[order] = _since(new)
    return connection, number


def _since(begins: Array) -> Array:
    """How many rows ago the last of `begins` was (which row 0 is)."""
    row = np.arange(len(begins))
    return np.asarray(row - np.maximum.accumulate(np.where(begins, row, 0)))


def upstream_calls(calls: Calls, proxy: Array, pod: Array) -> None:
    """Fill `calls` with connections of `proxy` pods straight to `pod`s."""
    rows, pods = np.arange(len(proxy)), calls.made.pods
    calls.by_pod(rows, proxy, (pods.address[pod], pods.port[pod]))
    calls.served_by(rows, np.full(len(rows), NO_SERVICE), pod, "direct")
    calls.goes(rows, ~remote(calls.made, proxy, pod), "direct")
    calls.client_kind[rows] = POD


def exchanges_of(parent: Table, rows: Array, request: Array, request_bytes: Array) -> Table:
    """The exchanges made for those of `parent` at `rows`, whose answers pass through."""
    count = len(rows)
    none = np.zeros(count, "i8")
    return {
        "conversation": np.arange(count), "number": none, "request": request, "response": parent["response"][rows],
        "request_bytes": request_bytes, "response_bytes": parent["response_bytes"][rows], "gap_ns": none,
        "think_ns": parent["think_ns"][rows], "anchor_ns": none, "item": parent["item"][rows], "identifier": parent["identifier"][rows],
        "service": parent["service"][rows], "status": parent["status"][rows],
    }  # fmt: skip
