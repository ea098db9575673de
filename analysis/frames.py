"""The same answers as pandas DataFrames: `load("bundle/").connections`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.records import Record, Recorder
from tracer.bundle import read_bundle
from tracer.trace import Trace, trace

# name: (pandas dtype, unit, meaning). docs/tables.md is made from these.
Columns = dict[str, tuple[str, str, str]]
_TEXT, _NUMBER, _TIME = "string", "Int64", "datetime64[ns, UTC]"

CONNECTIONS: Columns = {
    "id": (_TEXT, "", "as `hopline trace` prints it; the key of the other tables"),
    "protocol": (_TEXT, "", "tcp, udp, sctp, icmp, icmpv6"),
    "status": (_TEXT, "", "open, closed, refused, timeout, reset"),
    "start": (_TIME, "", "first packet, on the clock of the node that saw it first"),
    "duration_ns": (_NUMBER, "ns", "first to last packet on that node"),
    **{
        f"{end}_{name}": (_TEXT, "", meaning)
        for end in ("client", "server")
        for name, meaning in (
            ("address", "address:port of its socket"),
            ("kind", "pod, node, external"),
            ("namespace", ""),
            ("name", "pod or node"),
            ("node", "where it runs"),
            ("container", "that declares the port"),
        )
    },
    "service_namespace": (_TEXT, "", "of the Service the client asked for"),
    "service_name": (_TEXT, "", ""),
    "via": (_TEXT, "", "ClusterIP, NodePort, LoadBalancer, ExternalIP, Headless, direct"),
    "node_port": (_NUMBER, "", "where the client used it"),
    "port": (_NUMBER, "", "the Service's"),
    "target_port": (_TEXT, "", "as in the Service: number or name"),
    "container_port": (_NUMBER, "", "where it arrived"),
    "original_src": (_TEXT, "", "the tuple the client's socket has"),
    "original_dst": (_TEXT, "", ""),
    "translated_src": (_TEXT, "", "the tuple the server's socket has"),
    "translated_dst": (_TEXT, "", ""),
    "packets_original": (_NUMBER, "", "client to server, at the point that saw most"),
    "packets_reply": (_NUMBER, "", "server to client"),
    "handshake_ns": (_NUMBER, "ns", "SYN to SYN-ACK at the first observation point"),
    "retransmissions": (_NUMBER, "", "TCP segments sent again"),
    "last_seen_at": (_TEXT, "", "node/interface, for attempts without an answer"),
    "evidence": (_TEXT, "", "why its sightings were joined, comma separated"),
    "confidence": ("Float64", "", "0 to 1"),
    "problems": (_TEXT, "", "what could not be told, one per line"),
}
TRANSLATIONS: Columns = {
    "id": (_TEXT, "", "connection"),
    "position": (_NUMBER, "", "0 for the first NAT a packet of the client meets"),
    "node": (_TEXT, "", "that translated"),
    "before": (_TEXT, "", "src > dst"),
    "after": (_TEXT, "", "src > dst"),
    "kinds": (_TEXT, "", "dnat, snat or both, comma separated"),
    "mode": (_TEXT, "", "kube-proxy's on that node, where its rules were dumped"),
    "chains": (_TEXT, "", "rule chains a first packet walks, → separated"),
    "rules_walked": (_NUMBER, "", "rules a first packet is compared with"),
    "evidence": (_TEXT, "", ""),
}
HOPS: Columns = {
    "id": (_TEXT, "", "connection"),
    "path": (_TEXT, "", "request (the client's first packet) or reply (the first answer)"),
    "position": (_NUMBER, "", "in path order"),
    "node": (_TEXT, "", ""),
    "interface": (_TEXT, "", ""),
    "direction": (_TEXT, "", "in, out, unknown"),
    "src": (_TEXT, "", "address:port as seen here"),
    "dst": (_TEXT, "", ""),
    "port_kind": (_TEXT, "", "nodePort, port or containerPort"),
    "tunnel": (_TEXT, "", "vxlan, geneve, ipip, gre; null where plain"),
    "time": (_TIME, "", "on that node's clock"),
    "offset_ns": (_NUMBER, "ns", "since the path's first hop, same clock only"),
    "latency_ns": (_NUMBER, "ns", "since the hop before, same clock only"),
    "uncertainty_ns": (_NUMBER, "ns", "of latency_ns"),
    "file": (_TEXT, "", "capture"),
    "frame": (_NUMBER, "", "record number in it, as Wireshark counts"),
}
LOSSES: Columns = {
    "id": (_TEXT, "", "connection"),
    "path": (_TEXT, "", "request or reply"),
    "seq": (_NUMBER, "", "TCP sequence number that was sent again"),
    "time": (_TIME, "", "first sent"),
    "sent_again_after_ns": (_NUMBER, "ns", ""),
    "last_seen_at": (_TEXT, "", "node/interface that saw it last"),
    "first_missed_at": (_TEXT, "", "first that saw only the repetition"),
}
TABLES: dict[str, Columns] = {"connections": CONNECTIONS, "translations": TRANSLATIONS, "hops": HOPS, "losses": LOSSES}


@dataclass(frozen=True, slots=True)
class Frames:
    """One DataFrame per entry of TABLES; `id` joins them."""

    connections: pd.DataFrame
    translations: pd.DataFrame
    hops: pd.DataFrame
    losses: pd.DataFrame


def load(*paths: str | Path, cluster: Sequence[str | Path] = ()) -> Frames:
    """Trace a bundle (folders, or files by themselves) into DataFrames. BundleError where there is no capture."""
    return frames(trace(read_bundle([Path(path) for path in paths], [Path(path) for path in cluster])))


def frames(traced: Trace) -> Frames:
    """The DataFrames of a trace."""
    records = list(Recorder(traced))
    rows = {
        "connections": (_connection(record) for record in records),
        "translations": (_translation(record["id"], n, each) for record in records for n, each in enumerate(record["translations"])),
        "hops": (row for record in records for row in _hops(record)),
        "losses": ({**each, "id": record["id"], "time": each["time_ns"]} for record in records for each in record["losses"]),
    }
    return Frames(**{field.name: _frame(TABLES[field.name], rows[field.name]) for field in fields(Frames)})


def _frame(columns: Columns, rows: Iterable[Record]) -> pd.DataFrame:
    values: dict[str, list[object]] = {name: [] for name in columns}
    for row in rows:
        for name in columns:
            values[name].append(row.get(name))
    return pd.DataFrame({name: _series(values[name], dtype) for name, (dtype, _, _) in columns.items()})


def _series(values: list[object], dtype: str) -> pd.Series[Any]:
    if dtype == _TIME:
        return pd.to_datetime(pd.Series(values, dtype="int64"), unit="ns", utc=True)
    try:
        return pd.Series(values, dtype=dtype)
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, UTF-8 cannot
        return pd.Series([v.encode(errors="backslashreplace").decode() if isinstance(v, str) else v for v in values], dtype=dtype)


def _connection(record: Record) -> Record:
    row = {name: record[name] for name in CONNECTIONS if name in record}
    row |= {"start": record["start_ns"], "duration_ns": record["end_ns"] - record["start_ns"]}
    for end in ("client", "server"):
        row |= {f"{end}_{name}": value for name, value in (record[end] or {}).items()}
    service = record["service"] or {}
    row |= {"service_namespace": service.get("namespace"), "service_name": service.get("name"), "via": service.get("via")}
    ports = record["ports"]
    row |= {name: ports[name] for name in ("node_port", "port", "container_port")}
    row["target_port"] = None if ports["target_port"] is None else str(ports["target_port"])
    for which in ("original", "translated"):
        row |= {f"{which}_{side}": (record[which] or {}).get(side) for side in ("src", "dst")}
    row |= {f"packets_{way}": count for way, count in record["packets"].items()}
    return row | {"evidence": ",".join(record["evidence"]), "problems": "\n".join(record["problems"]) or None}


def _translation(connection: str, position: int, each: Record) -> Record:
    rules = each["rules"] or {}
    chains = rules.get("chains")
    return {
        "id": connection, "position": position, "node": each["node"], "before": each["before"], "after": each["after"],
        "kinds": ",".join(each["kinds"]), "mode": rules.get("mode"), "chains": " → ".join(chains) if chains else None,
        "rules_walked": rules.get("walked"), "evidence": ",".join(each["evidence"]),
    }  # fmt: skip


def _hops(record: Record) -> Iterable[Record]:
    counts = {"request": 0, "reply": 0}
    for hop in record["hops"]:
        tunnel = hop["tunnel"]["kind"] if hop["tunnel"] else None
        yield {**hop, "id": record["id"], "position": counts[hop["path"]], "time": hop["time_ns"], "tunnel": tunnel}
        counts[hop["path"]] += 1
