"""What many connections have in common: a record without what is its own. The picture and the distributions of a report ask no more.

Addresses of clients that are neither pods nor nodes are its own: an Ingress is asked from very many. How many kinds there are then follows
from what a cluster is made of, and from the servers outside that are asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from analysis.records import Record

PORT = re.compile(r"\d+$")
ADDRESS = re.compile(r"(?<![\w.:\[])(?:\d+(?:\.\d+){3}(?::\d+)?|\[?[0-9a-f]*(?::[0-9a-f.]*){2,}(?:\]:\d+)?)(?![\w])")
# What is measured of a connection; NAT by the path that its packet was on, and by the node.
TOTAL, HANDSHAKE, BETWEEN, WITHIN, NAT = "total", "handshake", "between", "within", "nat"


def kind_of(record: Record) -> Record:
    """The kind of a connection: a record with fewer keys, the same for all that are alike."""
    server, service, original, translated = (record[name] for name in ("server", "service", "original", "translated"))
    port = PORT.search(translated["dst"]) if translated else None
    nowhere = server is None and not (service and service["name"])
    return {
        "protocol": record["protocol"], "status": record["status"], "client": _end(record["client"]), "server": _end(server, whole=True),
        "service": service, "ports": record["ports"], "original": {"dst": original["dst"]} if original and nowhere else None,
        "translated": {"dst": port[0]} if port else None,
        "translations": [
            {"node": each["node"], "kinds": each["kinds"], "rules": each["rules"] and {"mode": each["rules"]["mode"]}}
            for each in record["translations"]
        ],
    }  # fmt: skip


def measured(record: Record) -> Iterator[tuple[str, int]]:
    """The name and the length (ns) of all that was measured of a connection."""
    if record["latency"]["total_ns"] is not None:
        yield TOTAL, record["latency"]["total_ns"]
    if record["handshake_ns"] is not None:
        yield HANDSHAKE, record["handshake_ns"]
    for before, hop in pairwise(record["hops"]):
        if hop["path"] == before["path"] and hop["latency_ns"] is not None:
            if hop["node"] != before["node"]:
                yield BETWEEN, hop["latency_ns"]
            elif hop["src"] == before["src"] and hop["dst"] == before["dst"]:
                yield WITHIN, hop["latency_ns"]
            else:
                yield f"{NAT} {hop['path']} {hop['node']}", hop["latency_ns"]


def reason_of(problem: str) -> str:
    """What could not be told, wherever it was."""
    return ADDRESS.sub("…", problem)


def _end(end: Record | None, *, whole: bool = False) -> Record | None:
    """One end; `whole`: with its address, where that alone names it."""
    if end is None:
        return None
    named = {name: end[name] for name in ("kind", "namespace", "name", "node")}
    return named | {"address": end["address"] if whole and end["kind"] not in ("pod", "node") else None}
