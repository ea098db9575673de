"""Records (`analysis.records`, `analysis.requests`) as rows of the tables in `analysis.frames.columns`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.frames.columns import CONNECTIONS, REQUESTS
from analysis.frames.kinds import hop_kind, is_error
from analysis.latency import SHARES, covered

Record = dict[str, Any]


def request_row(record: Record, *, whole: bool) -> Record:
    """REQUESTS. `whole` says that the record is of a connection in which no request was read."""
    row = {name: record[name] for name in REQUESTS.keys() & record.keys()}
    latency, ingress, true_client, sizes = (record[name] or {} for name in ("latency", "ingress", "true_client", "bytes"))
    tree = latency["shares"] or {}
    row |= {name: latency[name] for name in ("total_ns", "network_ns", "server_ns", "self_ns", "uncertainty_ns")}
    row |= {f"{kind}_ns": _spent(latency["parts"], kind) for kind in ("connect", "dns", "tls", "retransmission")}
    row |= {"nat_first_ns": _spent(latency["parts"], "nat", first=True), "nat_established_ns": _spent(latency["parts"], "nat", first=False)}
    row |= {f"tree_{share}_ns": tree.get(share) for share in SHARES}
    row |= {f"{side}_bytes": sizes.get(side) for side in ("request", "response")}
    row |= {f"ingress_{name}": ingress.get(name) for name in ("kind", "namespace", "name", "service", "agrees")}
    row |= {"error": is_error(record["protocol"], record["status"]), "whole": whole, "start": record["start_ns"]}
    row |= {"true_client": true_client.get("address"), "parent_evidence": ",".join(record["parent_evidence"]) or None}
    return row | _ends(record)


def _spent(parts: list[Record], kind: str, *, first: bool | None = None) -> int | None:
    """The time (ns) that parts of a kind take together; None where there are none. `first`: only those with this `first_packet`."""
    spans = [(part["start_ns"], part["end_ns"]) for part in parts if part["kind"] == kind and first in (None, part.get("first_packet"))]
    return covered(spans, min(start for start, _ in spans), max(end for _, end in spans)) if spans else None


def _ends(record: Record) -> Record:
    """Client, server and Service."""
    row = {f"{end}_{name}": value for end in ("client", "server") for name, value in (record[end] or {}).items()}
    service = record["service"] or {}
    return row | {"service_namespace": service.get("namespace"), "service_name": service.get("name"), "via": service.get("via")}


def connection_row(record: Record) -> Record:
    """CONNECTIONS."""
    row = {name: record[name] for name in CONNECTIONS.keys() & record.keys()} | _ends(record)
    ports = record["ports"]
    row |= {name: ports[name] for name in ("node_port", "port", "container_port")}
    row["target_port"] = None if ports["target_port"] is None else str(ports["target_port"])
    for which in ("original", "translated"):
        row |= {f"{which}_{side}": (record[which] or {}).get(side) for side in ("src", "dst")}
    row |= {f"packets_{way}": count for way, count in record["packets"].items()}
    row |= {"start": record["start_ns"], "duration_ns": record["end_ns"] - record["start_ns"]}
    return row | {"evidence": ",".join(record["evidence"]), "problems": "\n".join(record["problems"]) or None}


def hop_rows(record: Record) -> Iterator[Record]:
    """HOPS of a request's record, CONNECTION_HOPS of a connection's."""
    names = {"request": record["id"], "connection": record["connection"]} if "connection" in record else {"connection": record["id"]}
    before: Record | None = None
    position = 0
    for hop in record["hops"]:
        if before is None or before["path"] != hop["path"]:
            before, position = None, 0
        yield {
            **hop, **names, "position": position, "kind": None if before is None else hop_kind(before, hop), "time": hop["time_ns"],
            "tunnel": hop["tunnel"]["kind"] if hop["tunnel"] else None,
        }  # fmt: skip
        before, position = hop, position + 1


def part_rows(record: Record) -> Iterator[Record]:
    """PARTS of a request's record."""
    modes = {each["node"]: each["rules"]["mode"] for each in record["translations"] if each["rules"]}
    for part in record["latency"]["parts"]:
        yield {
            **part, "request": record["id"], "connection": record["connection"], "start": part["start_ns"],
            "mode": modes.get(part["node"]) if part["kind"] == "nat" else None, "duration_ns": part["end_ns"] - part["start_ns"],
        }  # fmt: skip


def translation_rows(record: Record) -> Iterator[Record]:
    """TRANSLATIONS of a connection's record."""
    for position, each in enumerate(record["translations"]):
        rules = each["rules"] or {}
        yield {
            **each, "connection": record["id"], "position": position, "kinds": ",".join(each["kinds"]), "mode": rules.get("mode"),
            "chains": " → ".join(rules.get("chains", ())) or None, "rules_walked": rules.get("walked"),
            "evaluation_ns": each.get("evaluation_ns"), "evidence": ",".join(each["evidence"]),
        }  # fmt: skip


def loss_rows(record: Record) -> Iterator[Record]:
    """LOSSES of a connection's record."""
    return ({**each, "connection": record["id"], "time": each["time_ns"]} for each in record["losses"])
