"""Every column of every table: its pandas dtype, unit and meaning. docs/tables.md and Parquet's metadata are made from these."""

from __future__ import annotations

from analysis.latency import SHARES

Columns = dict[str, tuple[str, str, str]]  # name: (pandas dtype, unit, meaning)
TEXT, NUMBER, REAL, FLAG, TIME = "string", "Int64", "Float64", "boolean", "datetime64[ns, UTC]"

_ENDS: Columns = {
    f"{end}_{name}": (TEXT, "", meaning)
    for end in ("client", "server")
    for name, meaning in (
        ("address", "address:port of its socket"),
        ("kind", "pod, node, external"),
        ("namespace", ""),
        ("name", "pod or node"),
        ("node", "where it runs"),
        ("container", "that declares the port"),
    )
}
_SERVICE: Columns = {
    "service_namespace": (TEXT, "", "of the Service the client asked for"),
    "service_name": (TEXT, "", ""),
    "via": (TEXT, "", "ClusterIP, NodePort, LoadBalancer, ExternalIP, Headless, ExternalName, direct"),
}
REQUESTS: Columns = {
    "id": (TEXT, "", "as `hopline trace` prints it: `r17`"),
    "parent": (TEXT, "", "request that was being served while this call was made; null for none, or not told"),
    "trace": (TEXT, "", "the same for a request and all below it"),
    "connection": (TEXT, "", "that carried it"),
    "protocol": (TEXT, "", "http, http2, grpc, dns, mysql, …; of a whole connection tcp, udp, …"),
    "operation": (TEXT, "", "what was asked: `GET /items`"),
    "status": (TEXT, "", "the protocol's own; refused, timeout, reset; open or closed where there is none"),
    "error": (FLAG, "", "status is a failure: HTTP 400 and above, gRPC other than OK, DNS other than NOERROR and NXDOMAIN, …"),
    "whole": (FLAG, "", "a whole connection in which no request was read: total_ns is how long it lasted"),
    "start": (TIME, "", "first byte of the request at the client's door, on the reference clock"),
    "total_ns": (
        NUMBER,
        "ns",
        "first byte of the request to last byte of the response, at the client's door; null where either was not captured",
    ),
    "network_ns": (NUMBER, "ns", "total_ns - server_ns: both ways together, so clocks that differ cancel out"),
    "server_ns": (NUMBER, "ns", "first byte of the request to last byte of the response, at the server's door"),
    "self_ns": (NUMBER, "ns", "server_ns without the time in which children were under way"),
    "uncertainty_ns": (NUMBER, "ns", "how far off each of these may be"),
    "connect_ns": (NUMBER, "ns", "opening its connection, before start; null where it was open already"),
    "dns_ns": (NUMBER, "ns", "looking up its server's name, before start"),
    "tls_ns": (NUMBER, "ns", "TLS handshake"),
    "retransmission_ns": (NUMBER, "ns", "waits for segments that were sent again; null where none were"),
    "nat_first_ns": (NUMBER, "ns", "through NAT of the connection's first packet, which walks the rules; all nodes together"),
    "nat_established_ns": (NUMBER, "ns", "through NAT of the request's first byte; all nodes together"),
    **{f"tree_{share}_ns": (NUMBER, "ns", f"of a root: how much of total_ns went to {share}, in all its tree") for share in SHARES},
    "tries": (NUMBER, "", "how often it was sent (DNS)"),
    "retransmissions": (NUMBER, "", "TCP segments sent again"),
    "request_bytes": (NUMBER, "bytes", "in its stream"),
    "response_bytes": (NUMBER, "bytes", "in its stream"),
    "host": (TEXT, "", "HTTP Host or :authority, TLS SNI"),
    **_ENDS,
    **_SERVICE,
    "true_client": (TEXT, "", "address for which a proxy in the cluster says that it asks"),
    "ingress_kind": (TEXT, "", "Ingress, HTTPRoute: of the rule that matched"),
    "ingress_namespace": (TEXT, "", ""),
    "ingress_name": (TEXT, "", ""),
    "ingress_service": (TEXT, "", "where the rule sends it: namespace/name:port"),
    "ingress_agrees": (FLAG, "", "packets went there"),
    "parent_confidence": (REAL, "", "0 to 1; of the likeliest candidate where parent is null"),
    "parent_evidence": (TEXT, "", "why it is the parent, comma separated"),
    "unread": (TEXT, "", "why the requests inside could not be read: encrypted, truncated, lost, unknown protocol"),
}
_SIGHTING: Columns = {
    "path": (TEXT, "", "request or reply"),
    "position": (NUMBER, "", "in path order, from 0"),
    "node": (TEXT, "", ""),
    "interface": (TEXT, "", ""),
    "direction": (TEXT, "", "in, out, unknown"),
    "kind": (TEXT, "", "what lies between the hop before and this one: see above; null for the first of a path"),
}
_TUPLE: Columns = {
    "src": (TEXT, "", "address:port as seen here"),
    "dst": (TEXT, "", ""),
    "port_kind": (TEXT, "", "nodePort, port or containerPort"),
    "tunnel": (TEXT, "", "vxlan, geneve, ipip, gre; null where plain"),
}
_FRAME: Columns = {
    "file": (TEXT, "", "capture"),
    "frame": (NUMBER, "", "record number in it, as Wireshark counts"),
}
HOPS: Columns = {
    "request": (TEXT, "", "whose first byte (path reply: the response's) was seen here"),
    "connection": (TEXT, "", ""),
    **_SIGHTING,
    **_TUPLE,
    "time": (TIME, "", "on the reference clock"),
    "offset_ns": (NUMBER, "ns", "since the path's first hop"),
    "latency_ns": (NUMBER, "ns", "since the hop before; null where nothing ties the two clocks together"),
    "uncertainty_ns": (NUMBER, "ns", "how far off latency_ns may be"),
    "separable": (FLAG, "", "latency_ns is larger than its uncertainty; never ranked where it is not"),
    **_FRAME,
}
PARTS: Columns = {
    "request": (TEXT, "", ""),
    "connection": (TEXT, "", ""),
    "kind": (TEXT, "", "dns, connect, tls, request-network, server, response-network, nat, retransmission"),
    "node": (TEXT, "", "where it begins"),
    "mode": (TEXT, "", "of kind nat: kube-proxy's, where the node's rules were dumped and have this translation"),
    "first_packet": (FLAG, "", "of kind nat: of the connection's first packet, which walks the rules"),
    "start": (TIME, "", "on the reference clock"),
    "duration_ns": (NUMBER, "ns", ""),
    "uncertainty_ns": (NUMBER, "ns", "how far off duration_ns may be; null where nothing ties the clocks together"),
    "separable": (FLAG, "", "duration_ns is larger than its uncertainty"),
}
CONNECTIONS: Columns = {
    "id": (TEXT, "", "as `hopline trace` prints it: `c12`"),
    "protocol": (TEXT, "", "tcp, udp, sctp, icmp, icmpv6"),
    "status": (TEXT, "", "open, closed, refused, timeout, reset"),
    "start": (TIME, "", "first packet, on the clock of the node that saw it first"),
    "duration_ns": (NUMBER, "ns", "first to last packet on that node"),
    **_ENDS,
    **_SERVICE,
    "node_port": (NUMBER, "", "where the client used it"),
    "port": (NUMBER, "", "the Service's"),
    "target_port": (TEXT, "", "as in the Service: number or name"),
    "container_port": (NUMBER, "", "where it arrived"),
    "original_src": (TEXT, "", "the tuple the client's socket has"),
    "original_dst": (TEXT, "", ""),
    "translated_src": (TEXT, "", "the tuple the server's socket has"),
    "translated_dst": (TEXT, "", ""),
    "packets_original": (NUMBER, "", "client to server, at the point that saw most"),
    "packets_reply": (NUMBER, "", "server to client"),
    "handshake_ns": (NUMBER, "ns", "SYN to SYN-ACK at the first observation point"),
    "retransmissions": (NUMBER, "", "TCP segments sent again"),
    "last_seen_at": (TEXT, "", "node/interface, for attempts without an answer"),
    "evidence": (TEXT, "", "why its sightings were joined, comma separated"),
    "confidence": (REAL, "", "0 to 1"),
    "problems": (TEXT, "", "what could not be told, one per line"),
}
CONNECTION_HOPS: Columns = {
    "connection": (TEXT, "", "whose first packet (path reply: first answer) was seen here"),
    **_SIGHTING,
    **_TUPLE,
    "time": (TIME, "", "on that node's clock"),
    "offset_ns": (NUMBER, "ns", "since the path's first hop, same clock only"),
    "latency_ns": (NUMBER, "ns", "since the hop before, same clock only"),
    "uncertainty_ns": (NUMBER, "ns", "of latency_ns"),
    **_FRAME,
}
TRANSLATIONS: Columns = {
    "connection": (TEXT, "", ""),
    "position": (NUMBER, "", "0 for the first NAT a packet of the client meets"),
    "node": (TEXT, "", "that translated"),
    "before": (TEXT, "", "src > dst"),
    "after": (TEXT, "", "src > dst"),
    "kinds": (TEXT, "", "dnat, snat or both, comma separated"),
    "mode": (TEXT, "", "kube-proxy's on that node, where its rules were dumped"),
    "chains": (TEXT, "", "rule chains a first packet walks, → separated"),
    "rules_walked": (NUMBER, "", "rules a first packet is compared with"),
    "evaluation_ns": (NUMBER, "ns", "that the kernel took for it, where that was recorded"),
    "evidence": (TEXT, "", "why this is a translation, comma separated"),
}
LOSSES: Columns = {
    "connection": (TEXT, "", ""),
    "path": (TEXT, "", "request or reply"),
    "seq": (NUMBER, "", "TCP sequence number that was sent again"),
    "time": (TIME, "", "first sent"),
    "sent_again_after_ns": (NUMBER, "ns", ""),
    "last_seen_at": (TEXT, "", "node/interface that saw it last"),
    "first_missed_at": (TEXT, "", "first that saw only the repetition"),
}
TABLES: dict[str, Columns] = {
    "requests": REQUESTS,
    "hops": HOPS,
    "parts": PARTS,
    "connections": CONNECTIONS,
    "connection_hops": CONNECTION_HOPS,
    "translations": TRANSLATIONS,
    "losses": LOSSES,
}
