"""The tables of requests."""

from __future__ import annotations

from probes.schema import Column, Schema

_NS = "ns since the epoch"

REQUESTS = Schema(
    "requests",
    (
        Column("connection", "i4", "", "row of the connection"),
        Column("number", "i4", "", "of its connection's requests, from 0"),
        Column("exchange", "i4", "", "place in the list of exchanges; -1 for a record of the whole connection"),
        Column("client_node", "i4", "", "row of the node of the client's door: the first observation point"),
        Column("server_node", "i4", "", "row of the node of the server's door: the last observation point"),
        Column("begin_ns", "i8", _NS, "first packet that this request alone caused: the SYN before a connection's first, else as start_ns"),
        Column("start_ns", "i8", _NS, "first byte of the request at the client's door; of a whole connection its first packet"),
        Column("sent_ns", "i8", _NS, "last byte of the request at the client's door; -1 not seen"),
        Column("answer_ns", "i8", _NS, "first byte of the response at the client's door; -1 not seen"),
        Column("end_ns", "i8", _NS, "last byte of the response at the client's door; of the request where there was none"),
        Column("arrival_ns", "i8", _NS, "first byte of the request at the server's door; -1 not seen"),
        Column("received_ns", "i8", _NS, "last byte of the request at the server's door; -1 not seen"),
        Column("reply_ns", "i8", _NS, "first byte of the response at the server's door; -1 not seen"),
        Column("done_ns", "i8", _NS, "last byte of the response at the server's door; -1 not seen"),
        Column("request_bytes", "i8", "bytes", "of the request in its stream; datagrams: of payload; -1 unknown"),
        Column("response_bytes", "i8", "bytes", "of the response; -1 unknown"),
    ),
)
"""All times are on the reference node's clock (`tracer.clocks`)."""

REQUEST_HOPS = Schema(
    "request_hops",
    (
        Column("request", "i4", "", "row of the request"),
        Column("reply", "u1", "", "0 the request's first byte, 1 the response's"),
        Column("row", "i8", "", "row of the observation"),
        Column("node", "i4", "", "row of the node"),
        Column("point", "i4", "", "row of the observation point; of one that several files show, the first"),
        Column("tuple", "i4", "", "tuple as seen here"),
        Column("time_ns", "i8", _NS, "on that node's own clock"),
        Column("aligned_ns", "i8", _NS, "on the reference clock"),
    ),
)

PASSED = Schema(
    "passed",
    (
        Column("exchange", "i4", "", "place of the exchange among all, in the order of their connections"),
        Column("hop", "i8", "", "row of HOPS: where"),
        Column("last", "u1", "", "0 the first byte of the request (of a reply's hop: of the response), 1 the last"),
        Column("row", "i8", "", "row of the observation that first carried it there; -1 for last bytes"),
        Column("time_ns", "i8", _NS, "on that node's own clock"),
    ),
)

ELSEWHERE = Schema(
    "elsewhere",
    (
        Column("exchange", "i4", "", "place of the exchange among all, in the order of their connections"),
        Column("reply", "u1", "", "0 its request, 1 its response"),
        Column("last", "u1", "", "0 the first byte of it, 1 the last"),
        Column("node", "i4", "", "row of the node of the point that saw it first"),
        Column("time_ns", "i8", _NS, "on that node's own clock"),
    ),
)

BEGINNINGS = Schema(
    "beginnings",
    (
        Column("connection", "i4", "", "row of the connection"),
        Column("what", "u1", "", "tracer.requests.passed: ClientHello, last byte of a TLS handshake by side, first byte of a login"),
        Column("node", "i4", "", "row of the node of the client's door"),
        Column("time_ns", "i8", _NS, "on that node's own clock"),
    ),
)
