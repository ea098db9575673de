"""Why an attempt failed, as far as packets and kube-proxy's rules tell."""

from __future__ import annotations

from probes.addresses import text
from probes.decode.numbers import ICMP, PROTOCOL_NAMES
from probes.schema import Table
from tracer.names import Named
from tracer.status import REFUSED, TIMEOUT
from tracer.trace import Trace

Record = dict[str, object]

# RFC 792 and RFC 1122, 3.2.2.1; RFC 4443, 3.1
_UNREACHABLE = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable", 9: "network prohibited",
    10: "host prohibited", 13: "administratively prohibited",
}  # fmt: skip
_UNREACHABLE_V6 = {0: "no route", 1: "administratively prohibited", 3: "address unreachable", 4: "port unreachable", 6: "route rejected"}


def refusal(trace: Trace, connection: int, reply_hops: list[int]) -> Record | None:
    """Who refused the attempt and how: the first ICMP error about it, else the RST's (SCTP: ABORT's) first hop; None if not refused."""
    tables = trace.tables
    if tables.connections["status"][connection] != REFUSED:
        return None
    observations = tables.observations
    errors = tables.icmp_errors.get(connection, [])
    if errors:
        row = errors[0]
        names = _UNREACHABLE if observations["proto"][row] == ICMP else _UNREACHABLE_V6
        kind = f"ICMP {names.get(int(observations['icmp_code'][row]), 'unreachable')}"
    elif reply_hops:
        row = int(tables.hops["row"][reply_hops[0]])
        kind = "RST"
    else:
        return None
    point = tables.points[int(observations["point"][row])]
    sender = text(int(observations["src_hi"][row]), int(observations["src_lo"][row]))
    return {"kind": kind, "from": sender, "at": f"{point.node}/{point.interface}", "time_ns": int(observations["time_ns"][row])}


def verdict(trace: Trace, connection: int, named: Named) -> Record | None:
    """What the rules of the node that saw the attempt first do with this Service, where that is no translation: reject or drop."""
    tables = trace.tables
    if tables.connections["status"][connection] not in (REFUSED, TIMEOUT) or named.direct or named.original < 0:
        return None
    node = tables.nodes[int(tables.connections["first_node"][connection])]
    rules = trace.bundle.rules.get(node)
    if rules is None:
        return None
    tuples: Table = tables.tuples
    code = named.original
    address, source = ((int(tuples[f"{side}_hi"][code]), int(tuples[f"{side}_lo"][code])) for side in ("dst", "src"))
    port, protocol = int(tuples["dport"][code]), PROTOCOL_NAMES.get(int(tuples["proto"][code]), "")
    path = rules.service_path(address, port, protocol, source=source, or_node_port=True)
    if path is None or path.verdict == "dnat":
        return None
    return {"node": node, "mode": rules.mode, "verdict": path.verdict, "service": path.service, "chains": list(path.chains)}
